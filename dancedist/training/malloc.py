"""Settings of glibc's malloc for the large blocks of memory that a training step allocates and frees."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
_LARGE_BYTES = 1 << 20


def keep_freed_memory() -> None:
    """Make this process keep freed memory for reuse. Does nothing without glibc.

    By default glibc maps each large block again, and the system zeroes every page at first touch: a quarter to half
    of a step's time.
    """
    _mallopt(M_MMAP_MAX, 0)
    _mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Make this process return large freed blocks to the system. Does nothing without glibc.

    By default glibc raises its threshold and keeps blocks up to 32 MB, which leaves a third of the heap in holes.
    """
    _mallopt(M_MMAP_THRESHOLD, _LARGE_BYTES)
    _mallopt(M_TRIM_THRESHOLD, _LARGE_BYTES)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
