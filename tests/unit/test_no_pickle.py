"""No stored file is unpickled: tensors are safetensors, arrays plain .npy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Their loaders can execute code from the file.
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# The exception reads two published files with pinned checksums, by an unpickler that allows three names of numpy.
ALLOWED = {"dancedist/weights/backbones.py": frozenset({"pickle"})}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(source: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Names in the source that unpickle."""
    calls = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            calls += [name for name in names if name.partition(".")[0] in PICKLERS - allowed]
        if isinstance(node, ast.Call):
            keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            name = dotted(node.func)
            calls += [name] * (name.partition(".")[0] in PICKLERS)
            calls += [name] * (name == "torch.load" and keywords.get("weights_only") is not True)
            calls += ["allow_pickle"] * (keywords.get("allow_pickle", False) is not False)
    return calls


@pytest.mark.parametrize("folder", ["dancedist", "cluster", "serving", "jobs"])
def test_nothing_loads_pickles(folder: str) -> None:
    files = {str(path.relative_to(ROOT)): path for path in (ROOT / folder).rglob("*.py")}
    assert {n: f for n, path in files.items() if (f := unsafe(path.read_text(), ALLOWED.get(n, frozenset())))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, allow_pickle=really)",
        "from pickle import loads",
        "import cloudpickle",
        "import ray.cloudpickle\nray.cloudpickle.load(f)\npickle.load(f)",
    ],
)
def test_unsafe_loading_is_detected(source: str) -> None:
    assert unsafe(source)
    assert not unsafe("import torch\ntorch.load(f, weights_only=True)\nimport numpy as np\nnp.load(f)")
