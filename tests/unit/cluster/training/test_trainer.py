"""Trainings by Ray Train: what two workers learn, what is left of one that is killed, and whose fault is told."""

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

from cluster.storage.base import open_storage
from cluster.training.target import Failed, News, TargetJob, Trained, done
from cluster.training.trainer import fit_target
from dancedist.bundle.bundle import load_bundle
from tests.support.own_ray import own_ray
from tests.support.s3 import S3Server
from tests.unit.cluster.training.fits import ROOT, Ear, dance, job, small

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LIMIT_S = 240


@pytest.fixture(scope="module")
def two_cpus(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray with room for two workers; the folder that its node's processes share."""
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


class Fit:
    """A training under way, and what is told of it."""

    def __init__(self, what: TargetJob) -> None:
        self.ear = Ear.remote()  # type: ignore[attr-defined]
        self._answer = ray.remote(num_cpus=0, max_retries=0)(fit_target).remote(what, self.ear)

    def until(self, seen: Callable[[News], bool]) -> News:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if found := [news for news in self.heard()[1] if seen(news)]:
                return found[0]
            time.sleep(0.1)
        raise AssertionError("never told")

    def heard(self) -> tuple[list[dict[str, float]], list[News]]:
        return ray.get(self.ear.heard.remote())  # type: ignore[no-any-return]

    def call_off(self) -> None:
        ray.cancel(self._answer)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(self._answer, timeout=30)

    def wait(self) -> Trained | Failed:
        return ray.get(self._answer, timeout=LIMIT_S)  # type: ignore[no-any-return]


Left = tuple[Trained, list[dict[str, float]], dict[str, str]]


def left(trained: Trained | Failed) -> Left:
    """What a training leaves: its log, and the digests of its weights."""
    assert isinstance(trained, Trained), trained
    place = open_storage(trained.bundle.removesuffix("/dancer"))
    rows = [json.loads(line) for line in place.read("log.jsonl").splitlines()]
    names = [e.name for e in place.list("dancer/") if e.name.endswith(".safetensors")]
    return trained, rows, {name: hashlib.sha256(place.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def one(two_cpus: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """What one worker leaves, unbroken."""
    return left(Fit(job(film, tmp_path_factory.mktemp("alone"), small())).wait())


def test_two_workers_learn_what_one_does(one: Left, film: Path, two_cpus: Path, tmp_path: Path) -> None:
    """That they do at every stage of ZeRO is the engine's test."""
    (alone, rows, _), (two, shared, _) = one, left(Fit(job(film, tmp_path, small(), 2)).wait())
    assert (alone.world, two.world, alone.steps, two.steps) == (1, 2, 20, 20)
    assert [row["step"] for row in rows] == [row["step"] for row in shared] == list(range(20))
    for step, (a, b) in enumerate(zip(rows, shared, strict=True)):
        # Sums of floats in another order, and a GAN that makes more of it with every step.
        assert a == pytest.approx(b, rel=1e-6 if step == 0 else 1e-3 if step < 10 else 1e-2), step


def test_a_bundle_is_left_and_what_is_done_is_found(film: Path, two_cpus: Path, tmp_path: Path) -> None:
    what = job(film, tmp_path, small(max_steps=4))
    fit = Fit(what)
    trained, rows, weights = left(fit.wait())
    assert load_bundle(Path(trained.bundle)).dancer.provenance.steps == trained.steps == 4
    assert weights.keys() == {"dancer/generator.safetensors"}
    heard, told = fit.heard()
    assert heard == rows and {**rows[-1], "step": 3} == {"step": 3, **trained.losses}
    assert {name for news in told for name in news.pictures} >= {"losses.png", "sample_000004.png"}
    assert trained.peak_bytes > 1e8
    # Neither checkpoints nor pictures outlive it.
    assert not [e.name for e in open_storage(str(tmp_path)).list() if "checkpoints" in e.name]
    assert not [*(two_cpus / "targets").iterdir()]
    begun = time.monotonic()
    assert done(what) == Fit(what).wait() == trained
    assert time.monotonic() - begun < 20
    assert done(job(film, tmp_path, small(max_steps=5))) is None


def killed(what: TargetJob, step: int) -> tuple[Left, list[dict[str, float]]]:
    """SIGKILL of the second of two workers, at this step or the next that is told; what is left, and what was heard."""
    fit = Fit(what)
    now = fit.until(lambda news: news.step >= step)
    os.kill(now.ranks[1][1], signal.SIGKILL)
    end = left(fit.wait())
    heard, told = fit.heard()
    assert {pid for news in told for _, pid in news.ranks} > {pid for _, pid in now.ranks}, "it went on as it was"
    return end, heard


def test_one_that_is_called_off_is_taken_up(one: Left, film: Path, tmp_path: Path, two_cpus: Path) -> None:
    what = job(film, tmp_path, small())
    fit = Fit(what)
    (_, pid), *_ = fit.until(lambda news: news.step >= 4).ranks
    fit.call_off()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "its worker goes on"
        time.sleep(0.1)
    again = Fit(what)
    assert left(again.wait())[1:] == one[1:]
    assert again.heard()[1][0].step >= 3


def test_all_stages_are_taken_up_from_a_bucket(film: Path, two_cpus: Path, s3_server: S3Server, tmp_path: Path) -> None:
    bucket = open_storage(s3_server.uri("trainings"))
    for file in (film, film.with_suffix(".parquet")):
        bucket.upload(file, file.name)
    recipe = small("local", "face", zero_stage=2, max_steps=6)
    (broken, rows, weights), heard = killed(job(f"{bucket.uri}/film.mp4", f"{bucket.uri}/fleet", recipe, 2), 8)
    assert broken.world == 2 and rows == heard
    assert weights.keys() == {"dancer/face.safetensors", "dancer/generator.safetensors"}
    assert [row["step"] for row in rows] == list(range(16))
    assert broken.bundle.startswith("s3://")
    unbroken = left(Fit(job(film, tmp_path, recipe, 2)).wait())
    assert (rows, weights) == unbroken[1:]


def broken_film(folder: Path, film: Path) -> TargetJob:
    (folder / "film.mp4").write_text("no film")
    (folder / "film.parquet").write_bytes(film.with_suffix(".parquet").read_bytes())
    return job(folder / "film.mp4", folder / "out", small(max_steps=4), 2)


FAULTS: dict[str, tuple[Callable[[Path, Path], TargetJob], str, str]] = {
    "no film": (broken_film, "video-unreadable", "film.mp4"),
    "diverged": (
        lambda folder, film: job(film, folder, small(max_steps=4, learning_rate=1e30), 2),
        "training-diverged",
        "not finite",
    ),
    "missing": (lambda folder, film: job(folder / "gone.mp4", folder, small()), "storage-missing", "gone.mp4"),
    "no room for halves": (
        lambda folder, film: job(film, folder, small(batch_pairs=3), 2),
        "recipe-invalid",
        "batch_pairs",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_the_users_is_told_once(film: Path, two_cpus: Path, tmp_path: Path, what: str) -> None:
    make, slug, words = FAULTS[what]
    begun = time.monotonic()
    failed = Fit(make(tmp_path, film)).wait()
    assert isinstance(failed, Failed), failed
    assert (failed.fault.slug, failed.fault.name, failed.cause) == (slug, "rosa", "failed")
    assert words in failed.fault.message and "Traceback" not in failed.fault.message
    # Ray Train did not try it again and again.
    assert time.monotonic() - begun < 100
