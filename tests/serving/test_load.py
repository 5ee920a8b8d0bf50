"""Load: many concurrent clients, and a service whose processes are killed repeatedly."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from dancedist.bundle.bundle import load_bundle
from dancedist.files import file_sha256
from dancedist.pose.extract import extract
from dancedist.render.film import as_danced_by, render_frames
from dancedist.render.label import put_label
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from serving.db.engine import Database
from serving.db.records import Records
from tests.serving.conftest import ENCODING, write_dance
from tests.support.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
CLIENTS, GROWTH_BYTES = 200, 600_000_000
# JOBS:KILLS; the full soak, DANCEDIST_SOAK=100:30, takes a quarter of an hour.
JOBS, KILLS = map(int, os.environ.get("DANCEDIST_SOAK", "12:3").split(":"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files with the same dance but different checksums, so that each is rendered."""
    folder = tmp_path_factory.mktemp("films")
    write_dance(folder / "0.mp4", 0.4)
    content = (folder / "0.mp4").read_bytes()
    for i in range(1, max(JOBS, 20)):
        # Append an MP4 box that players ignore.
        (folder / f"{i}.mp4").write_bytes(content + (12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
    return [folder / f"{i}.mp4" for i in range(max(JOBS, 20))]


def test_concurrent_clients_are_accepted_or_refused_with_503(served: Served, films: list[Path]) -> None:
    before = _rss(served)
    answers = asyncio.run(_storm(served, films))
    counts = Counter(status for status, _ in answers)
    assert set(counts) == {202, 503}, counts
    accepted = [render_id for status, render_id in answers if status == 202]
    assert len({*accepted}) == len(accepted) >= served.settings.max_uploads
    done = [served.ended(render_id, 300) for render_id in accepted]
    assert Counter(render["state"] for render in done) == {"done": len(accepted)}
    assert _rss(served) - before < GROWTH_BYTES


async def _storm(served: Served, films: list[Path]) -> list[tuple[int, str]]:
    """Each client sends a film, then lists renders ten times. Returns status and render id of each client."""
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=served.client.base_url, timeout=300, limits=limits) as client:

        async def run_client(i: int) -> tuple[int, str]:
            film = films[i % len(films)].read_bytes()
            answer = await client.post("/v1/renders", data={"dancer": "ann"}, files={"source": ("d.mp4", film)})
            for _ in range(10):
                listed = await client.get("/v1/renders?limit=5")
                assert listed.status_code in (200, 503), listed.text
            if answer.status_code == 503:
                assert answer.headers["retry-after"] and answer.json()["type"].startswith("urn:dancedist:problem:")
            return answer.status_code, answer.json().get("id", "")

        return await asyncio.gather(*(run_client(i) for i in range(CLIENTS)))


def test_renders_survive_killed_processes(served: Served, films: list[Path], dancer: Path, tmp_path: Path) -> None:
    """Kill replicas and dispatchers, each after the last one was replaced: every render ends exactly once."""
    rng, waiting, ids = random.Random(0), [*films[:JOBS]], []
    for kill in range(KILLS):
        while waiting and len(ids) < JOBS * (kill + 1) / KILLS:
            ids.append(served.send(waiting.pop(), dancer="ann", label="true", again=f"soak-{len(ids)}"))
        time.sleep(rng.uniform(0.2, 2.0))
        victim = rng.choice(["replica", "dispatcher"])
        pid = served.pids(victim)[0]
        os.kill(pid, signal.SIGKILL)
        served.healthy(victim, pid)
    done = [served.ended(render_id, 900) for render_id in ids]
    assert Counter(render["state"] for render in done) == {"done": JOBS}, [r["problem"] for r in done if r["problem"]]
    frames = {render["result"]["frames"] for render in done}
    assert frames == {20}
    expected = _expected_frames(films[0], dancer, tmp_path)
    database = Database(served.settings.database)
    records = Records(database)
    for render in done:
        kinds = [kind for _, kind, _ in records.events(render["id"], 0)]
        assert kinds.count("done") == 1
        row = records.get(render["id"])
        assert row is not None and records.result_of(row.fingerprint) == row.result
        assert file_sha256(Path(row.result["uri"])) == render["result"]["sha256"]
        assert np.abs(_frames(Path(row.result["uri"])) - expected).mean() < 1
    database.close()


def _expected_frames(film: Path, bundle: Path, folder: Path) -> np.ndarray:
    """The film as one process renders it, labelled; int (T, H, W, 3)."""
    dancer = load_bundle(bundle)
    poses = as_danced_by(dancer, extract(probe(film, ENCODING), dancer.dancer.recipe.pose))
    frames = [*render_frames(dancer, poses)]
    for frame in frames:
        put_label(frame)
    write_film(folder / "expected.mp4", frames, poses.fps, crf=dancer.dancer.recipe.video.crf, x264_preset="medium")
    return _frames(folder / "expected.mp4")


def _frames(path: Path) -> np.ndarray:
    return np.stack([f for f in read_frames(probe(path, ENCODING)) if f is not None]).astype(int)


def _rss(served: Served) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in served.pids("api"))
