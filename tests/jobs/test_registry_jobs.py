"""The jobs on the registry as users start them: a better dancer is promoted, and the champion renders a film."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.registry import find_dancer
from cluster.tracking.tracker import open_tracker
from dancedist.bundle.bundle import save_bundle
from dancedist.bundle.record import Dancer, Provenance
from dancedist.files import file_sha256
from dancedist.models.build import build_generator
from dancedist.pose.extract import extract_to
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.loading import parse_recipe
from dancedist.recipe.schema import Recipe
from dancedist.retarget.stats import RetargetStats
from dancedist.synthetic import TARGET_TEST
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from tests.support.s3 import S3Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FRAMES = 96
RECIPE = parse_recipe(
    {
        "generator": {"pixels": 9216, "filters": 4, "downsamplings": 2, "blocks": 1, "background": True},
        "losses": {"perceptual_backbone": "none"},
    }
)
Rgb = NDArray[np.uint8]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def frames() -> list[Rgb]:
    rendered = TARGET_TEST.frames()
    first_half = [next(rendered) for _ in range(FRAMES // 2)]
    return first_half + first_half[::-1]


@pytest.fixture(scope="module")
def film(frames: list[Rgb], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "ann.mp4"
    write_film(path, frames, Fraction(25), crf=12, x264_preset="ultrafast")
    return path


@pytest.fixture(scope="module")
def poses(film: Path) -> PoseSequence:
    return extract_to(probe(film, RECIPE.video), film.with_suffix(".parquet"), RECIPE.pose)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_job(job: str, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
        own = {"DANCEDIST_STORAGE": str(tmp_path), "DANCEDIST_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, ROOT / "jobs" / f"{job}.py", *arguments]
        environment = {**inherited, **own, **env}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run_job


def bundle_that_shows(picture: Rgb, folder: Path, film: Path, poses: PoseSequence, recipe: Recipe = RECIPE) -> Path:
    """A dancer whose generator's alpha is 0: every frame is the background `picture`, uint8 RGB (H, W, 3)."""
    generator = build_generator(recipe)
    weights = generator.state_dict()
    bias = [name for name, tensor in weights.items() if tensor.shape == (4,)][-1]
    weights[bias][3] = -50.0
    provenance = Provenance(
        video=film.name, video_sha256=file_sha256(film), poses_fingerprint="p", training_fingerprint="t", steps=1,
        train_frames=9, seconds=1.0, machine="test", versions={}, finished="2026-01-01",
    )  # fmt: skip
    dancer = Dancer(
        name="ann", recipe=recipe, topology=poses.topology.name, fps="25", frame_size=poses.size,
        picture_pixels=recipe.pixels, stats=RetargetStats.of(poses).to_dict(), provenance=provenance,
    )  # fmt: skip
    save_bundle(folder, dancer, {"generator": weights}, picture)
    return folder


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], int | None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def register_bundle(bundle: Path, fingerprint: str) -> int | None:
        tracking = open_tracker(str(tmp_path))
        run = tracking.begin_fleet("fleet", "fleet", {}).begin_target("ann", fingerprint, {})
        version = run.register(bundle, fingerprint, {}, {"who": "Ann"})
        assert tracking.close() == 0
        return version

    return register_bundle


def champion(storage: Path) -> int:
    return find_dancer("models:/dancer-ann@champion", tracking_uri(str(storage))).number


def test_only_a_better_candidate_is_promoted(
    run: Run,
    register: Callable[[Path, str], int | None],
    frames: list[Rgb],
    film: Path,
    poses: PoseSequence,
    tmp_path: Path,
) -> None:
    # The last 12 frames are held out; one from their middle is close to all of them.
    like = frames[90]
    noise = np.random.default_rng(0).normal(0, 25, like.shape)
    worse = np.clip(like + noise, 0, 255).astype(np.uint8)
    assert register(bundle_that_shows(worse, tmp_path / "first", film, poses), "1") == 1
    alone = run("promote_dancer", "ann", "--target", film)
    assert (alone.returncode, champion(tmp_path)) == (4, 1), alone.stderr
    assert "already the champion" in alone.stdout

    # Another [data] recipe holds out other frames; both hold out the last ones.
    altered = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update={"test_fraction": 0.2})})
    assert register(bundle_that_shows(like, tmp_path / "second", film, poses, altered), "2") == 2
    better = run("promote_dancer", "ann", "--target", film)
    assert (better.returncode, champion(tmp_path)) == (0, 2), better.stderr
    rows = [line.split()[0] for line in better.stdout.splitlines() if line.startswith(("candidate", "champion"))]
    assert rows == ["candidate", "champion"] * 2
    gain = re.search(r"body LPIPS ([\d.]+) against ([\d.]+): better by ([\d.]+)", better.stdout)
    assert gain is not None, better.stdout
    candidate_lpips, champion_lpips, difference = map(float, gain.groups())
    assert candidate_lpips < champion_lpips
    assert difference == pytest.approx(champion_lpips - candidate_lpips, abs=2e-4)
    assert "better by" in find_dancer("models:/dancer-ann/2", tracking_uri(str(tmp_path))).tags["promoted"]

    assert register(bundle_that_shows(worse, tmp_path / "third", film, poses), "3") == 3
    kept = run("promote_dancer", "ann", "--target", film)
    assert (kept.returncode, champion(tmp_path)) == (4, 2), kept.stderr
    assert "worse by" in kept.stdout

    other = tmp_path / "other.mp4"
    write_film(other, frames[:30], Fraction(25), crf=12, x264_preset="ultrafast")
    mismatched = run("promote_dancer", "ann", "--target", other)
    assert mismatched.returncode == 1
    assert "is not the video that the candidate was trained on" in mismatched.stderr
    assert run("promote_dancer", "bob", "--target", film).returncode == 1


def test_the_champion_renders(
    run: Run,
    register: Callable[[Path, str], int | None],
    frames: list[Rgb],
    film: Path,
    poses: PoseSequence,
    tmp_path: Path,
    s3_server: S3Server,
) -> None:
    assert register(bundle_that_shows(frames[0], tmp_path / "dancer", film, poses), "1") == 1
    dancer = "models:/dancer-ann@champion"
    done = run("render_video", "--dancer", dancer, "--source", film, "--out", tmp_path / "out" / "dance.mp4")
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames" in done.stdout
    with av.open(tmp_path / "out" / "dance.mp4") as container:
        assert "Synthetic media" in container.metadata["comment"]
        assert container.metadata["title"] == "ann (synthetic)"
    found = probe(tmp_path / "out" / "dance.mp4", RECIPE.video)
    assert (found.frames, (found.width, found.height)) == (FRAMES, poses.size)

    from minio import Minio

    uri = s3_server.uri("jobs/render")
    keys = {k: s3_server.environment[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    client = Minio(s3_server.endpoint.removeprefix("http://"), *keys.values(), secure=False)
    client.fput_object("jobs", "render/source.mp4", str(film))
    # A bundle folder needs no registry: that of a bucket would need a server.
    by_s3 = run(
        "render_video", "--dancer", tmp_path / "dancer", "--source", f"{uri}/source.mp4", "--out", f"{uri}/dance.mp4",
        **s3_server.environment, DANCEDIST_STORAGE=uri,
    )  # fmt: skip
    assert by_s3.returncode == 0, by_s3.stderr
    assert client.stat_object("jobs", "render/dance.mp4").size == (tmp_path / "out" / "dance.mp4").stat().st_size

    unknown = run("render_video", "--dancer", "models:/dancer-bob@champion", "--source", film, "--out", "x.mp4")
    assert unknown.returncode == 1
    assert "dancer-ann" in unknown.stderr
    assert not (tmp_path / "x.mp4").exists()


def test_dancers_of_one_video_are_compared(
    run: Run, frames: list[Rgb], film: Path, poses: PoseSequence, tmp_path: Path
) -> None:
    for name, picture in (("near", frames[90]), ("far", frames[90] // 2)):
        bundle_that_shows(picture, tmp_path / name, film, poses)
    compared = run("evaluate_dancers", "near", "far", "--target", film)
    assert compared.returncode == 0, compared.stderr
    # Two tables; the first columns of the first are the body's SSIM, PSNR and LPIPS.
    rows = [line.split() for line in compared.stdout.splitlines() if line.startswith(("near", "far"))]
    assert [row[0] for row in rows] == ["near", "far", "nearest"] * 2
    near, far = (float(row[3]) for row in rows[:2])
    assert near < far

    nothing = run("evaluate_dancers", "near")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "--ablation" in nothing.stderr
