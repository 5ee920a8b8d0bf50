"""The videos each target of a storage was trained on, recorded so that a person's data can be deleted completely."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from cluster.storage.base import Storage, StorageMissing

NOTE = "videos.json"


def note_videos(store: Storage, target: str, videos: Sequence[str]) -> None:
    """Add URIs to a target's recorded videos. Call it before anything is derived from them."""
    known = noted_videos(store, target)
    if not known >= {*videos}:
        text = json.dumps({"videos": sorted(known | {*videos})}, indent=2)
        store.write(f"{target}/{NOTE}", (text + "\n").encode())


def noted_videos(store: Storage, target: str) -> set[str]:
    """URIs of all videos that this target was ever trained on, or was to be."""
    try:
        return {*json.loads(store.read(f"{target}/{NOTE}"))["videos"]}
    except StorageMissing:
        return set()


def targets_in(names: Iterable[str]) -> list[str]:
    """Targets with recorded videos, from the names of a storage's files."""
    return [target for target, slash, rest in (name.partition("/") for name in names) if slash and rest == NOTE]
