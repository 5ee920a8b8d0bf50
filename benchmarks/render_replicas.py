"""Claim: two replicas of the render service are 1.7 times as fast as one, for a minute of dance.

    python benchmarks/render_replicas.py [runs/demo]

Measured are one replica, two, and one with both cores. runs/demo: the results of `make demo`; without them dancers are
trained for a few steps. rosa dances a minute of milo's dance. Memory is that of all processes of the service and Ray.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.demo_dancers import DEMO, demo_in
from benchmarks.tools.memory import MemoryWatch
from benchmarks.tools.record import record
from cluster.service_client import ServiceClient
from dancedist.progress import silent

BAR = 1.7
DANCER, DANCE = "rosa", "milo.mp4"
# Number of replicas, and the threads of each.
RUNS = {"one": (1, 1), "two": (2, 1), "one with both cores": (1, 2)}


def main(demo: Path) -> None:
    demo = demo_in(demo)
    runs: dict[str, Any] = {name: timed(demo, *setup) for name, setup in RUNS.items()}
    total = {name: sum(run["timings_s"].values()) for name, run in runs.items()}
    rendering = {name: run["timings_s"]["rendering"] for name, run in runs.items()}
    figures = {
        "about": f"{DANCER} dances {DANCE}, {runs['one']['frames']} frames, {runs['one']['chunks']} chunks",
        "runs": runs,
        "two_against_one_rendering": rendering["one"] / rendering["two"],
        "two_against_one_with_both_cores": total["one with both cores"] / total["two"],
    }
    print(figures)
    record("render_replicas", total["one"] / total["two"], BAR, figures, ("ray", "torch"))


def timed(demo: Path, replicas: int, threads: int) -> dict[str, Any]:
    """Render once with a service of its own; returns seconds by step, memory, and facts about the film."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        storage = Path(scratch) / "runs"
        storage.mkdir()
        (storage / "mlflow").symlink_to(demo / "mlflow")
        settings = {
            "DANCEDIST_STORAGE": str(storage),
            "DANCEDIST_REPLICAS": str(replicas),
            "DANCEDIST_REPLICA_CPUS": str(threads),
        }
        with ServiceClient(settings, storage) as service, MemoryWatch(service.pid) as memory:
            # A first render, for what each process does only once.
            service.watch(service.submit(demo / "footage" / "rosas_dance.mp4", DANCER), lambda _: silent(1))
            done = service.watch(service.submit(demo / "footage" / DANCE, DANCER), lambda _: silent(1))
    print(replicas, threads, done["timings_s"], flush=True)
    lowest = min(seam["psnr_db"] for seam in done["seams"])
    return {
        "timings_s": done["timings_s"],
        "peak_mb": round(memory.peak_mb),
        "frames": done["result"]["frames"],
        "chunks": len(done["chunks"]),
        "lowest_seam_db": lowest,
        "film_sha256": done["result"]["sha256"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
