"""Versions of dancedist and its parts for `dancedist --version`, without importing most of them."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import runpy
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dancedist import __version__
from dancedist.recipe.loading import PRESETS
from dancedist.weights import EMBEDDED_FOLDER, digest, entries

ROOT = Path(__file__).resolve().parents[1]
# The cluster's packages are listed if they are installed; nothing here imports them.
_PACKAGES = ("openvino", "onnxruntime", "onnxruntime-gpu", "opencv-python", "ray", "mlflow", "deepspeed")


def version_info() -> Iterator[tuple[str, str]]:
    """Name and version of each part; for the embedded networks the first 12 digits of their SHA-256."""
    yield "dancedist", f"{__version__}, commit {_commit() or 'unknown'}"
    yield "python", platform.python_version()
    yield "torch", _torch()
    yield "av", _av()
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
    for entry in entries():
        if entry.source is None:
            yield entry.name, f"sha256 {digest(EMBEDDED_FOLDER / entry.filename)[:12]}"
    yield "presets", ", ".join(PRESETS)


def _commit() -> str:
    """The commit from $DANCEDIST_COMMIT, which the image sets, or from git in a checkout; empty if neither knows it."""
    commit = os.environ.get("DANCEDIST_COMMIT", "")
    # `.git` is a file in worktrees. Without it git would describe a repository that merely contains this package.
    if commit or not (ROOT / ".git").exists():
        return commit
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _torch() -> str:
    # Importing torch takes 1.5 s.
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None, "torch is a dependency"
    build = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return f"{build['__version__']}, {'CPU' if build['cuda'] is None else 'CUDA ' + build['cuda']}"


def _av() -> str:
    import av

    # x264 writes its version only into what it encodes.
    coder = av.VideoCodecContext.create("libx264", "w")
    coder.width, coder.height, coder.pix_fmt, coder.framerate = 16, 16, "yuv420p", Fraction(25)
    coder.options = {"preset": "ultrafast"}
    packets = [*coder.encode(av.VideoFrame(16, 16, "yuv420p")), *coder.encode()]
    match = re.search(rb"x264 - core (\d+(?: r\w+)?)", b"".join(map(bytes, packets)))
    x264 = match[1].decode() if match else "unknown"
    return f"{version('av')}, FFmpeg {av.ffmpeg_version_info}, x264 core {x264}"
