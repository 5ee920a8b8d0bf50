"""Every configuration file of the repository can be parsed."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


def _files(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split()


@pytest.mark.parametrize("file", _files("*.toml"))
def test_toml_is_valid(file: str) -> None:
    tomllib.loads((ROOT / file).read_text())


@pytest.mark.parametrize("file", _files("*.yaml", "*.yml"))
def test_yaml_is_valid_and_has_no_duplicate_keys(file: str) -> None:
    documents = list(yaml.load_all((ROOT / file).read_text(), Loader=_UniqueKeyLoader))
    assert all(documents)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that rejects duplicate keys; PyYAML silently uses the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a duplicate key among {keys}"
        return super().construct_mapping(node, deep)
