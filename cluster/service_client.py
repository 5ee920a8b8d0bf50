"""Client that starts the render service in a process of its own and calls its HTTP API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import urllib3

from cluster.core.session import ROOT
from dancedist.errors import DancedistError
from dancedist.files import atomic_write

READY_WITHIN_S, ENDED_WITHIN_S, POLL_EVERY_S = 180.0, 60.0, 0.5
# `serve run` has no option for the port. A process started in the background ignores SIGINT by default.
_SERVE = """
import signal, sys
from ray import serve
from serving.app import app
signal.signal(signal.SIGINT, signal.default_int_handler)
serve.start(http_options={"host": sys.argv[1], "port": int(sys.argv[2])})
serve.run(app, blocking=True)
"""


class ServiceFailed(DancedistError):
    """The render service does not start, does not answer, or refuses a request."""

    slug = "service-failed"


class ServiceClient:
    """Run serving.app on a Ray of its own, on a free port of 127.0.0.1, while the block runs.

    `settings`: environment variables of serving.settings. The service logs to `folder`/service.log.
    """

    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        self._settings, self._folder = settings, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._http = urllib3.PoolManager(timeout=60, retries=False)

    @property
    def pid(self) -> int:
        """Process id of the service's main process."""
        return self._process.pid

    def __enter__(self) -> Self:
        host, port = self.url.removeprefix("http://").split(":")
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        ray_environment = {"RAY_ADDRESS": "local", "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
        with (self._folder / "service.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, host, port],
                env={**os.environ, **ray_environment, **self._settings},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until(self._ready, READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the service and all its child processes."""
        children = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _, alive = psutil.wait_procs(children, 10)
        for process in alive:
            process.kill()

    def submit(self, source: Path, dancer: str) -> str:
        """Submit a render; returns its id."""
        with source.open("rb") as film:
            fields = {"dancer": dancer, "source": (source.name, film.read())}
        response = self._request("POST", "/v1/renders", fields=fields)
        return str(response.json()["id"])

    def watch(self, render_id: str, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Wait until the render has ended; returns its record. `on_progress` receives the record at every poll.

        Raises ServiceFailed if the render failed.
        """
        while (render := self._request("GET", f"/v1/renders/{render_id}").json())["state"] in ("queued", "running"):
            on_progress(render)
            time.sleep(POLL_EVERY_S)
        if render["state"] != "done":
            raise ServiceFailed(f"render {render_id} {render['state']}", got=json.dumps(render["problem"]))
        return dict(render)

    def download(self, render_id: str, path: Path) -> None:
        """Write the film to `path` atomically."""
        with atomic_write(path) as partial:
            partial.write_bytes(self._request("GET", f"/v1/renders/{render_id}/result").data)

    def _request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        try:
            response = self._http.request(method, self.url + path, **options)
        except urllib3.exceptions.HTTPError as error:
            raise ServiceFailed("does not answer", file=self.url, got=str(error)) from error
        if response.status >= 400:
            raise ServiceFailed(f"{method} {path}: {response.status}", file=self.url, got=response.data.decode()[:500])
        return response

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise ServiceFailed("the service exited during its start", file=self._folder / "service.log")
        try:
            self._request("GET", "/readyz")
        except ServiceFailed:
            return False
        return True

    def _wait_until(self, condition: Callable[[], bool], within_s: float) -> None:
        give_up_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > give_up_s:
                raise ServiceFailed(
                    f"the service was not ready within {within_s:.0f} s", file=self._folder / "service.log"
                )
            time.sleep(POLL_EVERY_S)
