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
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.autoscaler.sdk import request_resources
from ray.data import DataContext

from cluster.core.settings import Ray
from cluster.storage.base import StorageUnavailable

ROOT = Path(__file__).resolve().parents[2]
LOOK_AGAIN_S = 2.0
# What of the repository a worker on another node needs.
_NOT_NEEDED = [".git", ".venv", "runs", "tests", "docs", "benchmarks", "k8s"]


@contextmanager
def connected() -> Iterator[None]:
    """The cluster of this job (`ray job submit`) or of $RAY_ADDRESS; without either, one on this machine alone."""
    ray.init(runtime_env=_code(), log_to_driver=False, logging_level=logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A block that is lost is read again, video by video.
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _code() -> dict[str, object]:
    """Where workers find this package: a submitted job brings it, a cluster is sent it, this machine has it."""
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:
        return {}
    if Ray().address != "local":
        return {"working_dir": str(ROOT), "excludes": _NOT_NEEDED}
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}}


def lasting(uri: str) -> str:
    """A place for results that is still there after the job, as an absolute URI. Raises StorageUnavailable."""
    if uri.startswith("s3://"):
        return uri
    if "://" not in uri and not os.path.isabs(uri) and RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:
        raise StorageUnavailable(
            "a relative path would lie in Ray's temporary copy of the repository",
            file=uri,
            expected="s3://bucket/prefix or an absolute path that all nodes share",
        )
    return uri if "://" in uri else str(Path(uri).absolute())


def room_for(cpus: float, gpus: float) -> int:
    """How many workers with such needs the cluster's nodes hold now, or held a moment ago."""
    now = int(time.monotonic() / LOOK_AGAIN_S)
    needs = {kind: need for kind, need in (("CPU", cpus), ("GPU", gpus)) if need > 0}
    return sum(min(int(node.get(kind, 0.0) / need + 1e-6) for kind, need in needs.items()) for node in _nodes(now))


def alive_nodes() -> int:
    """How many nodes the cluster has."""
    return sum(node["Alive"] for node in ray.nodes())


@lru_cache(maxsize=1)
def _nodes(_now: int) -> list[dict[str, float]]:
    """What every living node has. Asked of the cluster once a moment, as callers ask all the time."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def asked_for(workers: int, cpus: float, gpus: float) -> Iterator[None]:
    """Let an autoscaler, where there is one, bring nodes for so many workers while the block runs."""
    request_resources(bundles=[{"CPU": cpus, **({"GPU": gpus} if gpus else {})}] * workers)
    try:
        yield
    finally:
        if ray.is_initialized():
            request_resources(bundles=[])
