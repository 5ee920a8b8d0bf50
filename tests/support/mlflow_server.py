"""A real MLflow server for tests, which can be killed, paused and restarted."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

READY_WITHIN_S = 120.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class MlflowServer:
    """MLflow with SQLite and artifacts in its own folder, unless `options` say otherwise.

    Start it from a thread that outlives it. `enter`: prefix of commands that run on another host, with address `ip`.
    """

    def __init__(
        self, *options: str, ip: str = "127.0.0.1", enter: Sequence[str] = (), env: dict[str, str] | None = None
    ) -> None:
        self._ip, self._enter, self._env = ip, enter, env or {}
        self.folder = Path(tempfile.mkdtemp(prefix="dancedist-mlflow-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._options = options or ("--artifacts-destination", str(self.folder / "artifacts"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"http://{self._ip}:{self._port}"

    def start(self) -> None:
        """Start, or start again on the same port and data; returns when it answers."""
        assert self._process is None
        self.begin_start()
        give_up_s = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            assert self._process is not None
            if time.monotonic() > give_up_s or self._process.poll() is not None:
                log = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.close()
                pytest.fail(f"MLflow does not start: {log}")
            time.sleep(0.2)

    def begin_start(self) -> None:
        """Start without waiting."""
        command = [*self._enter, sys.executable, "-m", "mlflow", "server", "--host", self._ip]
        command += ["--port", str(self._port), "--workers", "1", *self._options]
        if "--backend-store-uri" not in self._options:
            command += ["--backend-store-uri", f"sqlite:///{self.folder}/m.db"]
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        libc = ctypes.CDLL(None)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**inherited, **settings, **self._env},
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL),
            )

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Make it hang: it accepts connections and never answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the server, and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        # The server has its own session: no other process is in the group.
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False
