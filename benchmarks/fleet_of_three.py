"""Claim: a fleet of three drawn dancers and a broken video takes at most 12 minutes on 2 cores.

    python benchmarks/fleet_of_three.py [STEPS]

The job runs twice through `ray job submit` with preset quick; the second run must train nothing. STEPS: 2,000 by
default, as in quick, which 2 cores cannot do three times in 12 minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.tools.record import record
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.video.encode import write_film
from tests.support.nodes import MB, Nodes

BAR_MINUTES, FRAMES = 12.0, 200
SCENES = {"anna": TARGET_TEST, "bert": SOURCE, "carl": TARGET_TRAINING}


def main(steps: int) -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        for name, scene in SCENES.items():
            drawn = scene.frames()
            write_film(
                folder / f"{name}.mp4", (next(drawn) for _ in range(FRAMES)), Fraction(25), crf=16, x264_preset="fast"
            )
        (folder / "dora.mp4").write_text("not a film")
        targets = "\n".join(f'[[target]]\nname = "{name}"\nvideos = "{name}.mp4"' for name in (*SCENES, "dora"))
        # The face stage has the same share of the steps as in the preset.
        face_steps = round(0.15 * steps)
        lengths = f"overrides.training.max_steps = {steps - face_steps}\noverrides.face.max_steps = {face_steps}"
        (folder / "fleet.toml").write_text(f"[defaults]\n{lengths}\n{targets}\n")
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        env = {"XDG_CACHE_HOME": cache, "DANCEDIST_CACHE": str(folder / "node")}
        with Nodes(0, head_cpus=2, memory=4096 * MB, env=env) as node:
            minutes = [submit(node, folder) for _ in range(2)]
            rows = json.loads((folder / "out" / "fleet.json").read_text())
    targets_figures = {
        row["target"]: {k: row[k] for k in ("state", "minutes", "lpips", "version", "slug")} for row in rows
    }
    assert [row["state"] for row in rows] == ["found done"] * 3 + ["failed"], rows
    figures = {
        "steps": steps,
        "frames": FRAMES,
        "minutes": minutes[0],
        "minutes_again": minutes[1],
        "targets": targets_figures,
    }
    print(json.dumps(figures, indent=2))
    record("fleet_of_three", BAR_MINUTES / minutes[0], 1.0, figures, ("ray", "torch", "mlflow"))


def submit(node: Nodes, folder: Path) -> float:
    """Submit the job; returns its minutes, with `ray job submit`."""
    job = ["python", "jobs/train_many.py", "--fleet", folder / "fleet.toml", "--storage", folder / "out"]
    command = ["ray", "job", "submit", "--address", node.job_address, "--working-dir", ".", "--", *map(str, job)]
    started = time.monotonic()
    process = node.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = process.communicate()
    assert "failed with exit code 3" in output, output
    return round((time.monotonic() - started) / 60, 2)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
