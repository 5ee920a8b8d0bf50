"""Pretrained weights by name.

A file is searched in the package, in the folders of $DANCEDIST_WEIGHTS and in the cache, and then downloaded. Weights
that are published in another format are converted once; only safetensors and ONNX files are stored.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dancedist.errors import FileInvalid, WeightsMissing
from dancedist.files import file_sha256
from dancedist.weights.catalogue import ENTRIES, Source, Weights
from dancedist.weights.download import extract, fetch

# Importing torch takes 1.5 s and 150 MB; pose extraction does not need it.
if TYPE_CHECKING:
    import torch

EMBEDDED_FOLDER = Path(__file__).parents[1] / "pose" / "models"


def entries() -> tuple[Weights, ...]:
    """All known weights."""
    return ENTRIES


def find(name: str) -> Path | None:
    """Path of weights that are ready for use; None if they have to be downloaded or converted first.

    Raises WeightsMissing for an unknown name, FileInvalid for a file with another checksum.
    """
    entry = _entry(name)
    if entry.source is None:
        return EMBEDDED_FOLDER / entry.filename
    # Without a checksum only the cache is trusted, because only this module writes to it.
    folders = _folders() if entry.sha256 else [_cache()]
    for folder in folders:
        path = folder / entry.filename
        if path.is_file():
            _check(path, entry.sha256)
            return path
    return None


def ensure(name: str, *, download: bool = True) -> Path:
    """Path of weights, downloaded and converted if necessary; later calls need no network.

    A published file that a user put into one of the folders is converted in the same way. Raises WeightsMissing with
    instructions if the weights are not available, FileInvalid if a checksum is wrong.
    """
    path = find(name)
    if path is not None:
        return path
    entry = _entry(name)
    source = entry.source
    assert source is not None, "weights without a source are part of the package"
    _cache().mkdir(parents=True, exist_ok=True)
    # On the cache's file system, so that a finished file can be renamed into place.
    with TemporaryDirectory(prefix=".fetch-", dir=_cache()) as folder:
        scratch = Path(folder)
        published = _provided(source) or _download(entry, source, scratch, download)
        _check(published, source.sha256)
        # An archive may hold several entries.
        for sibling in ENTRIES:
            if sibling.source == source:
                _install(sibling, published, scratch)
    return _cache() / entry.filename


def load_backbone(name: str) -> dict[str, torch.Tensor]:
    """Load the convolutions of "lpips-alexnet", "vgg16" or "vgg19", by torchvision's names ("features.0.weight").

    Weights are float32 (O, I, H, W), biases float32 (O,). Raises WeightsMissing and FileInvalid.
    """
    import safetensors.torch

    return safetensors.torch.load_file(ensure(name))


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, computed once per process unless the file changes."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def _entry(name: str) -> Weights:
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise WeightsMissing("unknown name of weights", expected=", ".join(e.name for e in ENTRIES), got=name)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dancedist" / "weights"


def _folders() -> list[Path]:
    paths = os.environ.get("DANCEDIST_WEIGHTS", "").split(os.pathsep)
    folders = [Path(path) for path in paths if path]
    for folder in folders:
        if not folder.is_dir():
            raise WeightsMissing("is named in $DANCEDIST_WEIGHTS but is not a folder", file=folder)
    return [*folders, _cache()]


def _check(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (got := digest(path)) != sha256:
        raise FileInvalid("does not match its checksum", file=path, expected=f"sha256 {sha256}", got=got)


@lru_cache(maxsize=32)
def _digest(path: Path, size_bytes: int, mtime_ns: int) -> str:
    return file_sha256(path)


def _provided(source: Source) -> Path | None:
    """A published file that a user put into one of the folders."""
    return next((path for folder in _folders() if (path := folder / source.filename).is_file()), None)


def _download(entry: Weights, source: Source, scratch: Path, download: bool) -> Path:
    try:
        if download:
            return fetch(source, scratch)
        reason = "downloading is not allowed"
    except ConnectionError as error:
        reason = str(error)
    raise WeightsMissing(
        f"{entry.name} ({entry.purpose}) could not be downloaded: {reason}. Run `{source.command}` on a machine with "
        f"network access, and put {source.filename} into {_cache()} or into a folder of $DANCEDIST_WEIGHTS"
    )


def _install(entry: Weights, published: Path, scratch: Path) -> None:
    """Extract and convert one entry of a published file, and move the result into the cache atomically."""
    file = published
    if entry.member is not None:
        file = scratch / f"{entry.name}.part"
        extract(published, entry.member, file)
        _check(file, entry.member_sha256)
    if entry.layout is not None:
        from dancedist.weights.backbones import convert_backbone

        converted = scratch / entry.filename
        convert_backbone(file, entry.layout, converted)
        file = converted
    _check(file, entry.sha256)
    os.replace(file, _cache() / entry.filename)
