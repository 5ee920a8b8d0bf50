"""jobs/extract_poses.py as users start it, on a cluster of three hosts: its output, its tables, a second pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import ray

from cluster.storage.open import open_storage
from dancedist.pose.extract import extract_to
from dancedist.pose.sequence import read_poses
from dancedist.recipe.loading import load_recipe
from dancedist.video.probe import probe
from tests.support.extraction_job import LENGTHS, LIMIT_S, ROOT, SEGMENTS, RunningJob, digests, summary
from tests.support.nodes import Nodes, OneHost

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("s3_keys")]


def test_one_worker_writes_what_one_machine_writes(reference: Path, films: Path, tmp_path: Path) -> None:
    recipe = load_recipe("paper", films / "recipe.toml")
    for name in LENGTHS:
        extract_to(probe(films / f"{name}.mp4", recipe.video), tmp_path / "poses.parquet", recipe.pose)
        assert (tmp_path / "poses.parquet").read_bytes() == (reference / f"poses/{name}.parquet").read_bytes()
    written = summary(open_storage(str(reference)))
    assert (written["videos"], written["done"], written["failed"]) == (3, 3, 0)
    assert (written["frames"], written["segments_computed"]) == (sum(LENGTHS.values()), SEGMENTS)


def test_the_number_of_workers_changes_no_byte(
    nodes: Nodes | OneHost, films: Path, reference: Path, tmp_path: Path
) -> None:
    code, log = RunningJob(nodes, films, tmp_path / "out", films, "--workers", "7").wait()
    assert code == 0, log
    assert digests(open_storage(str(tmp_path / "out"))) == digests(open_storage(str(reference)))


def test_a_submitted_job_refuses_a_relative_output(nodes: Nodes | OneHost, films: Path) -> None:
    # As in a user's shell: only the address of the job server is known.
    command = ["ray", "job", "submit", "--address", nodes.job_address, "--working-dir", ".", "--"]
    command += ["python", "jobs/extract_poses.py", str(films), "--output", "runs/poses"]
    process = nodes.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, log
    assert "s3://bucket/prefix or an absolute path" in log


@pytest.mark.usefixtures("ray_here")
def test_other_libraries_read_the_tables(reference: Path) -> None:
    one = read_poses(reference / "poses/long.parquet")
    frame = pd.read_parquet(reference / "poses/long.parquet")
    np.testing.assert_array_equal(np.stack(frame["xy"]).reshape(one.xy.shape), one.xy)
    rows = duckdb.sql(f"select count(*), sum(present::int), max(frame) from '{reference}/poses/*.parquet'").fetchall()
    assert rows == [(sum(LENGTHS.values()), sum(LENGTHS.values()), 95)]
    xs = duckdb.sql(f"select xy[1] from '{reference}/poses/long.parquet' order by frame").fetchall()
    np.testing.assert_array_equal(np.array(xs, np.float32)[:, 0], one.xy[:, 0, 0])
    table = ray.data.read_parquet(f"{reference}/poses").to_pandas()
    assert len(table) == sum(LENGTHS.values())
    stats = pd.read_parquet(reference / "stats.parquet")
    assert list(stats["name"]) == sorted(LENGTHS)
    assert (stats["close_y"] >= stats["far_y"]).all()
    assert duckdb.sql(f"select count(*) from '{reference}/errors.parquet'").fetchall() == [(0,)]


def test_a_second_pass_normalises_the_poses(nodes: Nodes | OneHost, films: Path, reference: Path) -> None:
    code, log = RunningJob(nodes, films, reference, films, "--retarget-to", f"{reference}/stats.parquet#short").wait()
    assert code == 0, log
    source, moved = (read_poses(reference / f"{folder}/long.parquet") for folder in ("poses", "retargeted/short"))
    assert len(moved) == len(source)
    assert moved.fingerprint != source.fingerprint
    own = read_poses(reference / "retargeted/short/short.parquet")
    # Retargeting to its own statistics leaves a dance unchanged.
    np.testing.assert_allclose(own.xy, read_poses(reference / "poses/short.parquet").xy, atol=2)
    before = (reference / "retargeted/short/long.parquet").stat().st_mtime_ns
    code, log = RunningJob(nodes, films, reference, films, "--retarget-to", f"{reference}/stats.parquet#short").wait()
    assert code == 0, log
    assert (reference / "retargeted/short/long.parquet").stat().st_mtime_ns == before
    code, log = RunningJob(nodes, films, reference, films, "--retarget-to", f"{reference}/stats.parquet").wait()
    assert code == 1
    assert "stats.parquet#NAME with one of: long, middle, short" in log
