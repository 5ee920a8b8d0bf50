"""Write the table of benchmarks/README.md from benchmarks/results: `python benchmarks/tools/table.py`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
README, RESULTS = HERE / "README.md", HERE / "results"
BEGIN, END = "<!-- table: made by tools/table.py -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Claim:
    """A row: the work, what it is compared with, the name of its result file, and the claimed ratio."""

    work: str
    against: str
    result: str
    bar: float


CLAIMS = (
    Claim("pose extraction, frames/s, f32", "rtmlib's PoseTracker", "pose_throughput", 3.0),
    Claim("training step, 256x256, CPU", "the 2019 recipe, eager fp32", "training_step", 3.0),
    Claim("training step, 256x256, GPU", "the 2019 recipe, eager fp32", "gpu_training_step", 4.0),
    Claim("training at 512x256, share of the matrix rate", "the chip", "gpu_training_share_512", 0.4),
    Claim("training at 1024x512, share of the matrix rate", "the chip", "gpu_training_share_1024", 0.4),
    Claim("rendering, one stream, 256x256, CPU", "eager fp32, PNG files", "render_stream", 4.0),
    Claim("rendering, one stream, 256x256, GPU", "eager fp32, PNG files", "gpu_render_stream", 5.0),
    Claim("rendering in lockstep, 512x256, GPU", "3,590 frames/s", "gpu_render_lockstep", 0.4),
    Claim("a fleet of 8 on one GPU", "one after the other", "gpu_fleet_of_8", 2.0),
    Claim("memory at 1024x512, `save_memory`, CPU", "the 2019 recipe, eager fp32", "training_memory", 2.0),
    Claim("memory at 1024x512, `save_memory`, GPU", "the 2019 recipe, eager fp32", "gpu_training_memory", 2.0),
    Claim("a film of 60 s by the service, a replica a core", "a bare loop of all cores", "service_minute", 0.9),
)


def table() -> str:
    """Format the table as Markdown: the claims, then other results that have a bar."""
    rows = ["| work | against | ratio | spread | bar | measured on |", "|---|---|---|---|---|---|"]
    rows += [_row(c.work, c.against, c.bar, _result(c.result)) for c in CLAIMS]
    others = sorted({path.stem for path in RESULTS.glob("*.json")} - {claim.result for claim in CLAIMS})
    for name in others:
        result = _result(name)
        if result is not None and result.get("bar") is not None:
            rows.append(_row(name.replace("_", " "), "its bar", result["bar"], result))
    return "\n".join(rows) + "\n"


def _result(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _row(work: str, against: str, bar: float, result: dict[str, Any] | None) -> str:
    if result is None:
        return f"| {work} | {against} | not measured | | {bar:g} | |"
    spread = result.get("spread")
    range_ = f"{spread['lowest']:g} to {spread['highest']:g}" if spread else ""
    return f"| {work} | {against} | **{result['ratio']:g}** | {range_} | {bar:g} | {_machine(result['machine'])} |"


def _machine(machine: dict[str, Any]) -> str:
    if "gpu" in machine:
        return str(machine["gpu"])
    best = [isa for isa in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if isa in machine["isa"]]
    return f"{machine['cores']} cores, {machine['cpu']}, {best[0] if best else 'no AVX'}"


def with_table(readme: str) -> str:
    """Replace the table in the text of README.md."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    page, count = re.subn(pattern, lambda _: BEGIN + table() + END, readme, flags=re.S)
    assert count == 1, "the page has no markers for the table"
    return page


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
