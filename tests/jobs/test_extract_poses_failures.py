"""jobs/extract_poses.py when something fails: killed processes, lost nodes, an S3 outage, bad videos."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.storage.open import open_storage
from dancedist.pose.sequence import read_poses
from tests.support.extraction_job import RECIPE, SEGMENTS, RunningJob, digests, summary
from tests.support.nodes import Nodes, OneHost
from tests.support.s3 import S3Server
from tests.system.test_nasty import POSES

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("s3_keys")]


def test_a_killed_driver_resumes(nodes: Nodes | OneHost, films: Path, reference: Path, tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "out"))
    job = RunningJob(nodes, films, tmp_path / "out")
    job.until(store, SEGMENTS // 2)
    job.process.send_signal(signal.SIGKILL)
    job.process.wait()
    code, log = RunningJob(nodes, films, tmp_path / "out").wait()
    assert code == 0, log
    assert digests(store) == digests(open_storage(str(reference)))
    written = summary(store)
    assert written["segments_computed"] < 0.6 * SEGMENTS
    again, log = RunningJob(nodes, films, tmp_path / "out").wait()
    assert again == 0, log
    assert (summary(store)["found_done"], summary(store)["segments_computed"]) == (3, 0)
    assert "3 found done" in log


def kill_worker(nodes: Nodes | OneHost) -> int:
    """Kill one worker process that detects people; return its pid, 0 if there is none."""
    for proc in Path("/proc").iterdir():
        try:
            if proc.name.isdigit() and b"_PeopleWorker.do" in (proc / "cmdline").read_bytes():
                os.kill(int(proc.name), signal.SIGKILL)
                return int(proc.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def test_a_killed_worker_and_a_lost_node_change_nothing(
    nodes: Nodes | OneHost, films: Path, reference: Path, tmp_path: Path
) -> None:
    store = open_storage(str(tmp_path / "out"))
    job = RunningJob(nodes, films, tmp_path / "out", films, "--workers", "4")
    job.until(store, 3)
    for _ in range(200):
        if kill_worker(nodes):
            break
        time.sleep(0.02)
    else:
        pytest.fail("no worker process was found")
    job.until(store, 6)
    nodes.remove(nodes.workers[-1])
    try:
        code, log = job.wait()
    finally:
        nodes.add()
    assert code == 0, log
    assert digests(store) == digests(open_storage(str(reference)))


def test_an_s3_outage_of_ten_seconds_changes_nothing(
    nodes: Nodes | OneHost, s3: S3Server, films: Path, reference: Path, films_in_s3: Callable[[str], str]
) -> None:
    uri = films_in_s3("away")
    store = open_storage(f"{uri}/out")
    job = RunningJob(nodes, films, f"{uri}/out", f"{uri}/in")
    job.until(store, SEGMENTS // 3)
    s3.stop()
    time.sleep(10)
    s3.start()
    code, log = job.wait()
    assert code == 0, log
    assert digests(store, with_uris=False) == digests(open_storage(str(reference)), with_uris=False)


def test_a_long_s3_outage_ends_the_job_with_an_error(
    nodes: Nodes | OneHost, s3: S3Server, films: Path, films_in_s3: Callable[[str], str]
) -> None:
    uri = films_in_s3("gone")
    job = RunningJob(nodes, films, f"{uri}/out", f"{uri}/in")
    job.until(open_storage(f"{uri}/out"), SEGMENTS // 3)
    s3.stop()
    try:
        started = time.monotonic()
        code, log = job.wait()
        elapsed_s = time.monotonic() - started
    finally:
        s3.start()
    assert code == 1
    assert "[storage-unavailable]" in log.splitlines()[-1]
    assert "Traceback" not in log
    assert elapsed_s < 60


def test_a_bad_video_is_a_row_in_errors_parquet(
    nodes: Nodes | OneHost, films: Path, reference: Path, tmp_path: Path
) -> None:
    """Also checks that the nodes export the workers' metrics while they run."""
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    inputs = [films / "short.mp4", films / "long.mp4", bad, tmp_path / "missing.mp4"]
    job = RunningJob(nodes, films, tmp_path / "out", *inputs)
    metrics = metrics_until_it_ends(nodes, job)
    code, log = job.wait()
    assert code == 3, log
    rows = pq.read_table(tmp_path / "out/errors.parquet").to_pylist()
    assert [(r["name"], r["slug"]) for r in rows] == [("bad", "video-unreadable"), ("missing", "storage-missing")]
    assert rows[0]["uri"] == str(bad)
    assert (tmp_path / "out/poses/short.parquet").read_bytes() == (reference / "poses/short.parquet").read_bytes()
    assert "[video-unreadable]" in log
    for name in ("frames", "seconds"):
        assert f"ray_dancedist_poses_{name}_total" in metrics
    assert 'stage="decode"' in metrics
    assert 'slug="video-unreadable"' in metrics


def metrics_until_it_ends(nodes: Nodes | OneHost, job: RunningJob) -> str:
    """Everything that the nodes' metrics endpoints return while the job runs."""
    script = (
        "import ray, urllib.request; ray.init(log_to_driver=False)\n"
        "for n in ray.nodes():\n"
        "    if n['Alive']:\n"
        "        url = f\"http://{n['NodeManagerAddress']}:{n['MetricsExportPort']}/metrics\"\n"
        "        print(urllib.request.urlopen(url, timeout=10).read().decode())"
    )
    metrics = ""
    while job.process.poll() is None:
        process = nodes.run(["python", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        metrics += process.communicate(timeout=60)[0]
    return metrics


def test_strict_stops_at_the_first_bad_video(nodes: Nodes | OneHost, films: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a_bad.mp4"
    bad.write_text("no film")
    code, log = RunningJob(nodes, films, tmp_path / "out", bad, films, "--strict").wait()
    assert code == 3, log
    written = summary(open_storage(str(tmp_path / "out")))
    assert written["stopped_early"]
    assert written["segments_computed"] < SEGMENTS


@pytest.mark.slow
@pytest.mark.footage
def test_the_nasty_set_and_three_good_videos(
    nodes: Nodes | OneHost, films: Path, footage: Path, tmp_path: Path
) -> None:
    good = ["source_b_rooftop_8s", "target_e_edn_man_5s", "source_c_edn_13s"]
    (films / "recipe.toml").write_text("")
    try:
        inputs = [footage / "nasty", *(footage / f"{name}.mp4" for name in good)]
        code, log = RunningJob(nodes, films, tmp_path / "out", *inputs).wait()
    finally:
        (films / "recipe.toml").write_text(RECIPE)
    assert code == 3, log
    slugs = {Path(name).stem: slug for name, (slug, _) in POSES.items() if slug}
    rows = pq.read_table(tmp_path / "out/errors.parquet").to_pylist()
    assert {r["name"]: r["slug"] for r in rows} == slugs
    assert len(rows) == len(slugs)
    written = summary(open_storage(str(tmp_path / "out")))
    warned = {(w["name"], w["slug"]) for w in written["warnings"]}
    for name, (slug, warnings) in POSES.items():
        stem = Path(name).stem
        assert (tmp_path / f"out/poses/{stem}.parquet").exists() == (slug is None)
        assert {(stem, warning) for warning in warnings} <= warned
        if slug is None:
            # The summary lists every warning that is stored with the poses.
            own = read_poses(tmp_path / f"out/poses/{stem}.parquet").notices
            assert {(stem, n.slug) for n in own} == {t for t in warned if t[0] == stem}
    for name in good:
        assert read_poses(tmp_path / f"out/poses/{name}.parquet").present.mean() > 0.9
