from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from cluster.storage.open import open_storage
from cluster.training.reporting import RayCheckpoints, Reporter, StepCounter, last_losses, redraw_samples
from cluster.training.target import ProgressEvent, TrainingFailure
from cluster.training.trainer import _failed, fit_target
from cluster.training.worker import RankFailed, _own_failure, fetch_named
from dancedist.errors import TrainingDiverged
from dancedist.training.loop import LOG, Trainer
from tests.support.s3 import S3Server
from tests.unit.cluster.training.fits import job, small
from tests.unit.conftest import SIZE, Counted, toy, toy_recipe

ASKED = job("/films/film.mp4", "/fleet", small())


@pytest.mark.parametrize(
    ("error", "slug", "cause"),
    [
        (TrainingDiverged("the losses are not finite", got="nan"), "training-diverged", "failed"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory", "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), "out-of-memory", "out of memory"),
        (MemoryError(), "out-of-memory", "out of memory"),
        (AssertionError("a bug"), "unexpected", "failed"),
    ],
)
def test_a_failure_that_would_repeat_is_classified(error: Exception, slug: str, cause: str) -> None:
    failed = _own_failure(error, ASKED)
    assert failed is not None
    assert (failed.error.slug, failed.cause, failed.error.uri) == (slug, cause, "/films/film.mp4")
    assert str(error).splitlines()[:1] == [] or str(error).splitlines()[0] in failed.error.message
    # As Ray Train wraps it: its controller receives it from a worker.
    wrapped = ControllerError(pickle.loads(pickle.dumps(RankFailed(failed))))
    assert _failed(pickle.loads(pickle.dumps(wrapped)), ASKED, lost=False) == failed


def test_errors_caused_by_a_lost_worker_are_left_to_ray_train() -> None:
    for error in (RuntimeError("Connection closed by peer"), ConnectionResetError(), ActorDiedError()):
        assert _own_failure(error, ASKED) is None


@pytest.mark.parametrize(("lost", "cause"), [(True, "node lost"), (False, "failed")])
def test_too_many_lost_workers_are_reported_in_one_line(lost: bool, cause: str) -> None:
    error = WorkerGroupError("two lines\nof it", {0: RuntimeError("Traceback\n peer is gone"), 1: ActorDiedError()})
    failed = _failed(error, ASKED, lost=lost)
    assert (failed.error.slug, failed.cause) == ("worker-lost", cause)
    assert "peer is gone" in failed.error.message and "Traceback" not in failed.error.message


@pytest.mark.parametrize(
    ("batch_pairs", "workers", "elastic", "fits"),
    [(4, 2, False, True), (4, 3, False, False), (6, 3, True, True), (8, 4, False, True), (8, 4, True, False)],
)
def test_a_batch_that_cannot_be_split_fails_before_anything_starts(
    tmp_path: Path, batch_pairs: int, workers: int, elastic: bool, fits: bool
) -> None:
    recipe = small(batch_pairs=batch_pairs, zero_stage=0, elastic=elastic)
    failed = fit_target(job(tmp_path / "gone.mp4", tmp_path, recipe, workers))
    assert isinstance(failed, TrainingFailure)
    # If the batch fits, the next error is the missing film.
    assert failed.error.slug == ("storage-missing" if fits else "recipe-invalid")


def test_an_unreadable_film_without_poses_fails_before_ray_starts(tmp_path: Path) -> None:
    film = tmp_path / "broken.mp4"
    film.write_text("no film at all")
    failed = fit_target(replace(job(film, tmp_path, small()), poses=()))
    assert isinstance(failed, TrainingFailure)
    assert (failed.error.slug, failed.cause, ray.is_initialized()) == ("video-unreadable", "failed", False)


def test_events_are_sent_once_and_a_resumed_log_from_its_start(tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    queue = SimpleNamespace(receive=SimpleNamespace(remote=events.append))
    recipe = toy_recipe(max_steps=8)

    def trainer() -> Trainer:
        return Trainer(toy(recipe), recipe, tmp_path, "key", np.full((SIZE[1], SIZE[0], 3), 60, np.uint8))

    first = trainer()
    reporter = Reporter(first, "rosa", (("10.0.0.1", 7),), queue)
    first.run(lambda _: reporter.report())
    rows = [row for event in events for row in event.rows]
    assert [row["step"] for row in rows] == list(range(8))
    assert [name for event in events for name in event.pictures if name.startswith("sample")] == [
        "sample_000004.png",
        "sample_000008.png",
    ]
    assert events[-1].pictures["sample_000008.png"] == (tmp_path / "sample_000008.png").read_bytes()
    assert {**last_losses(tmp_path / LOG), "step": 7} == rows[-1]
    events.clear()
    # On another node only the checkpoint's content exists.
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    redraw_samples(again := trainer())
    assert {path.name for path in tmp_path.glob("*.png")} == {"sample_000008.png", "losses.png"}
    Reporter(again, "rosa", (), queue).report()
    assert [row for event in events for row in event.rows] == rows
    # At most one event a second; none without a queue.
    reporter.advance(1)
    reporter.advance(1)
    Reporter(first, "rosa", (), None).advance(1)
    assert len(events) <= 2


def test_steps_and_seconds_are_counted_once_by_stage(tmp_path: Path, counted: Counted) -> None:
    recipe = toy_recipe("face", max_steps=4)
    checkpoints = RayCheckpoints(tmp_path)

    def train() -> Trainer:
        trainer = Trainer(toy(recipe), recipe, tmp_path, "key", np.full((SIZE[1], SIZE[0], 3), 60, np.uint8))
        trainer.run(StepCounter(trainer, checkpoints).advance)
        return trainer

    trainer = train()
    assert counted["dancedist_training_steps", "global"] == [1] * 4
    assert counted["dancedist_training_steps", "face"] == [1] * 5
    seconds = [counted["dancedist_training_seconds", stage] for stage in ("global", "face")]
    assert sum(map(sum, seconds)) == pytest.approx(trainer.state.seconds)
    assert ("dancedist_training_checkpoint_timestamp_seconds",) not in counted
    # A finished training that resumes counts nothing, but still sets the checkpoint gauge.
    checkpoints.saved_at_s = 7.0
    counted.clear()
    train()
    assert counted == {("dancedist_training_checkpoint_timestamp_seconds",): [7.0]}


def test_films_of_the_same_name_are_stored_apart_and_stay(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (*s3_server.environment.items(), ("DANCEDIST_CACHE", str(tmp_path / "cache"))):
        monkeypatch.setenv(name, value)
    store = open_storage(s3_server.uri(f"rank/{tmp_path.name}"))
    for day in "ab":
        store.write(f"{day}/film.mp4", day.encode())
    uris = [f"{store.uri}/{day}/film.mp4" for day in "ab"]
    films = [fetch_named(uri, tmp_path / "work" / str(i), 1.0) for i, uri in enumerate(uris)]
    for evicted in (tmp_path / "cache" / "videos").glob("*.mp4"):
        evicted.unlink()
    assert [(film.name, film.read_text()) for film in films] == [("film.mp4", "a"), ("film.mp4", "b")]
    assert fetch_named(uris[0], tmp_path / "work" / "0", 1.0).read_text() == "a"
    (tmp_path / "film.mp4").write_text("on a disk")
    assert fetch_named(str(tmp_path / "film.mp4"), tmp_path / "work", 1.0) == tmp_path / "film.mp4"
