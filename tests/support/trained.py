"""What a fleet leaves of its targets in a storage and in MLflow, made by the code that leaves it, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from cluster.core.error_records import Fault
from cluster.poses.extraction import Summary, write_errors, write_stats, write_summary
from cluster.poses.inputs import Listed
from cluster.poses.segments import Job, join, look, read
from cluster.privacy.footage import note_videos, poses_name
from cluster.storage.base import Storage, open_storage, split_uri
from cluster.tracking.tracker import open_tracking
from cluster.training.placement import Need
from cluster.training.status import Row, write_fleet, write_row
from cluster.training.target import TargetJob, Trained
from dancedist.recipe import RetargetRecipe
from dancedist.video.encode import write_film
from tests.unit.cluster.poses.test_segments import Imagined, job
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

CONSENT = {"who": "Somebody Asked", "when": "2026-01-02", "reference": "letter 7"}
KEYS = {"anna": "aaaa0123456789ab", "ben": "bbbb0123456789ab"}  # pragma: allowlist secret


def write_footage(uri: str, shade: int, scratch: Path) -> None:
    """A film that nobody else has the content of; the same shade is the same content."""
    frames = np.full((20, 32, 32, 3), shade, np.uint8)
    write_film(scratch / "film.mp4", frames, Fraction(25), crf=1, speed="ultrafast")
    place, name = split_uri(uri)
    open_storage(place).upload(scratch / "film.mp4", name)


def leave_poses(storage_uri: str, uris: Sequence[str]) -> None:
    """As an extraction does: segments, records, poses, tables; of each video there was something to tell."""
    store = open_storage(f"{storage_uri}/poses/0123456789abcdef")
    work: Job = dataclasses.replace(job(Path("x")), output=store.uri)
    done, names = [], [poses_name(uri) for uri in uris]
    for uri, name in zip(uris, names, strict=True):
        place, file = split_uri(uri)
        entry = open_storage(place).stat(file)
        assert entry is not None
        listed = Listed(name, uri, entry.size_bytes, entry.etag)
        segments = read(work, listed)
        assert isinstance(segments, list), segments
        for segment in segments:
            if segment.missing:
                look(work, Imagined(), segment)
        join(work, segments[0])
        done.append(work.done_name(listed))
    summary = Summary()
    write_stats(store, done, RetargetRecipe(), summary)
    summary.warnings = [{"name": name, "slug": "told", "message": "x", "frame": None} for name in names]
    faults = [Fault(name, uri, "told", f"{uri}: x") for name, uri in zip(names, uris, strict=True)]
    write_errors(store, faults)
    write_summary(store, summary, faults)


def leave_fleet(storage_uri: str, videos: Mapping[str, Sequence[str]], scratch: Path) -> None:
    """As train_many does: notes, poses, trainings with what is left of a checkpoint, versions in MLflow, fleet.json."""
    store = open_storage(storage_uri)
    for name, uris in videos.items():
        note_videos(store, name, uris)
    leave_poses(storage_uri, sorted({uri for uris in videos.values() for uri in uris}))
    tracking = open_tracking(storage_uri)
    told = {name: list(uris) for name, uris in videos.items()}
    fleet = tracking.begin_fleet(f"{storage_uri}/fleet", "fleet", {"storage": storage_uri}, told)
    rows = []
    for name, uris in videos.items():
        bundle, key = scratch / f"bundle-{name}", KEYS[name]
        recipe = toy_recipe()
        dancer = make_bundle(bundle, recipe, name=name)
        leave_training(store, TargetJob(name, tuple(uris), recipe, Need(), storage_uri), key, bundle)
        run = fleet.begin_target(name, key, recipe.model_dump(mode="json"), {"videos": ", ".join(uris)})
        run.metrics([{"step": step, "loss": 1.0} for step in range(3)])
        run.picture(bundle / "README.md", f"pictures/{name}.md")
        run.dataset("video-0", dancer.provenance.video_sha256, "p")
        run.register(bundle, key, {"body_lpips": 0.25}, {**CONSENT, "who": f"{name} Asked"})
        run.finish("FINISHED")
        rows.append(Row(name, "done", 3, version=1, bundle=f"{storage_uri}/{name}/{key}/dancer"))
        write_row(store, f"{name}/{key}", rows[-1])
    fleet.finish("FINISHED")
    assert tracking.close(60) == 0
    write_fleet(store, "fleet", rows)


def leave_training(store: Storage, work: TargetJob, key: str, bundle: Path) -> None:
    """What is published of a training, and of an earlier one a checkpoint."""
    place = open_storage(work.place(key))
    place.write("recipe.json", work.recipe.model_dump_json().encode())
    for file in bundle.iterdir():
        place.upload(file, f"dancer/{file.name}")
    nothing = {"steps": 3, "seconds": 1.0, "world": 1, "peak_bytes": 1, "peak_gpu_bytes": 0, "losses": {}}
    Trained(name=work.name, key=key, bundle=f"{place.uri}/dancer", metrics={}, **nothing).write(place)  # type: ignore[arg-type]
    open_storage(work.place("0" * 16)).write("checkpoints-torch/step_000002/state.pt", work.name.encode())


def everything(uri: str) -> dict[str, bytes]:
    """All files of a storage."""
    store = open_storage(uri)
    return {entry.name: store.read(entry.name) for entry in store.list()}


def readable(files: Mapping[str, bytes]) -> dict[str, str]:
    """Names and contents as text; tables as their rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = {}
    for name, data in files.items():
        table = f"{pq.read_table(pa.BufferReader(data)).to_pylist()}" if name.endswith(".parquet") else ""
        told[name] = name + table + data.decode("latin-1")
    return told
