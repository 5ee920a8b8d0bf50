"""Pretrained weights by name.

A file is looked for in the package, in the folders of $DANCEDIST_WEIGHTS, in the cache, and then fetched. What is
published in another form than it is used in is converted once, and only safetensors or ONNX are kept.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dancedist.errors import FileInvalid, WeightsMissing
from dancedist.weights.catalogue import ENTRIES, Source, Weights
from dancedist.weights.download import extract, fetch

# Importing torch takes 1.5 s and 150 MB, which whoever only looks for poses need not spend.
if TYPE_CHECKING:
    import torch

EMBEDDED_FOLDER = Path(__file__).parents[1] / "pose" / "models"


def entries() -> tuple[Weights, ...]:
    """Everything that has a name."""
    return ENTRIES


def find(name: str) -> Path | None:
    """The file where it is ready for use; None if it would have to be fetched or converted first.

    Raises WeightsMissing for a name that does not exist, FileInvalid for a file that is not what its name says.
    """
    entry = _entry(name)
    if entry.source is None:
        return EMBEDDED_FOLDER / entry.filename
    # What cannot be checked is taken from the cache only, where nobody else writes.
    folders = _folders() if entry.sha256 else [_cache()]
    for folder in folders:
        path = folder / entry.filename
        if path.is_file():
            _check(path, entry.sha256)
            return path
    return None


def ensure(name: str, *, download: bool = True) -> Path:
    """The file, fetched and converted where need be; once that is done, no network is needed.

    A published file that was put into one of the folders by hand is converted as if it had been fetched.
    Raises WeightsMissing where it cannot be had, telling how to bring it; FileInvalid where a checksum is wrong.
    """
    ready = find(name)
    if ready is not None:
        return ready
    entry = _entry(name)
    source = entry.source
    assert source is not None, "what is part of the package is always found"
    _cache().mkdir(parents=True, exist_ok=True)
    # Beside the cache's files, so that a finished one can be renamed into place.
    with TemporaryDirectory(prefix=".fetch-", dir=_cache()) as folder:
        scratch = Path(folder)
        published = _brought(source) or _fetched(entry, source, scratch, download)
        _check(published, source.sha256)
        # One archive may hold several entries.
        for sibling in ENTRIES:
            if sibling.source == source:
                _install(sibling, published, scratch)
    return _cache() / entry.filename


def load_backbone(name: str) -> dict[str, torch.Tensor]:
    """Float32 convolutions of "lpips-alexnet", "vgg16" or "vgg19" by torchvision's names ("features.0.weight")."""
    import safetensors.torch

    return safetensors.torch.load_file(ensure(name))


def digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, computed once a process for as long as the file stays as it is."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def _entry(name: str) -> Weights:
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise WeightsMissing("no weights of that name", expected=", ".join(e.name for e in ENTRIES), got=name)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dancedist" / "weights"


def _folders() -> list[Path]:
    named = os.environ.get("DANCEDIST_WEIGHTS", "").split(os.pathsep)
    folders = [Path(folder) for folder in named if folder]
    for folder in folders:
        if not folder.is_dir():
            raise WeightsMissing("$DANCEDIST_WEIGHTS names a folder that is not there", file=folder)
    return [*folders, _cache()]


def _check(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (got := digest(path)) != sha256:
        raise FileInvalid("is not the file that it should be", file=path, expected=f"sha256 {sha256}", got=got)


@lru_cache(maxsize=32)
def _digest(path: Path, size_bytes: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _brought(source: Source) -> Path | None:
    return next((path for folder in _folders() if (path := folder / source.filename).is_file()), None)


def _fetched(entry: Weights, source: Source, scratch: Path, download: bool) -> Path:
    try:
        if download:
            return fetch(source, scratch)
        reason = "fetching was not allowed"
    except ConnectionError as error:
        reason = str(error)
    raise WeightsMissing(
        f"{entry.name} ({entry.purpose}) is not here and was not fetched: {reason}. Run `{source.command}` where "
        f"there is a network, and put {source.filename} into {_cache()} or into a folder of $DANCEDIST_WEIGHTS"
    )


def _install(entry: Weights, published: Path, scratch: Path) -> None:
    """Take one entry out of what was published, and put it into the cache whole or not at all."""
    part = published
    if entry.member is not None:
        part = scratch / f"{entry.name}.part"
        extract(published, entry.member, part)
        _check(part, entry.member_sha256)
    if entry.layout is not None:
        from dancedist.weights.backbones import convert_backbone

        converted = scratch / entry.filename
        convert_backbone(part, entry.layout, converted)
        part = converted
    _check(part, entry.sha256)
    os.replace(part, _cache() / entry.filename)
