"""Capabilities of this machine's CPU."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@cache
def has_bf16() -> bool:
    """Whether the CPU has bf16 instructions (AVX-512 BF16, AMX, Arm BF16). False if unknown."""
    try:
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", _CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags[1].split())
