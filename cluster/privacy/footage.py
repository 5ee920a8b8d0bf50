"""Which videos every target of a storage was learnt from: noted, so that all of it can go together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from cluster.storage.base import Storage, StorageMissing
from dancedist.recipe import fingerprint

NOTE = "videos.json"


def note_videos(store: Storage, target: str, videos: Sequence[str]) -> None:
    """Note URIs of a target's videos, beside those that are noted already. Before anything is made of them."""
    known = noted_videos(store, target)
    if not known >= {*videos}:
        text = json.dumps({"videos": sorted(known | {*videos})}, indent=2)
        store.write(f"{target}/{NOTE}", (text + "\n").encode())


def noted_videos(store: Storage, target: str) -> set[str]:
    """URIs of all videos that this target was ever to be learnt from."""
    try:
        return {*json.loads(store.read(f"{target}/{NOTE}"))["videos"]}
    except StorageMissing:
        return set()


def poses_name(uri: str) -> str:
    """Of a video's poses: several targets may be learnt from one video."""
    return f"{PurePosixPath(uri).stem}-{fingerprint(uri)[:8]}"


def segments_mark(uri: str) -> str:
    """Name of an empty file beside the segments of a video's content, which others may have too."""
    return f"of-{fingerprint(uri)[:16]}"


def targets_in(names: Iterable[str]) -> list[str]:
    """The targets with a note, among the names of a storage's files."""
    return [target for target, slash, rest in (name.partition("/") for name in names) if slash and rest == NOTE]
