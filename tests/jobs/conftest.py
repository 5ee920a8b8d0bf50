"""Fixtures of the extract_poses tests: a cluster of three hosts, a real S3 server, videos, a reference output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from cluster.storage.open import open_storage
from dancedist.synthetic import TARGET_TEST
from dancedist.video.encode import write_film
from tests.support.extraction_job import LENGTHS, RECIPE, RunningJob
from tests.support.nodes import Nodes, OneHost, available, three_nodes  # noqa: F401  (for test_fit_target.py)
from tests.support.s3 import S3Server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """An S3 server that the hosts of the cluster can reach."""
    server = S3Server("0.0.0.0" if available() is None else "127.0.0.1")
    yield server
    server.close()


@pytest.fixture(scope="module")
def nodes(s3: S3Server) -> Iterator[Nodes | OneHost]:
    if available() is None:
        endpoint = s3.endpoint.replace("127.0.0.1", "{host}")
        with Nodes(env=s3.environment | {"AWS_ENDPOINT_URL": endpoint}) as three:
            yield three
    else:
        with OneHost(env=s3.environment) as one:
            yield one


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of a synthetic dancer, and the recipe."""
    folder = tmp_path_factory.mktemp("films")
    drawn = TARGET_TEST.frames()
    frames = [next(drawn) for _ in range(48)]
    frames += frames[::-1]
    for name, length in LENGTHS.items():
        write_film(folder / f"{name}.mp4", frames[:length], Fraction(25), crf=12, x264_preset="ultrafast")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def reference(nodes: Nodes | OneHost, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job with one worker."""
    out = tmp_path_factory.mktemp("reference") / "out"
    code, log = RunningJob(nodes, films, out, films, "--workers", "1").wait()
    assert code == 0, log
    return out


@pytest.fixture
def films_in_s3(s3: S3Server, films: Path) -> Callable[[str], str]:
    """Upload the videos under a new prefix; returns its URI."""

    def fill(name: str) -> str:
        store = open_storage(s3.uri(f"films/{name}/in"))
        for film in films.glob("*.mp4"):
            store.upload(film, film.name)
        return s3.uri(f"films/{name}")

    return fill


@pytest.fixture
def s3_keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
