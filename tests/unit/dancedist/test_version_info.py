from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import dancedist.version_info as parts
from dancedist import __version__
from dancedist.version_info import inside
from dancedist.weights import entries


def test_every_part_is_told_as_it_is() -> None:
    told = dict(inside())
    assert told["dancedist"].startswith(__version__)
    assert told["torch"] == f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU'}"
    assert told["openvino"] == version("openvino")
    assert re.fullmatch(rf"{version('av')}, FFmpeg \d+\.\d+(\.\d+)?, x264 core \d+.*", told["av"])
    assert told["presets"] == "quick, fast, paper"
    for entry in entries():
        if entry.source is None:
            assert entry.sha256 is not None
            assert told[entry.name] == f"sha256 {entry.sha256[:12]}"


def test_what_is_not_installed_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_PACKAGES", ("openvino", "no-such-package"))
    assert "no-such-package" not in dict(inside())


def test_the_commit_is_the_images_or_gits_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.delenv("DANCEDIST_COMMIT", raising=False)
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    assert dict(inside())["dancedist"] == f"{__version__}, commit {head[:12]}"
    monkeypatch.setattr(parts, "ROOT", tmp_path / "elsewhere")
    assert dict(inside())["dancedist"] == f"{__version__}, commit unknown"
    monkeypatch.setenv("DANCEDIST_COMMIT", "abc")
    assert dict(inside())["dancedist"] == f"{__version__}, commit abc"
