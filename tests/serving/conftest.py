"""One render service for all tests of this folder, because it starts slowly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dancedist.recipe.schema import VideoRecipe
from dancedist.synthetic import SOURCE
from dancedist.synthetic.films import write_scene
from serving.settings import Settings
from tests.support.postgres import PostgresServer
from tests.support.served import Served
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle
from tests.unit.serving.conftest import CONSENT, register_dancer

QUEUE, LEASE_S = 60, 4.0
ENCODING = VideoRecipe(x264_preset="ultrafast")


def write_dance(path: Path, seconds_each: float) -> None:
    """Write a film of the synthetic source with two dances of `seconds_each`."""
    write_scene(replace(SOURCE, size=(320, 180), seconds_each=seconds_each), path, ENCODING)


@pytest.fixture(scope="package")
def dancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dancer") / "ann"
    make_bundle(folder, toy_recipe(), settling_frames=4)
    return folder


@pytest.fixture(scope="package")
def served(postgres: PostgresServer, dancer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service: ann has consent, bob has none."""
    storage = tmp_path_factory.mktemp("runs")
    for name, consent in (("ann", CONSENT), ("bob", {})):
        register_dancer(storage, dancer, name, name, consent)
    settings = Settings(
        storage=str(storage), database=postgres.url("renders"), lease_s=LEASE_S, dispatchers=2, max_queue=QUEUE,
        max_per_key=100_000,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANCEDIST_LOG", "json")
        # Export metrics every second instead of every ten.
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with Served(settings) as service:
            yield service
