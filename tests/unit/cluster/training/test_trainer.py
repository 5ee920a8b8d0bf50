"""Trainings by Ray Train: two workers, interrupted trainings, errors of the user."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from cluster.storage.open import open_storage
from cluster.training.target import ProgressEvent, TargetJob, TrainingFailure, TrainingResult, find_result
from cluster.training.trainer import fit_target
from dancedist.bundle.bundle import load_bundle
from tests.support.own_ray import own_ray
from tests.support.s3 import S3Server
from tests.unit.cluster.training.fits import ROOT, EventRecorder, dance, job, small

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LIMIT_S = 240


@pytest.fixture(scope="module")
def two_cpus(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray with CPUs for two workers; returns the cache folder of its node."""
    cache = tmp_path_factory.mktemp("node")
    env = {"PYTHONPATH": str(ROOT), "DANCEDIST_CACHE": str(cache), **s3_server.environment}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        with own_ray(2, env):
            yield cache


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dance(tmp_path_factory.mktemp("film"))


class RunningFit:
    """A running training and its recorded events."""

    def __init__(self, target_job: TargetJob) -> None:
        self.recorder = EventRecorder.remote()  # type: ignore[attr-defined]
        self._result = ray.remote(num_cpus=0, max_retries=0)(fit_target).remote(target_job, self.recorder)

    def until(self, matches: Callable[[ProgressEvent], bool]) -> ProgressEvent:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if events := [event for event in self.recorded()[1] if matches(event)]:
                return events[0]
            time.sleep(0.1)
        raise AssertionError("no such event in time")

    def recorded(self) -> tuple[list[dict[str, float]], list[ProgressEvent]]:
        return ray.get(self.recorder.recorded.remote())  # type: ignore[no-any-return]

    def cancel(self) -> None:
        ray.cancel(self._result)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(self._result, timeout=30)

    def wait(self) -> TrainingResult | TrainingFailure:
        return ray.get(self._result, timeout=LIMIT_S)  # type: ignore[no-any-return]


Output = tuple[TrainingResult, list[dict[str, float]], dict[str, str]]


