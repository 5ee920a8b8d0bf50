"""The render service on a Ray of the tests' own, whose processes can be killed one by one."""

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

READY_WITHIN_S, ROOM_WITHIN_S = 180.0, 300.0


class Served:
    """It listens on a free port of 127.0.0.1 until the block ends."""

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
        """Ask for a render, again later where the service says so; its id."""
        key = {"Idempotency-Key": fields.pop("again")} if "again" in fields else {}
        give_up_s = time.monotonic() + ROOM_WITHIN_S
        while True:
            with film.open("rb") as file:
                answer = self.client.post("/v1/renders", data=fields, files={"source": file}, headers=key)
            if answer.status_code != 503 or time.monotonic() > give_up_s:
                break
            time.sleep(float(answer.headers["retry-after"]))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def get(self, render_id: str) -> dict[str, Any]:
        """What the service tells of it."""
        answer = self.client.get(f"/v1/renders/{render_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, render_id: str, within_s: float) -> dict[str, Any]:
        """The same, once it has ended."""
        give_up_s = time.monotonic() + within_s
        while (told := self.get(render_id))["state"] in ("queued", "running"):
            assert time.monotonic() < give_up_s, told
            time.sleep(0.2)
        return told

    def figures(self) -> list[str]:
        """Where Ray's nodes serve theirs, as host:port."""
        return [f"{n['NodeManagerAddress']}:{n['MetricsExportPort']}" for n in ray.nodes() if n["Alive"]]

    def counted(self, name: str) -> float:
        """The sum of a figure over all processes, as they are served now."""
        lines = [line for place in self.figures() for line in httpx.get(f"http://{place}/metrics").text.splitlines()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    def logged(self) -> list[dict[str, Any]]:
        """What its processes have logged as JSON."""
        folder = Path(ray.get_runtime_context().get_session_name())
        files = (Path("/tmp/ray") / folder / "logs").glob("worker-*.err")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def pids(self, deployment: str) -> list[int]:
        """Processes of its replicas that are alive."""
        title = f"ray::ServeReplica:default:{deployment}"
        return [p.pid for p in psutil.Process().children(recursive=True) if title in " ".join(_command(p))]

    def kill(self, deployment: str) -> int:
        """Kill one of its replicas on the spot; its pid."""
        pid = self.pids(deployment)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def healthy(self, deployment: str, but: int) -> None:
        """Wait for a replica that works in the place of one that was killed."""
        give_up_s = time.monotonic() + READY_WITHIN_S
        while True:
            told = serve.status().applications["default"].deployments[deployment]
            if told.status == "HEALTHY" and {*self.pids(deployment)} - {but}:
                return
            assert time.monotonic() < give_up_s, told
            time.sleep(0.3)


def _command(process: psutil.Process) -> list[str]:
    """Nothing of one that has ended meanwhile, or that nobody has buried yet."""
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []
