"""Storage and MLflow as a fleet leaves them, written by the production code but without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from cluster.core.error_records import ErrorRecord
from cluster.poses.extraction import Summary, write_errors, write_stats, write_summary
from cluster.poses.inputs import ListedVideo
from cluster.poses.names import poses_name
from cluster.poses.segments import ExtractionJob, detect_segment, join_segments, split_video
from cluster.storage.base import Storage
from cluster.storage.open import open_storage, split_uri
from cluster.tracking.tracker import open_tracker
from cluster.training.placement import ResourceRequest
from cluster.training.status import TargetStatus, write_fleet, write_status
from cluster.training.target import TargetJob, TrainingResult
from cluster.training.target_videos import note_videos
from dancedist.recipe.schema import RetargetRecipe
from dancedist.video.encode import write_film
from tests.unit.cluster.poses.test_segments import FakeDetector, job
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

CONSENT = {"who": "Somebody Asked", "when": "2026-01-02", "reference": "letter 7"}
KEYS = {"anna": "aaaa0123456789ab", "ben": "bbbb0123456789ab"}  # pragma: allowlist secret


def write_footage(uri: str, shade: int, scratch: Path) -> None:
    """Write a film of one shade (0 to 255); the same shade gives the same content."""
    frames = np.full((20, 32, 32, 3), shade, np.uint8)
    write_film(scratch / "film.mp4", frames, Fraction(25), crf=1, x264_preset="ultrafast")
    folder_uri, name = split_uri(uri)
    open_storage(folder_uri).upload(scratch / "film.mp4", name)


def leave_poses(storage_uri: str, uris: Sequence[str]) -> None:
    """Write what an extraction leaves: segments, records, poses, tables, and a warning and an error per video."""
    store = open_storage(f"{storage_uri}/poses/0123456789abcdef")
    work: ExtractionJob = dataclasses.replace(job(Path("x")), output=store.uri)
    done, names = [], [poses_name(uri) for uri in uris]
    for uri, name in zip(uris, names, strict=True):
        folder_uri, file = split_uri(uri)
        entry = open_storage(folder_uri).stat(file)
        assert entry is not None
        listed = ListedVideo(name, uri, entry.size_bytes, entry.etag)
        segments = split_video(work, listed)
        assert isinstance(segments, list), segments
        for segment in segments:
            if segment.missing:
                detect_segment(work, FakeDetector(), segment)
        join_segments(work, segments[0])
        done.append(work.done_name(listed))
    summary = Summary()
    write_stats(store, done, RetargetRecipe(), summary)
    summary.warnings = [{"name": name, "slug": "told", "message": "x", "frame": None} for name in names]
    failures = [ErrorRecord(name, uri, "told", f"{uri}: x") for name, uri in zip(names, uris, strict=True)]
    write_errors(store, failures)
    write_summary(store, summary, failures)


def leave_fleet(storage_uri: str, videos: Mapping[str, Sequence[str]], scratch: Path) -> None:
    """Write what train_many leaves: notes, poses, trainings, old checkpoints, versions in MLflow, fleet.json."""
    store = open_storage(storage_uri)
    for name, uris in videos.items():
        note_videos(store, name, uris)
    leave_poses(storage_uri, sorted({uri for uris in videos.values() for uri in uris}))
    tracking = open_tracker(storage_uri)
    targets = {name: list(uris) for name, uris in videos.items()}
    fleet = tracking.begin_fleet(f"{storage_uri}/fleet", "fleet", {"storage": storage_uri}, targets)
    rows = []
    for name, uris in videos.items():
        bundle, key = scratch / f"bundle-{name}", KEYS[name]
        recipe = toy_recipe()
        dancer = make_bundle(bundle, recipe, name=name)
        leave_training(store, TargetJob(name, tuple(uris), recipe, ResourceRequest(), storage_uri), key, bundle)
        run = fleet.begin_target(name, key, recipe.model_dump(mode="json"), {"videos": ", ".join(uris)})
        run.metrics([{"step": step, "loss": 1.0} for step in range(3)])
        run.artifact(bundle / "README.md", f"pictures/{name}.md")
        run.dataset("video-0", dancer.provenance.video_sha256, "p")
        run.register(bundle, key, {"body_lpips": 0.25}, {**CONSENT, "who": f"{name} Asked"})
        run.finish("FINISHED")
        rows.append(TargetStatus(name, "done", 3, version=1, bundle=f"{storage_uri}/{name}/{key}/dancer"))
        write_status(store, f"{name}/{key}", rows[-1])
    fleet.finish("FINISHED")
    assert tracking.close(60) == 0
    write_fleet(store, "fleet", rows)


def leave_training(store: Storage, work: TargetJob, key: str, bundle: Path) -> None:
    """Write the published files of a training, and a checkpoint of an earlier training."""
    training = open_storage(work.training_uri(key))
    training.write("recipe.json", work.recipe.model_dump_json().encode())
    for file in bundle.iterdir():
        training.upload(file, f"dancer/{file.name}")
    statistics = {"steps": 3, "seconds": 1.0, "world": 1, "peak_bytes": 1, "peak_gpu_bytes": 0, "losses": {}}
    TrainingResult(name=work.name, key=key, bundle=f"{training.uri}/dancer", metrics={}, **statistics).write(training)  # type: ignore[arg-type]
    open_storage(work.training_uri("0" * 16)).write("checkpoints-torch/step_000002/state.pt", work.name.encode())


def everything(uri: str) -> dict[str, bytes]:
    """Name and content of all files of a storage."""
    store = open_storage(uri)
    return {entry.name: store.read(entry.name) for entry in store.list()}


def readable(files: Mapping[str, bytes]) -> dict[str, str]:
    """Names and contents as text; Parquet tables with their rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {}
    for name, data in files.items():
        table = f"{pq.read_table(pa.BufferReader(data)).to_pylist()}" if name.endswith(".parquet") else ""
        texts[name] = name + table + data.decode("latin-1")
    return texts
