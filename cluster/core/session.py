"""The Ray cluster that a job runs on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import ray
from ray.autoscaler.sdk import request_resources
from ray.data import DataContext

from cluster.core.settings import RaySettings

ROOT = Path(__file__).resolve().parents[2]
NODES_CACHED_S = 2.0
# Set by Ray for the processes of a submitted job.
SUBMITTED_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Parts of the repository that workers on other nodes do not need.
_EXCLUDES = [".git", ".venv", "runs", "tests", "docs", "benchmarks", "k8s"]


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster of this job (`ray job submit`) or of $RAY_ADDRESS; otherwise start one on this machine."""
    ray.init(runtime_env=_runtime_env(), log_to_driver=False, logging_level=logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Videos of a failed block are read again one by one.
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _runtime_env() -> dict[str, object]:
    """How workers find this package: in the submitted job, uploaded to a cluster, or on this machine's path."""
    if in_submitted_job():
        return {}
    if RaySettings().address != "local":
        return {"working_dir": str(ROOT), "excludes": _EXCLUDES}
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}}


def in_submitted_job() -> bool:
    """Whether this process runs under `ray job submit`, in Ray's temporary copy of the repository."""
    return SUBMITTED_JOB_VARIABLE in os.environ


def worker_capacity(cpus: float, gpus: float) -> int:
    """How many workers of this size the cluster's nodes have room for; at most NODES_CACHED_S old."""
    now = int(time.monotonic() / NODES_CACHED_S)
    needs = {kind: need for kind, need in (("CPU", cpus), ("GPU", gpus)) if need > 0}
    return sum(min(int(node.get(kind, 0.0) / need + 1e-6) for kind, need in needs.items()) for node in _nodes(now))


def alive_nodes() -> int:
    """Number of living nodes of the cluster."""
    return sum(node["Alive"] for node in ray.nodes())


@lru_cache(maxsize=1)
def _nodes(_now: int) -> list[dict[str, float]]:
    """Resources of every living node, cached for NODES_CACHED_S because callers ask often."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def autoscaling_request(workers: int, cpus: float, gpus: float) -> Iterator[None]:
    """Ask the autoscaler, if there is one, for nodes for this many workers while the block runs."""
    request_resources(bundles=[{"CPU": cpus, **({"GPU": gpus} if gpus else {})}] * workers)
    try:
        yield
    finally:
        if ray.is_initialized():
            request_resources(bundles=[])
