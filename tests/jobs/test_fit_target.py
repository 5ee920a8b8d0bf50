"""One target trained by two hosts, of which one is lost: it comes back, or the other continues alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import Nodes, OneHost
from tests.unit.cluster.training.fits import ROOT, dance

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LIMIT_S = 400
# The result, the log, the SHA-256 of the weights.
Output = tuple[dict[str, Any], list[dict[str, float]], str]


class RunningFit:
    """A training by two hosts that logs its events to a file."""

    def __init__(self, nodes: Nodes | OneHost, film: Path, folder: Path, zero_stage: int, elastic: str = "") -> None:
        folder.mkdir()
        self.folder, self._events_file = folder, folder / "events"
        command = ["python", "-m", "tests.unit.cluster.training.fit_nodes", film, folder / "out", zero_stage, elastic]
        env = {"DANCEDIST_CACHE": str(folder / "node"), "PYTHONPATH": str(ROOT)}
        self._process = nodes.run(
            [*map(str, command), str(self._events_file)], env, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def events(self) -> list[dict[str, Any]]:
        lines = self._events_file.read_text().splitlines() if self._events_file.exists() else []
        return [json.loads(line) for line in lines]

    def until(self, step: int) -> dict[str, Any]:
        """Wait for an event of this step or a later one."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if (events := self.events()) and events[-1]["step"] >= step:
                return events[-1]
            time.sleep(0.1)
        raise AssertionError(f"no such event in time: {self._process.communicate(timeout=10)}")

    def wait(self) -> Output:
        """Wait for its end; return its output."""
        try:
            stdout, _ = self._process.communicate(timeout=LIMIT_S)
        finally:
            self._process.kill()
        result = json.loads([line for line in stdout.splitlines() if line.startswith("{")][-1])
        assert "bundle" in result, result
        bundle = Path(result["bundle"])
        log = (bundle.parent / "log.jsonl").read_text().splitlines()
        digest = hashlib.sha256((bundle / "generator.safetensors").read_bytes()).hexdigest()
        return result, [json.loads(line) for line in log], digest


def node_number(nodes: Nodes | OneHost, address: str) -> int:
    """Number of the worker node with this address; the last one if several share it."""
    return [i for i in nodes.workers if nodes.ip(i) == address][-1]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dance(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module")
def uninterrupted(three_nodes: Nodes | OneHost, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """Output of two uninterrupted workers; the ZeRO stage changes rounding only."""
    output = RunningFit(three_nodes, film, tmp_path_factory.mktemp("uninterrupted") / "fit", 1).wait()
    assert output[0]["world"] == 2
    return output


def test_a_node_is_lost_and_comes_back(
    three_nodes: Nodes | OneHost, film: Path, uninterrupted: Output, tmp_path: Path
) -> None:
    fit = RunningFit(three_nodes, film, tmp_path / "interrupted", 1)
    now = fit.until(8)
    assert len({address for address, _ in now["ranks"]}) == (2 if isinstance(three_nodes, Nodes) else 1)
    three_nodes.remove(node_number(three_nodes, now["ranks"][0][0]))
    three_nodes.add()
    resumed = fit.wait()
    assert {tuple(map(tuple, event["ranks"])) for event in fit.events()} > {tuple(map(tuple, now["ranks"]))}
    assert resumed[0]["world"] == 2
    assert resumed[1:] == uninterrupted[1:]


def test_without_zero_one_continues_alone(
    three_nodes: Nodes | OneHost, film: Path, uninterrupted: Output, tmp_path: Path
) -> None:
    fit = RunningFit(three_nodes, film, tmp_path / "interrupted", 0, "elastic")
    now = fit.until(8)
    assert len(now["ranks"]) == 2
    three_nodes.remove(node_number(three_nodes, now["ranks"][1][0]))
    try:
        alone = fit.wait()
    finally:
        three_nodes.add()
    assert (alone[0]["world"], len(fit.events()[-1]["ranks"])) == (1, 1)
    for step, (a, b) in enumerate(zip(uninterrupted[1], alone[1], strict=True)):
        # Float sums in another order from the checkpoint on; the GAN amplifies the difference with every step.
        assert a == pytest.approx(b, rel=5e-2), step
