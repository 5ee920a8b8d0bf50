"""Record the result of a benchmark with the machine, the versions and the commit."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import Any

from dancedist.pose.detect import available_cores

RESULTS = Path(__file__).resolve().parents[1] / "results"


def record(name: str, ratio: float, bar: float, figures: dict[str, Any], packages: tuple[str, ...] = ()) -> None:
    """Write results/NAME.json; `ratio` is the measured improvement, `bar` the claimed one."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS, capture_output=True, text=True, check=True)
    versions = {package: importlib.metadata.version(package) for package in packages}
    result = {"ratio": round(ratio, 3), "bar": bar, "machine": machine(), "versions": versions}
    result |= {"commit": commit.stdout.strip(), **figures}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def machine() -> dict[str, object]:
    """Describe the machine that measures."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    isa = {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"} & set(facts.get("flags", "").split())
    return {"cpu": facts.get("model name", "?"), "cores": available_cores(), "isa": sorted(isa)}