def output_of(trained: TrainingResult | TrainingFailure) -> Output:
    """Result of a training, its log, and the SHA-256 of its weights."""
    assert isinstance(trained, TrainingResult), trained
    place = open_storage(trained.bundle.removesuffix("/dancer"))
    rows = [json.loads(line) for line in place.read("log.jsonl").splitlines()]
    names = [e.name for e in place.list("dancer/") if e.name.endswith(".safetensors")]
    return trained, rows, {name: hashlib.sha256(place.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def single_worker(two_cpus: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """Output of one uninterrupted worker."""
    return output_of(RunningFit(job(film, tmp_path_factory.mktemp("alone"), small())).wait())


def test_two_workers_train_like_one(single_worker: Output, film: Path, two_cpus: Path, tmp_path: Path) -> None:
    """test_deepspeed_engine.py tests this for every ZeRO stage."""
    (alone, rows, _), (two, two_rows, _) = single_worker, output_of(RunningFit(job(film, tmp_path, small(), 2)).wait())
    assert (alone.world, two.world, alone.steps, two.steps) == (1, 2, 20, 20)
    assert [row["step"] for row in rows] == [row["step"] for row in two_rows] == list(range(20))
    for step, (a, b) in enumerate(zip(rows, two_rows, strict=True)):
        # Float sums in another order; the GAN amplifies the difference with every step.
        assert a == pytest.approx(b, rel=1e-6 if step == 0 else 1e-3 if step < 10 else 1e-2), step


def test_a_finished_training_leaves_a_bundle_and_is_found(film: Path, two_cpus: Path, tmp_path: Path) -> None:
    target_job = job(film, tmp_path, small(max_steps=4))
    fit = RunningFit(target_job)
    trained, rows, weights = output_of(fit.wait())
    assert load_bundle(Path(trained.bundle)).dancer.provenance.steps == trained.steps == 4
    assert weights.keys() == {"dancer/generator.safetensors"}
    recorded_rows, events = fit.recorded()
    assert recorded_rows == rows and {**rows[-1], "step": 3} == {"step": 3, **trained.losses}
    assert {name for event in events for name in event.pictures} >= {"losses.png", "sample_000004.png"}
    assert trained.peak_bytes > 1e8
    # Checkpoints and the working folder are removed.
    assert not [e.name for e in open_storage(str(tmp_path)).list() if "checkpoints" in e.name]
    assert not [*(two_cpus / "targets").iterdir()]
    started = time.monotonic()
    assert find_result(target_job) == RunningFit(target_job).wait() == trained
    assert time.monotonic() - started < 20
    assert find_result(job(film, tmp_path, small(max_steps=5))) is None


def train_with_kill(target_job: TargetJob, step: int) -> tuple[Output, list[dict[str, float]]]:
    """Train; kill the second of two workers once an event reports `step`. Returns the output and the recorded rows."""
    fit = RunningFit(target_job)
    now = fit.until(lambda event: event.step >= step)
    os.kill(now.ranks[1][1], signal.SIGKILL)
    end = output_of(fit.wait())
    recorded_rows, events = fit.recorded()
    assert {pid for event in events for _, pid in event.ranks} > {pid for _, pid in now.ranks}, "no worker was replaced"
    return end, recorded_rows


def test_a_cancelled_training_resumes(single_worker: Output, film: Path, tmp_path: Path, two_cpus: Path) -> None:
    target_job = job(film, tmp_path, small())
    fit = RunningFit(target_job)
    (_, pid), *_ = fit.until(lambda event: event.step >= 4).ranks
    fit.cancel()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "its worker still runs"
        time.sleep(0.1)
    again = RunningFit(target_job)
    assert output_of(again.wait())[1:] == single_worker[1:]
    assert again.recorded()[1][0].step >= 3


def test_all_stages_resume_from_a_bucket(film: Path, two_cpus: Path, s3_server: S3Server, tmp_path: Path) -> None:
    bucket = open_storage(s3_server.uri("trainings"))
    for file in (film, film.with_suffix(".parquet")):
        bucket.upload(file, file.name)
    recipe = small("local", "face", zero_stage=2, max_steps=6)
    (resumed, rows, weights), recorded_rows = train_with_kill(
        job(f"{bucket.uri}/film.mp4", f"{bucket.uri}/fleet", recipe, 2), 8
    )
    assert resumed.world == 2 and rows == recorded_rows
    assert weights.keys() == {"dancer/face.safetensors", "dancer/generator.safetensors"}
    assert [row["step"] for row in rows] == list(range(16))
    assert resumed.bundle.startswith("s3://")
    uninterrupted = output_of(RunningFit(job(film, tmp_path, recipe, 2)).wait())
    assert (rows, weights) == uninterrupted[1:]


def broken_film(folder: Path, film: Path) -> TargetJob:
    (folder / "film.mp4").write_text("no film")
    (folder / "film.parquet").write_bytes(film.with_suffix(".parquet").read_bytes())
    return job(folder / "film.mp4", folder / "out", small(max_steps=4), 2)


USER_ERRORS: dict[str, tuple[Callable[[Path, Path], TargetJob], str, str]] = {
    "no film": (broken_film, "video-unreadable", "film.mp4"),
    "diverged": (
        lambda folder, film: job(film, folder, small(max_steps=4, learning_rate=1e30), 2),
        "training-diverged",
        "not finite",
    ),
    "missing": (lambda folder, film: job(folder / "gone.mp4", folder, small()), "storage-missing", "gone.mp4"),
    "indivisible batch": (
        lambda folder, film: job(film, folder, small(batch_pairs=3), 2),
        "recipe-invalid",
        "batch_pairs",
    ),
}


@pytest.mark.parametrize("what", USER_ERRORS)
def test_a_users_error_fails_without_retries(film: Path, two_cpus: Path, tmp_path: Path, what: str) -> None:
    make, slug, words = USER_ERRORS[what]
    started = time.monotonic()
    failed = RunningFit(make(tmp_path, film)).wait()
    assert isinstance(failed, TrainingFailure), failed
    assert (failed.error.slug, failed.error.name, failed.cause) == (slug, "rosa", "failed")
    assert words in failed.error.message and "Traceback" not in failed.error.message
    # Ray Train did not retry it.
    assert time.monotonic() - started < 100
