"""A cluster on one address, for machines where Nodes cannot be used (no root, no network namespaces)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any, Self

import pytest

from tests.support.clusters import MB, SYSTEM_CONFIG, alive, environment


class OneHost:
    """Substitute for Nodes: all nodes share one address, and links cannot be cut."""

    def __init__(self, workers: int = 2, cpus_per_node: int = 1, env: dict[str, str] | None = None) -> None:
        self._count, self._cpus, self._env = workers, cpus_per_node, environment(env or {})
        self._nodes: list[Any] = []
        self._runs: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        head = {"include_dashboard": True, "dashboard_host": "0.0.0.0"}
        self._add(0, _system_config=SYSTEM_CONFIG, **head)
        self.address, self.host_ip = self._cluster.address, self.ip(0)
        self.job_address = f"http://{self._cluster.webui_url}"
        for _ in range(self._count):
            self.add()
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._cluster.shutdown()

    def _add(self, cpus: int, **args: Any) -> int:
        sizes = {"memory": 1024 * MB, "object_store_memory": 200 * MB}
        self._nodes.append(self._cluster.add_node(num_cpus=cpus, env_vars=self._env, **sizes, **args))
        return len(self._nodes) - 1

    def ip(self, i: int) -> str:
        return self._nodes[i].node_ip_address

    def alive(self) -> set[str]:
        return {f"{info.node_manager_address}:{info.node_manager_port}" for info in alive(self.address)}

    @property
    def workers(self) -> list[int]:
        return [i for i, node in enumerate(self._nodes) if node in self._cluster.worker_nodes]

    def wait(self, *gone: int, timeout: float = 60) -> float:
        begin = time.monotonic()
        self._cluster.wait_for_nodes(timeout)
        return time.monotonic() - begin

    def run(
        self, command: list[str], env: dict[str, str] | None = None, node: int = 0, **popen: Any
    ) -> subprocess.Popen[Any]:
        variables = self._env | {"RAY_ADDRESS": self.address} | (env or {})
        self._runs.append(subprocess.Popen(command, env=variables, start_new_session=True, **popen))
        return self._runs[-1]

    def remove(self, i: int) -> None:
        self._cluster.remove_node(self._nodes[i], allow_graceful=False)

    def add(self) -> int:
        """Start one more worker. Call it from a long-lived thread: Ray's processes die with it."""
        return self._add(self._cpus)

    def cut(self, i: int) -> None:
        pytest.skip("no link to cut: needs root and network namespaces")

    heal = cut
