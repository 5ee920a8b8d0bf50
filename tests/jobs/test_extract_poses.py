"""The extract_poses job on a cluster of three hosts, with a real S3 server, as users start it; and as things die."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray

from cluster.storage.base import Storage, open_storage
from dancedist.pose.extract import extract_to
from dancedist.pose.sequence import read_poses
from dancedist.recipe import load_recipe
from dancedist.synthetic import TARGET_TEST
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from tests.support.nodes import Nodes, OneHost, available
from tests.support.s3 import S3Server
from tests.system.test_nasty import POSES

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
RECIPE = "[pose]\nsegment_frames = 8\ndetect_every_frames = 4\n[extraction]\nworker_cpus = 0.25\n"
LENGTHS = {"long": 96, "middle": 40, "short": 20}
SEGMENTS = 12 + 5 + 3
LIMIT_S = 300


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A server that the hosts of the cluster reach."""
    server = S3Server("0.0.0.0" if available() is None else "127.0.0.1")
    yield server
    server.close()


@pytest.fixture(scope="module")
def nodes(s3: S3Server) -> Iterator[Nodes | OneHost]:
    if available() is None:
        endpoint = s3.endpoint.replace("127.0.0.1", "{host}")
        with Nodes(env=s3.environment | {"AWS_ENDPOINT_URL": endpoint}) as several:
            yield several
    else:
        with OneHost(env=s3.environment) as one:
            yield one


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dances, and a text that calls itself a film."""
    folder = tmp_path_factory.mktemp("films")
    drawn = TARGET_TEST.frames()
    frames = [next(drawn) for _ in range(48)]
    frames += frames[::-1]
    for name, length in LENGTHS.items():
        write_film(folder / f"{name}.mp4", frames[:length], Fraction(25), crf=12, speed="ultrafast")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


class Job:
    """`python jobs/extract_poses.py` on the head node; `wait` gives exit code, what it said, summary.json."""

    def __init__(self, nodes: Nodes | OneHost, films: Path, output: Path | str, *args: str | Path) -> None:
        self.output = output
        command = ["python", "jobs/extract_poses.py", *map(str, args or [films]), "--output", str(output)]
        command += ["--recipe", str(films / "recipe.toml")]
        # What fits would be eight: their starts would be all that the tests wait for.
        command += [] if "--workers" in command else ["--workers", "2"]
        self.process = nodes.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait(self) -> tuple[int, str]:
        try:
            said, _ = self.process.communicate(timeout=LIMIT_S)
        finally:
            self.process.kill()
        return self.process.returncode, said

    def until(self, store: Storage, segments: int) -> None:
        """Wait until so many segments are written."""
        deadline = time.monotonic() + LIMIT_S
        while segments_in(store) < segments:
            assert time.monotonic() < deadline, "too few segments in time"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)


def segments_in(store: Storage) -> int:
    return sum(entry.name.endswith(".safetensors") for entry in store.list("work/segments/"))


def summary(store: Storage) -> dict[str, Any]:
    return json.loads(store.read("summary.json"))


def digests(store: Storage, *, of_place: bool = True) -> dict[str, str]:
    """Content of everything that must not depend on how it came about. stats.parquet names the inputs' place."""
    names = [e.name for e in store.list() if e.name.startswith("poses/") or (of_place and e.name.endswith(".parquet"))]
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def alone(nodes: Nodes | OneHost, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one worker."""
    out = tmp_path_factory.mktemp("alone") / "out"
    code, said = Job(nodes, films, out, films, "--workers", "1").wait()
    assert code == 0, said
    return out


def test_one_worker_gives_what_one_machine_gives(alone: Path, films: Path, tmp_path: Path) -> None:
    recipe = load_recipe("paper", films / "recipe.toml")
    for name in LENGTHS:
        extract_to(probe(films / f"{name}.mp4", recipe.video), tmp_path / "poses.parquet", recipe.pose)
        assert (tmp_path / "poses.parquet").read_bytes() == (alone / f"poses/{name}.parquet").read_bytes()
    made = summary(open_storage(str(alone)))
    assert (made["videos"], made["done"], made["failed"]) == (3, 3, 0)
    assert (made["frames"], made["segments_computed"]) == (sum(LENGTHS.values()), SEGMENTS)


def test_workers_change_no_byte(nodes: Nodes | OneHost, films: Path, alone: Path, tmp_path: Path) -> None:
    code, said = Job(nodes, films, tmp_path / "out", films, "--workers", "7").wait()
    assert code == 0, said
    assert digests(open_storage(str(tmp_path / "out"))) == digests(open_storage(str(alone)))


def test_a_killed_driver_loses_little(nodes: Nodes | OneHost, films: Path, alone: Path, tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "out"))
    job = Job(nodes, films, tmp_path / "out")
    job.until(store, SEGMENTS // 2)
    job.process.send_signal(signal.SIGKILL)
    job.process.wait()
    code, said = Job(nodes, films, tmp_path / "out").wait()
    assert code == 0, said
    assert digests(store) == digests(open_storage(str(alone)))
    made = summary(store)
    assert made["segments_computed"] < 0.6 * SEGMENTS
    again, said = Job(nodes, films, tmp_path / "out").wait()
    assert again == 0, said
    assert (summary(store)["found_done"], summary(store)["segments_computed"]) == (3, 0)
    assert "3 found done" in said


def killed_worker(nodes: Nodes | OneHost) -> int:
    """Kill one process that finds people; its pid."""
    for proc in Path("/proc").iterdir():
        try:
            if proc.name.isdigit() and b"_PeopleWorker.do" in (proc / "cmdline").read_bytes():
                os.kill(int(proc.name), signal.SIGKILL)
                return int(proc.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def test_a_worker_may_die_and_a_node_go(nodes: Nodes | OneHost, films: Path, alone: Path, tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "out"))
    job = Job(nodes, films, tmp_path / "out", films, "--workers", "4")
    job.until(store, 3)
    for _ in range(200):
        if killed_worker(nodes):
            break
        time.sleep(0.02)
    else:
        pytest.fail("no worker was seen at work")
    job.until(store, 6)
    nodes.remove(nodes.workers[-1])
    try:
        code, said = job.wait()
    finally:
        nodes.add()
    assert code == 0, said
    assert digests(store) == digests(open_storage(str(alone)))


@pytest.fixture
def in_s3(s3: S3Server, films: Path) -> Callable[[str], str]:
    """A new prefix with the films in it."""

    def fill(name: str) -> str:
        store = open_storage(s3.uri(f"films/{name}/in"))
        for film in films.glob("*.mp4"):
            store.upload(film, film.name)
        return s3.uri(f"films/{name}")

    return fill


@pytest.fixture(autouse=True)
def keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def test_s3_may_be_away_for_ten_seconds(
    nodes: Nodes | OneHost, s3: S3Server, films: Path, alone: Path, in_s3: Callable[[str], str]
) -> None:
    uri = in_s3("away")
    store = open_storage(f"{uri}/out")
    job = Job(nodes, films, f"{uri}/out", f"{uri}/in")
    job.until(store, SEGMENTS // 3)
    s3.stop()
    time.sleep(10)
    s3.start()
    code, said = job.wait()
    assert code == 0, said
    assert digests(store, of_place=False) == digests(open_storage(str(alone)), of_place=False)


def test_without_s3_the_job_ends_with_an_error(
    nodes: Nodes | OneHost, s3: S3Server, films: Path, in_s3: Callable[[str], str]
) -> None:
    uri = in_s3("gone")
    job = Job(nodes, films, f"{uri}/out", f"{uri}/in")
    job.until(open_storage(f"{uri}/out"), SEGMENTS // 3)
    s3.stop()
    try:
        started = time.monotonic()
        code, said = job.wait()
        took_s = time.monotonic() - started
    finally:
        s3.start()
    assert code == 1
    assert "[storage-unavailable]" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert took_s < 60


def test_a_bad_video_is_a_row(nodes: Nodes | OneHost, films: Path, alone: Path, tmp_path: Path) -> None:
    """And every node serves what its workers counted, as long as they last."""
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    inputs = [films / "short.mp4", films / "long.mp4", bad, tmp_path / "missing.mp4"]
    job = Job(nodes, films, tmp_path / "out", *inputs)
    served = served_until_it_ends(nodes, job)
    code, said = job.wait()
    assert code == 3, said
    rows = pq.read_table(tmp_path / "out/errors.parquet").to_pylist()
    assert [(r["name"], r["slug"]) for r in rows] == [("bad", "video-unreadable"), ("missing", "storage-missing")]
    assert rows[0]["uri"] == str(bad)
    assert (tmp_path / "out/poses/short.parquet").read_bytes() == (alone / "poses/short.parquet").read_bytes()
    assert "[video-unreadable]" in said
    for name in ("frames", "seconds"):
        assert f"ray_dancedist_poses_{name}_total" in served
    assert 'stage="decode"' in served
    assert 'slug="video-unreadable"' in served


def served_until_it_ends(nodes: Nodes | OneHost, job: Job) -> str:
    """All that the nodes' endpoints of metrics show while it runs."""
    ask = (
        "import ray, urllib.request; ray.init(log_to_driver=False)\n"
        "for n in ray.nodes():\n"
        "    if n['Alive']:\n"
        "        url = f\"http://{n['NodeManagerAddress']}:{n['MetricsExportPort']}/metrics\"\n"
        "        print(urllib.request.urlopen(url, timeout=10).read().decode())"
    )
    served = ""
    while job.process.poll() is None:
        process = nodes.run(["python", "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        served += process.communicate(timeout=60)[0]
    return served


def test_strict_ends_at_the_first(nodes: Nodes | OneHost, films: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a_bad.mp4"
    bad.write_text("no film")
    code, said = Job(nodes, films, tmp_path / "out", bad, films, "--strict").wait()
    assert code == 3, said
    made = summary(open_storage(str(tmp_path / "out")))
    assert made["stopped_early"]
    assert made["segments_computed"] < SEGMENTS


def test_a_submitted_job_refuses_a_relative_output(nodes: Nodes | OneHost, films: Path) -> None:
    # As a user's shell: the command has no Ray address but that of the job server.
    command = ["ray", "job", "submit", "--address", nodes.job_address, "--working-dir", ".", "--"]
    command += ["python", "jobs/extract_poses.py", str(films), "--output", "runs/poses"]
    process = nodes.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, said
    assert "s3://bucket/prefix or an absolute path" in said


@pytest.mark.usefixtures("ray_here")
def test_the_tables_are_read_as_they_are(alone: Path) -> None:
    one = read_poses(alone / "poses/long.parquet")
    frame = pd.read_parquet(alone / "poses/long.parquet")
    np.testing.assert_array_equal(np.stack(frame["xy"]).reshape(one.xy.shape), one.xy)
    rows = duckdb.sql(f"select count(*), sum(present::int), max(frame) from '{alone}/poses/*.parquet'").fetchall()
    assert rows == [(sum(LENGTHS.values()), sum(LENGTHS.values()), 95)]
    xs = duckdb.sql(f"select xy[1] from '{alone}/poses/long.parquet' order by frame").fetchall()
    np.testing.assert_array_equal(np.array(xs, np.float32)[:, 0], one.xy[:, 0, 0])
    table = ray.data.read_parquet(f"{alone}/poses").to_pandas()
    assert len(table) == sum(LENGTHS.values())
    stats = pd.read_parquet(alone / "stats.parquet")
    assert list(stats["name"]) == sorted(LENGTHS)
    assert (stats["close_y"] >= stats["far_y"]).all()
    assert duckdb.sql(f"select count(*) from '{alone}/errors.parquet'").fetchall() == [(0,)]


def test_a_second_pass_normalises(nodes: Nodes | OneHost, films: Path, alone: Path) -> None:
    code, said = Job(nodes, films, alone, films, "--retarget-to", f"{alone}/stats.parquet#short").wait()
    assert code == 0, said
    source, moved = (read_poses(alone / f"{folder}/long.parquet") for folder in ("poses", "retargeted/short"))
    assert len(moved) == len(source)
    assert moved.fingerprint != source.fingerprint
    own = read_poses(alone / "retargeted/short/short.parquet")
    # Onto itself, a dance stays where it was.
    np.testing.assert_allclose(own.xy, read_poses(alone / "poses/short.parquet").xy, atol=2)
    before = (alone / "retargeted/short/long.parquet").stat().st_mtime_ns
    code, said = Job(nodes, films, alone, films, "--retarget-to", f"{alone}/stats.parquet#short").wait()
    assert code == 0, said
    assert (alone / "retargeted/short/long.parquet").stat().st_mtime_ns == before
    code, said = Job(nodes, films, alone, films, "--retarget-to", f"{alone}/stats.parquet").wait()
    assert code == 1
    assert "stats.parquet#NAME with one of: long, middle, short" in said


@pytest.mark.slow
@pytest.mark.footage
def test_the_nasty_set_and_three_good_videos(
    nodes: Nodes | OneHost, films: Path, footage: Path, tmp_path: Path
) -> None:
    good = ["source_b_rooftop_8s", "target_e_edn_man_5s", "source_c_edn_13s"]
    (films / "recipe.toml").write_text("")
    try:
        inputs = [footage / "nasty", *(footage / f"{name}.mp4" for name in good)]
        code, said = Job(nodes, films, tmp_path / "out", *inputs).wait()
    finally:
        (films / "recipe.toml").write_text(RECIPE)
    assert code == 3, said
    slugs = {Path(name).stem: slug for name, (slug, _) in POSES.items() if slug}
    rows = pq.read_table(tmp_path / "out/errors.parquet").to_pylist()
    assert {r["name"]: r["slug"] for r in rows} == slugs
    assert len(rows) == len(slugs)
    made = summary(open_storage(str(tmp_path / "out")))
    told = {(w["name"], w["slug"]) for w in made["warnings"]}
    for name, (slug, warnings) in POSES.items():
        stem = Path(name).stem
        assert (tmp_path / f"out/poses/{stem}.parquet").exists() == (slug is None)
        assert {(stem, warning) for warning in warnings} <= told
        if slug is None:
            # Each warning that travels with the poses is in the summary.
            own = read_poses(tmp_path / f"out/poses/{stem}.parquet").notices
            assert {(stem, n.slug) for n in own} == {t for t in told if t[0] == stem}
    for name in good:
        assert read_poses(tmp_path / f"out/poses/{name}.parquet").present.mean() > 0.9
