"""A minute of dance through the render service: one replica, two, and one with both cores.

    python benchmarks/render_replicas.py [runs/demo]

RUNS/DEMO: what `make demo` left (where it is not there, dancers of a few steps are made): rosa is asked to dance a
minute of milo's. Memory is that of the service with all its processes, Ray's too.
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
from cluster.service_client import RenderService
from dancedist.progress import silent

BAR = 1.7
DANCER, DANCE = "rosa", "milo.mp4"
# Replicas and the threads of each.
RUNS = {"one": (1, 1), "two": (2, 1), "one with both cores": (1, 2)}


def main(demo: Path) -> None:
    demo = demo_in(demo)
    told: dict[str, Any] = {name: timed(demo, *how) for name, how in RUNS.items()}
    whole = {name: sum(run["timings_s"].values()) for name, run in told.items()}
    rendering = {name: run["timings_s"]["rendering"] for name, run in told.items()}
    figures = {
        "about": f"{DANCER} dances {DANCE}, {told['one']['frames']} frames, {told['one']['chunks']} chunks",
        "runs": told,
        "two_against_one_rendering": rendering["one"] / rendering["two"],
        "two_against_one_with_both_cores": whole["one with both cores"] / whole["two"],
    }
    print(figures)
    record("render_replicas", whole["one"] / whole["two"], BAR, figures, ("ray", "torch"))


def timed(demo: Path, replicas: int, threads: int) -> dict[str, Any]:
    """Seconds by stage and memory, with records and files of its own."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        storage = Path(scratch) / "runs"
        storage.mkdir()
        (storage / "mlflow").symlink_to(demo / "mlflow")
        settings = {
            "DANCEDIST_STORAGE": str(storage),
            "DANCEDIST_REPLICAS": str(replicas),
            "DANCEDIST_REPLICA_CPUS": str(threads),
        }
        with RenderService(settings, storage) as service, MemoryWatch(service.pid) as memory:
            # What each process does only once.
            service.follow(service.send(demo / "footage" / "rosas_dance.mp4", DANCER), lambda _: silent(1))
            done = service.follow(service.send(demo / "footage" / DANCE, DANCER), lambda _: silent(1))
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
