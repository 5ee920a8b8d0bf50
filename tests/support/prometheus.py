"""A real Prometheus for tests, configured by k8s/dashboards/."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from tests.support.promql import DASHBOARDS

READY_WITHIN_S = 30.0


class Prometheus:
    """Scrape `targets` ({name of a target file: host:port of each target}) every second while the block runs."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        if (program := shutil.which("prometheus")) is None:
            pytest.skip("needs Prometheus: apt-get install prometheus")
        self._program, self._folder = program, folder
        (folder / "targets").mkdir(parents=True)
        for name, addresses in targets.items():
            (folder / "targets" / f"{name}.json").write_text(json.dumps([{"targets": addresses}]))
        config = (DASHBOARDS / "prometheus.yml").read_text()
        assert "15s" in config
        (folder / "prometheus.yml").write_text(config.replace("15s", "1s"))
        shutil.copy(DASHBOARDS / "alerts.yaml", folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._client = httpx.Client(base_url=f"http://{self._address}/api/v1", timeout=10)
        self._started_s = time.time()

    def __enter__(self) -> Self:
        command = [
            self._program, f"--config.file={self._folder}/prometheus.yml", f"--web.listen-address={self._address}",
            f"--storage.tsdb.path={self._folder}/data", "--log.level=warn",
        ]  # fmt: skip
        with (self._folder / "prometheus.log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until(lambda: self._client.get(f"http://{self._address}/-/ready").status_code == 200, READY_WITHIN_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait()

    def until(self, condition: Any, within_s: float) -> None:
        """Wait until `condition()` is true; a connection error counts as false."""
        give_up_s = time.monotonic() + within_s
        while True:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < give_up_s, (self._folder / "prometheus.log").read_text()
            time.sleep(0.3)

    def series(self, selector: str) -> list[dict[str, str]]:
        """Labels of every series that the selector has matched since the start."""
        return self._get("series", {"match[]": selector, "start": self._started_s - 60, "end": time.time() + 60})

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Current result of an expression."""
        return self._get("query", {"query": expr})["result"]

    def rules(self) -> list[dict[str, Any]]:
        """The rules as Prometheus has loaded them."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def _get(self, path: str, params: dict[str, Any]) -> Any:
        response = self._client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()["data"]
