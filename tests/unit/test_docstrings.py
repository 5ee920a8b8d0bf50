"""Docstrings of public functions with arrays state their shape, number type, and unit or range."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Array types in annotations.
ARRAYS = re.compile(r"\b(NDArray|Tensor|Rgb|Floats|Frames|Frame|Image|Points|Flow|Grey|Reals|Pixels|Features)\b")
# Callables and mappings of tensors are not arrays themselves.
NOT_ARRAYS = re.compile(r"Callable\[.*\]|Mapping\[str, (Mapping\[str, )?Tensor\]*|dict\[str, Tensor\]|\bFrames\b(?=\()")
SHAPE = re.compile(r"\((?:\.\.\.|[A-Z]\w*|\d|[a-z]\w*|_)[^()]*,[^()]*\)|\bscalars?\b")
TYPE = re.compile(r"\b(uint8|u?int(16|32|64)?|float(16|32|64)?|bool(ean)?|bf16|whole numbers)\b")
UNIT = re.compile(
    r"\bpx\b|\[-1, 1\]|\[0, 1\]|\[0, 255\]|\bRGB\b|\bdB\b|\bseconds?\b|\bs\b|\bmetres?\b|\bm\b|\bdegrees\b|\bradians\b|"
    r"\bHz\b|\bindex(es)?\b|\bindices\b|\bframes?\b|\bscores?\b|\bweights?\b|\bfeatures?\b|\bmask\b|\blogits\b|"
    r"\bloss(es)?\b|\blabels?\b|\b[tT]rue\b|\bwhether\b|\bwhich\b|\bgreys?\b|\bcolours?\b|\bunits?\b|\bper\b|"
    r"\bangles?\b|\bparts? of\b"
)
# The implementation of a Protocol refers to the Protocol's docstring.
REFERS = re.compile(r"^See [\w.]+")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(path: Path) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
    def members(
        body: list[ast.stmt], owner: ast.ClassDef | None
    ) -> Iterator[tuple[str, Function, ast.ClassDef | None]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from members(node.body, node)
            elif isinstance(node, Function) and not node.name.startswith("_"):
                name = node.name if owner is None else f"{owner.name}.{node.name}"
                yield f"{path.relative_to(ROOT)}:{node.lineno} {name}", node, owner

    yield from members(ast.parse(path.read_text()).body, None)


def has_arrays(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [a.annotation for a in arguments if a.annotation] + ([function.returns] if function.returns else [])
    return any(ARRAYS.search(NOT_ARRAYS.sub("", ast.unparse(annotation))) for annotation in annotations)


def missing_facts(function: Function, owner: ast.ClassDef | None) -> list[str]:
    text = ast.get_docstring(function) or ""
    if REFERS.match(text):
        return []
    # The class docstring describes the arrays of its properties.
    names = [d.id if isinstance(d, ast.Name) else getattr(d, "attr", "") for d in function.decorator_list]
    if owner is not None and {"property", "cached_property"} & {*names}:
        text += ast.get_docstring(owner) or ""
    checks = {"shape": SHAPE, "type": TYPE, "unit": UNIT}
    return [name for name, pattern in checks.items() if not pattern.search(text)]


@pytest.mark.parametrize("package", ["dancedist", "cluster", "serving"])
def test_arrays_are_described(package: str) -> None:
    findings = [
        f"{where}: no {', '.join(missing)}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for where, function, owner in public_functions(path)
        if has_arrays(function) and (missing := missing_facts(function, owner))
    ]
    assert not findings, "\n" + "\n".join(findings)
