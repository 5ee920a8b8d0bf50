"""A real Postgres for tests, which can be stopped, killed and restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

READY_WITHIN_S = 60.0
# Postgres refuses to run as root.
_UNPRIVILEGED_USER = "nobody"


def _programs() -> Path:
    """Folder of the Postgres programs: the system's, or the package pgserver's."""
    if (pg_ctl := shutil.which("pg_ctl")) is not None:
        return Path(pg_ctl).resolve().parent
    package = find_spec("pgserver")
    if package is None or package.origin is None:
        pytest.skip("needs Postgres: apt-get install postgresql, or pip install pgserver")
    return Path(package.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """An empty Postgres on a free port. `enter`: prefix of commands that run on another host, with address `ip`."""

    def __init__(self, ip: str = "127.0.0.1", enter: Sequence[str] = ()) -> None:
        self._ip, self._enter, self.programs = ip, enter, _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="dancedist-pg-"))
        self._user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._run("initdb", "-D", self._data, "-U", "dance", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        if enter:
            with Path(self._data, "pg_hba.conf").open("a") as allowed:
                allowed.write("host all all samenet trust\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def url(self, database: str = "postgres") -> str:
        """URL for SQLAlchemy; the database is created if it does not exist."""
        import psycopg

        server = f"host={self._ip} port={self._port} user=dance"
        with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if row is None:
                connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return f"postgresql+psycopg://dance@{self._ip}:{self._port}/{database}"

    def start(self) -> None:
        """Start, or start again on the same port and data; returns when it answers."""
        assert self._process is None
        settings = {"listen_addresses": self._ip, "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # Entering another host needs root, and Postgres refuses to run as root.
        switch_user = [*self._enter, "setpriv", f"--reuid={self._user}", "--clear-groups"] if self._enter else []
        command = [*switch_user, str(self.programs / "postgres"), "-D", self._data, "-p", str(self._port), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                user=None if self._enter else self._user,
            )  # fmt: skip
        give_up_s = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if time.monotonic() > give_up_s or self._process.poll() is not None:
                log = (self._folder / "log").read_text(errors="replace")[-2000:]
                self.close()
                pytest.fail(f"Postgres does not start: {log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server at once, even with open connections."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        self._process.wait(READY_WITHIN_S)
        self._process = None

    def kill(self) -> None:
        """Kill the server and its connection processes with SIGKILL: the next start recovers from its log."""
        assert self._process is not None
        # The server has its own session: no other process is in the group.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stop the server, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *options: str) -> None:
        result = subprocess.run(
            [str(self.programs / program), *options], capture_output=True, text=True, cwd=self._folder, user=self._user
        )
        if result.returncode:
            pytest.fail(f"{program}: {result.stderr[-2000:]}")

    def _answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(f"host={self._ip} port={self._port} user=dance dbname=postgres", connect_timeout=2).close()
            return True
        return False
