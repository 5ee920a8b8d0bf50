"""The render service on a Ray of the test process, whose replicas can be killed one by one."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
import ray
from ray import serve

from serving.app import build
from serving.settings import Settings
from tests.support.own_ray import own_ray

READY_WITHIN_S, ACCEPTED_WITHIN_S = 180.0, 300.0


class Served:
    """Run the service on a free port of 127.0.0.1 while the block runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.client.close)
            stack.enter_context(own_ray(2))
            stack.callback(serve.shutdown)
            serve.start(http_options={"host": "127.0.0.1", "port": self.port})
            serve.run(build(self.settings))
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def send(self, film: Path, **fields: Any) -> str:
        """Submit a render, after 503 again when the service says so; returns its id. `again`: idempotency key."""
        key = {"Idempotency-Key": fields.pop("again")} if "again" in fields else {}
        give_up_s = time.monotonic() + ACCEPTED_WITHIN_S
        while True:
            with film.open("rb") as file:
                response = self.client.post("/v1/renders", data=fields, files={"source": file}, headers=key)
            if response.status_code != 503 or time.monotonic() > give_up_s:
                break
            time.sleep(float(response.headers["retry-after"]))
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def get(self, render_id: str) -> dict[str, Any]:
        """The render's record."""
        response = self.client.get(f"/v1/renders/{render_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def ended(self, render_id: str, within_s: float) -> dict[str, Any]:
        """The render's record once it has ended."""
        give_up_s = time.monotonic() + within_s
        while (render := self.get(render_id))["state"] in ("queued", "running"):
            assert time.monotonic() < give_up_s, render
            time.sleep(0.2)
        return render

    def metric_addresses(self) -> list[str]:
        """Addresses (host:port) at which Ray's nodes serve metrics."""
        return [f"{n['NodeManagerAddress']}:{n['MetricsExportPort']}" for n in ray.nodes() if n["Alive"]]

    def counted(self, name: str) -> float:
        """Current sum of a metric over all processes."""
        lines = [
            line for host in self.metric_addresses() for line in httpx.get(f"http://{host}/metrics").text.splitlines()
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    def logged(self) -> list[dict[str, Any]]:
        """JSON log records of all worker processes."""
        folder = Path(ray.get_runtime_context().get_session_name())
        files = (Path("/tmp/ray") / folder / "logs").glob("worker-*.err")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def pids(self, deployment: str) -> list[int]:
        """Process ids of the deployment's living replicas."""
        title = f"ray::ServeReplica:default:{deployment}"
        return [p.pid for p in psutil.Process().children(recursive=True) if title in " ".join(_command(p))]

    def kill(self, deployment: str) -> int:
        """Kill one of the deployment's replicas with SIGKILL; returns its process id."""
        pid = self.pids(deployment)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def healthy(self, deployment: str, but: int) -> None:
        """Wait until the deployment is healthy, with another replica than process `but`."""
        give_up_s = time.monotonic() + READY_WITHIN_S
        while True:
            status = serve.status().applications["default"].deployments[deployment]
            if status.status == "HEALTHY" and {*self.pids(deployment)} - {but}:
                return
            assert time.monotonic() < give_up_s, status
            time.sleep(0.3)


def _command(process: psutil.Process) -> list[str]:
    """Command line of a process; empty for one that has ended or is a zombie."""
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []
