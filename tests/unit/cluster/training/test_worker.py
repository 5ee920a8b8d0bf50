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

from cluster.storage.base import open_storage
from cluster.training.reporting import ReportedCheckpoints, Reporter, StepCounter, last_losses, redraw
from cluster.training.target import Failed, News
from cluster.training.trainer import _failed, fit_target
from cluster.training.worker import RankFailed, _own_failure, local
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
def test_what_would_happen_again_is_typed(error: Exception, slug: str, cause: str) -> None:
    failed = _own_failure(error, ASKED)
    assert failed is not None
    assert (failed.fault.slug, failed.cause, failed.fault.uri) == (slug, cause, "/films/film.mp4")
    assert str(error).splitlines()[:1] == [] or str(error).splitlines()[0] in failed.fault.message
    # As it comes through Ray Train, whose controller got it from a worker.
    wrapped = ControllerError(pickle.loads(pickle.dumps(RankFailed(failed))))
    assert _failed(pickle.loads(pickle.dumps(wrapped)), ASKED, lost=False) == failed


def test_what_a_lost_worker_does_to_others_is_left_to_ray_train() -> None:
    for error in (RuntimeError("Connection closed by peer"), ConnectionResetError(), ActorDiedError()):
        assert _own_failure(error, ASKED) is None


@pytest.mark.parametrize(("lost", "cause"), [(True, "node lost"), (False, "failed")])
def test_losses_beyond_the_limit_are_told_in_a_line(lost: bool, cause: str) -> None:
    error = WorkerGroupError("two lines\nof it", {0: RuntimeError("Traceback\n peer is gone"), 1: ActorDiedError()})
    failed = _failed(error, ASKED, lost=lost)
    assert (failed.fault.slug, failed.cause) == ("worker-lost", cause)
    assert "peer is gone" in failed.fault.message and "Traceback" not in failed.fault.message


@pytest.mark.parametrize(
    ("batch_pairs", "workers", "elastic", "fits"),
    [(4, 2, False, True), (4, 3, False, False), (6, 3, True, True), (8, 4, False, True), (8, 4, True, False)],
)
def test_a_batch_that_cannot_be_shared_out_is_told_before_anything_starts(
    tmp_path: Path, batch_pairs: int, workers: int, elastic: bool, fits: bool
) -> None:
    recipe = small(batch_pairs=batch_pairs, zero_stage=0, elastic=elastic)
    failed = fit_target(job(tmp_path / "gone.mp4", tmp_path, recipe, workers))
    assert isinstance(failed, Failed)
    # Where it fits, the film is what is missed next.
    assert failed.fault.slug == ("storage-missing" if fits else "recipe-invalid")


def test_a_film_without_poses_that_is_none_costs_no_start_of_ray_train(tmp_path: Path) -> None:
    film = tmp_path / "broken.mp4"
    film.write_text("no film at all")
    failed = fit_target(replace(job(film, tmp_path, small()), poses=()))
    assert isinstance(failed, Failed)
    assert (failed.fault.slug, failed.cause, ray.is_initialized()) == ("video-unreadable", "failed", False)


def test_news_are_told_once_and_a_taken_up_log_from_its_start(tmp_path: Path) -> None:
    told: list[News] = []
    ear = SimpleNamespace(hear=SimpleNamespace(remote=told.append))
    recipe = toy_recipe(max_steps=8)

    def trainer() -> Trainer:
        return Trainer(toy(recipe), recipe, tmp_path, "key", np.full((SIZE[1], SIZE[0], 3), 60, np.uint8))

    first = trainer()
    reporter = Reporter(first, "rosa", (("10.0.0.1", 7),), ear)
    first.run(lambda _: reporter.tell())
    rows = [row for news in told for row in news.rows]
    assert [row["step"] for row in rows] == list(range(8))
    assert [name for news in told for name in news.pictures if name.startswith("sample")] == [
        "sample_000004.png",
        "sample_000008.png",
    ]
    assert told[-1].pictures["sample_000008.png"] == (tmp_path / "sample_000008.png").read_bytes()
    assert {**last_losses(tmp_path / LOG), "step": 7} == rows[-1]
    told.clear()
    # On another node nothing is there but what its checkpoint holds.
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    redraw(again := trainer())
    assert {path.name for path in tmp_path.glob("*.png")} == {"sample_000008.png", "losses.png"}
    Reporter(again, "rosa", (), ear).tell()
    assert [row for news in told for row in news.rows] == rows
    # At most once a second, and to nobody where nobody listens.
    reporter.advance(1)
    reporter.advance(1)
    Reporter(first, "rosa", (), None).advance(1)
    assert len(told) <= 2


def test_steps_and_what_they_take_are_counted_by_stage_and_none_twice(tmp_path: Path, counted: Counted) -> None:
    recipe = toy_recipe("face", max_steps=4)
    checkpoints = ReportedCheckpoints(tmp_path)

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
    # Taken up when it is done, it has nothing to count; but that a checkpoint is there is told again and again.
    checkpoints.saved_at_s = 7.0
    counted.clear()
    train()
    assert counted == {("dancedist_training_checkpoint_timestamp_seconds",): [7.0]}


def test_films_of_one_name_are_held_apart_and_stay(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (*s3_server.environment.items(), ("DANCEDIST_CACHE", str(tmp_path / "cache"))):
        monkeypatch.setenv(name, value)
    store = open_storage(s3_server.uri(f"rank/{tmp_path.name}"))
    for day in "ab":
        store.write(f"{day}/film.mp4", day.encode())
    uris = [f"{store.uri}/{day}/film.mp4" for day in "ab"]
    films = [local(uri, tmp_path / "work" / str(i), 1.0) for i, uri in enumerate(uris)]
    for evicted in (tmp_path / "cache" / "videos").glob("*.mp4"):
        evicted.unlink()
    assert [(film.name, film.read_text()) for film in films] == [("film.mp4", "a"), ("film.mp4", "b")]
    assert local(uris[0], tmp_path / "work" / "0", 1.0).read_text() == "a"
    (tmp_path / "film.mp4").write_text("on a disk")
    assert local(str(tmp_path / "film.mp4"), tmp_path / "work", 1.0) == tmp_path / "film.mp4"
