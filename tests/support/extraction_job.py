"""Runs of jobs/extract_poses.py on a cluster, and what they write."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from cluster.storage.base import Storage
from tests.support.nodes import Nodes, OneHost

ROOT = Path(__file__).parents[2]
RECIPE = "[pose]\nsegment_frames = 8\ndetect_every_frames = 4\n[extraction]\nworker_cpus = 0.25\n"
# Frames of each video; at 8 frames per segment these are 12, 5 and 3 segments.
LENGTHS = {"long": 96, "middle": 40, "short": 20}
SEGMENTS = 12 + 5 + 3
LIMIT_S = 300


class RunningJob:
    """`python jobs/extract_poses.py` on the head node; `wait` returns its exit code and log."""

    def __init__(self, nodes: Nodes | OneHost, films: Path, output: Path | str, *args: str | Path) -> None:
        self.output = output
        command = ["python", "jobs/extract_poses.py", *map(str, args or [films]), "--output", str(output)]
        command += ["--recipe", str(films / "recipe.toml")]
        # The default would be eight workers: starting them would take most of the test time.
        command += [] if "--workers" in command else ["--workers", "2"]
        self.process = nodes.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait(self) -> tuple[int, str]:
        try:
            log, _ = self.process.communicate(timeout=LIMIT_S)
        finally:
            self.process.kill()
        return self.process.returncode, log

    def until(self, store: Storage, segments: int) -> None:
        """Wait until `segments` segments are written."""
        deadline = time.monotonic() + LIMIT_S
        while segments_in(store) < segments:
            assert time.monotonic() < deadline, "too few segments in time"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)


def segments_in(store: Storage) -> int:
    return sum(entry.name.endswith(".safetensors") for entry in store.list("work/segments/"))


def summary(store: Storage) -> dict[str, Any]:
    return json.loads(store.read("summary.json"))


def digests(store: Storage, *, with_uris: bool = True) -> dict[str, str]:
    """SHA-256 of each file that must not depend on how the job ran; tables contain URIs of the inputs."""
    names = [e.name for e in store.list() if e.name.startswith("poses/") or (with_uris and e.name.endswith(".parquet"))]
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}
