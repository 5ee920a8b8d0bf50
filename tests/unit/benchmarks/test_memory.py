from __future__ import annotations

import subprocess
import sys

import numpy as np

from benchmarks.tools.memory import MemoryWatch

MB, EVERY_S = 1_000_000, 0.1
# A process that allocates memory and, with a second argument, starts another that allocates as much.
ALLOCATE = f"""
import subprocess, sys, time
block = bytearray(b"x") * int(sys.argv[1])
if len(sys.argv) > 2:
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]])
time.sleep({8 * EVERY_S})
"""


def peak_mb(*more: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", ALLOCATE, str(80 * MB), *more])
    with MemoryWatch(process.pid, EVERY_S) as memory:
        assert process.wait() == 0
    return memory.peak_mb


def test_child_processes_count_and_the_parents_memory_does_not() -> None:
    parents_memory = np.ones(400 * MB, np.uint8)
    alone, both = peak_mb(), peak_mb(ALLOCATE)
    del parents_memory
    assert 80 < alone < 120
    assert 160 < both < 240
