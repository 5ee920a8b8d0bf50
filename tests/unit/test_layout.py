"""The layout stays readable: small folders and files, short import contracts, unique module names."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULES, MAX_LINES, MAX_LAYERS = 14, 300, 12


def modules() -> list[Path]:
    """Every Python file that git knows, relative to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("needs git")
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_folders_have_few_modules() -> None:
    folders = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > MAX_MODULES} == {}


def test_modules_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("package", ["cluster", "serving"])
def test_module_names_are_unique_in_a_package(package: str) -> None:
    names = Counter(path.stem for path in modules() if path.parts[0] == package and path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_contracts_are_short_and_list_folders() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        layers = contract.get("layers", [])
        assert len(layers) <= MAX_LAYERS and not contract.get("ignore_imports"), contract["name"]
        # Contracts do not order the modules inside a folder.
        assert all(name.strip().count(".") <= 1 for layer in layers for name in layer.split("|")), contract["name"]


def test_private_names_stay_in_their_module() -> None:
    imports = [
        f"{path}: {node.module}.{alias.name}"
        for path in modules()
        if path.parts[0] in ("dancedist", "cluster", "jobs", "serving")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "__future__"
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert imports == []
