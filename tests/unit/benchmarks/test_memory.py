from __future__ import annotations

import subprocess
import sys

import numpy as np

from benchmarks.tools.memory import MemoryWatch

MB, EVERY_S = 1_000_000, 0.1
# A process that holds some memory itself and starts another that holds as much.
HOLD = f"""
import subprocess, sys, time
held = bytearray(b"x") * int(sys.argv[1])
if len(sys.argv) > 2:
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]])
time.sleep({8 * EVERY_S})
"""


def peak_mb(*more: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(80 * MB), *more])
    with MemoryWatch(process.pid, EVERY_S) as memory:
        assert process.wait() == 0
    return memory.peak_mb


def test_what_a_process_starts_counts_and_what_its_parent_holds_does_not() -> None:
    held_here = np.ones(400 * MB, np.uint8)
    alone, both = peak_mb(), peak_mb(HOLD)
    del held_here
    assert 80 < alone < 120
    assert 160 < both < 240
