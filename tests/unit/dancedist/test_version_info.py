from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import dancedist.version_info as module
from dancedist import __version__
from dancedist.version_info import version_info
from dancedist.weights import entries


def test_every_part_has_its_version() -> None:
    versions = dict(version_info())
    assert versions["dancedist"].startswith(__version__)
    assert versions["torch"] == f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU'}"
    assert versions["openvino"] == version("openvino")
    assert re.fullmatch(rf"{version('av')}, FFmpeg \d+\.\d+(\.\d+)?, x264 core \d+.*", versions["av"])
    assert versions["presets"] == "quick, fast, paper"
    for entry in entries():
        if entry.source is None:
            assert entry.sha256 is not None
            assert versions[entry.name] == f"sha256 {entry.sha256[:12]}"


def test_packages_that_are_not_installed_are_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("openvino", "no-such-package"))
    assert "no-such-package" not in dict(version_info())


def test_the_commit_is_from_the_environment_or_git_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.delenv("DANCEDIST_COMMIT", raising=False)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert dict(version_info())["dancedist"] == f"{__version__}, commit {head[:12]}"
    monkeypatch.setattr(module, "ROOT", tmp_path / "elsewhere")
    assert dict(version_info())["dancedist"] == f"{__version__}, commit unknown"
    monkeypatch.setenv("DANCEDIST_COMMIT", "abc")
    assert dict(version_info())["dancedist"] == f"{__version__}, commit abc"
