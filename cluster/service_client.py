"""The render service as a program sees it: started in a process of its own, asked over HTTP."""

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
from dancedist.files import published

READY_WITHIN_S, ENDED_WITHIN_S, LOOK_EVERY_S = 180.0, 60.0, 0.5
# `serve run` has no word for the port. Whoever is started in the background would not hear SIGINT.
_SERVE = """
import signal, sys
from ray import serve
from serving.app import app
signal.signal(signal.SIGINT, signal.default_int_handler)
serve.start(http_options={"host": sys.argv[1], "port": int(sys.argv[2])})
serve.run(app, blocking=True)
"""


class ServiceFailed(DancedistError):
    """A render service that does not start, does not answer, or says no."""

    slug = "service-failed"


class RenderService:
    """serving.app on a Ray of its own, at a free port of 127.0.0.1, until the block ends.

    `settings`: environment variables of serving.settings. What it logs is in `folder`/service.log.
    """

    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        self._settings, self._folder = settings, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._http = urllib3.PoolManager(timeout=60, retries=False)

    @property
    def pid(self) -> int:
        """Of the process that has started all of the service."""
        return self._process.pid

    def __enter__(self) -> Self:
        host, port = self.url.removeprefix("http://").split(":")
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        mine = {"RAY_ADDRESS": "local", "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
        with (self._folder / "service.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, host, port],
                env={**os.environ, **mine, **self._settings},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._until(self._ready, READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and all that it started."""
        started = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _, alive = psutil.wait_procs(started, 10)
        for process in alive:
            process.kill()

    def send(self, source: Path, dancer: str) -> str:
        """Ask for a render; its id."""
        with source.open("rb") as film:
            fields = {"dancer": dancer, "source": (source.name, film.read())}
        answer = self._ask("POST", "/v1/renders", fields=fields)
        return str(answer.json()["id"])

    def follow(self, render_id: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Wait until it has ended; its record, which `tell` is shown meanwhile. Raises ServiceFailed if it failed."""
        while (told := self._ask("GET", f"/v1/renders/{render_id}").json())["state"] in ("queued", "running"):
            tell(told)
            time.sleep(LOOK_EVERY_S)
        if told["state"] != "done":
            raise ServiceFailed(f"render {render_id} {told['state']}", got=json.dumps(told["problem"]))
        return dict(told)

    def fetch(self, render_id: str, path: Path) -> None:
        """The film, whole or not at all."""
        with published(path) as partial:
            partial.write_bytes(self._ask("GET", f"/v1/renders/{render_id}/result").data)

    def _ask(self, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
        try:
            answer = self._http.request(method, self.url + path, **more)
        except urllib3.exceptions.HTTPError as error:
            raise ServiceFailed("does not answer", file=self.url, got=str(error)) from error
        if answer.status >= 400:
            raise ServiceFailed(f"{method} {path}: {answer.status}", file=self.url, got=answer.data.decode()[:500])
        return answer

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise ServiceFailed("ended while it started", file=self._folder / "service.log")
        try:
            self._ask("GET", "/readyz")
        except ServiceFailed:
            return False
        return True

    def _until(self, holds: Callable[[], bool], within_s: float) -> None:
        give_up_s = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > give_up_s:
                raise ServiceFailed(f"not ready within {within_s:.0f} s", file=self._folder / "service.log")
            time.sleep(LOOK_EVERY_S)
