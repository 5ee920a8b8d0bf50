"""Many clients at once, and a service whose processes die all the time."""

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
from dancedist.pose.extract import extract
from dancedist.recipe import file_sha256
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
# The whole soak takes a quarter of an hour: DANCEDIST_SOAK=100:30.
JOBS, KILLS = map(int, os.environ.get("DANCEDIST_SOAK", "12:3").split(":"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one dance, and none the same file: each has a film of its own."""
    folder = tmp_path_factory.mktemp("films")
    write_dance(folder / "0.mp4", 0.4)
    whole = (folder / "0.mp4").read_bytes()
    for i in range(1, max(JOBS, 20)):
        # A box of no meaning at its end.
        (folder / f"{i}.mp4").write_bytes(whole + (12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
    return [folder / f"{i}.mp4" for i in range(max(JOBS, 20))]


def test_clients_at_once_are_served_or_sent_away(served: Served, films: list[Path]) -> None:
    before = _rss(served)
    answers = asyncio.run(_storm(served, films))
    counts = Counter(status for status, _ in answers)
    assert set(counts) == {202, 503}, counts
    accepted = [render_id for status, render_id in answers if status == 202]
    assert len({*accepted}) == len(accepted) >= served.settings.max_uploads
    told = [served.ended(render_id, 300) for render_id in accepted]
    assert Counter(t["state"] for t in told) == {"done": len(accepted)}
    assert _rss(served) - before < GROWTH_BYTES


async def _storm(served: Served, films: list[Path]) -> list[tuple[int, str]]:
    """Each client sends a film, and asks after all renders ten times meanwhile."""
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=served.client.base_url, timeout=300, limits=limits) as client:

        async def one(i: int) -> tuple[int, str]:
            film = films[i % len(films)].read_bytes()
            answer = await client.post("/v1/renders", data={"dancer": "ann"}, files={"source": ("d.mp4", film)})
            for _ in range(10):
                listed = await client.get("/v1/renders?limit=5")
                assert listed.status_code in (200, 503), listed.text
            if answer.status_code == 503:
                assert answer.headers["retry-after"] and answer.json()["type"].startswith("urn:dancedist:problem:")
            return answer.status_code, answer.json().get("id", "")

        return await asyncio.gather(*(one(i) for i in range(CLIENTS)))


def test_renders_outlive_whoever_works_on_them(served: Served, films: list[Path], dancer: Path, tmp_path: Path) -> None:
    """Replicas and the director are killed, each once the last victim's successor works: every render ends, once."""
    rng, waiting, ids = random.Random(0), [*films[:JOBS]], []
    for kill in range(KILLS):
        while waiting and len(ids) < JOBS * (kill + 1) / KILLS:
            ids.append(served.send(waiting.pop(), dancer="ann", label="true", again=f"soak-{len(ids)}"))
        time.sleep(rng.uniform(0.2, 2.0))
        victim = rng.choice(["renderer", "director"])
        pid = served.pids(victim)[0]
        os.kill(pid, signal.SIGKILL)
        served.healthy(victim, pid)
    told = [served.ended(render_id, 900) for render_id in ids]
    assert Counter(t["state"] for t in told) == {"done": JOBS}, [t["problem"] for t in told if t["problem"]]
    frames = {t["result"]["frames"] for t in told}
    assert frames == {20}
    right = _right(films[0], dancer, tmp_path)
    database = Database(served.settings.database)
    records = Records(database)
    for t in told:
        kinds = [kind for _, kind, _ in records.events(t["id"], 0)]
        assert kinds.count("done") == 1
        row = records.get(t["id"])
        assert row is not None and records.result_of(row.fingerprint) == row.result
        assert file_sha256(Path(row.result["uri"])) == t["result"]["sha256"]
        assert np.abs(_frames(Path(row.result["uri"])) - right).mean() < 1
    database.close()


def _right(film: Path, bundle: Path, folder: Path) -> np.ndarray:
    """As one machine renders it, labelled."""
    dancer = load_bundle(bundle)
    poses = as_danced_by(dancer, extract(probe(film, ENCODING), dancer.dancer.recipe.pose))
    frames = [*render_frames(dancer, poses)]
    for frame in frames:
        put_label(frame)
    write_film(folder / "right.mp4", frames, poses.fps, crf=dancer.dancer.recipe.video.crf, speed="medium")
    return _frames(folder / "right.mp4")


def _frames(path: Path) -> np.ndarray:
    return np.stack([f for f in read_frames(probe(path, ENCODING)) if f is not None]).astype(int)


def _rss(served: Served) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in served.pids("api"))
