"""What becomes of the gigabytes that a training step takes and gives back."""

from __future__ import annotations

import ctypes

# Of <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
_LARGE_BYTES = 1 << 20


def keep_heap() -> None:
    """From now on this process keeps what it frees; without glibc nothing changes.

    By default glibc maps what is large anew each time, and the system fills each page with zeros when it is first
    touched: a quarter to half of a step's time.
    """
    _mallopt(M_MMAP_MAX, 0)
    _mallopt(M_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """From now on the system gets back whatever large this process frees; without glibc nothing changes.

    By default glibc learns to keep what is smaller than 32 MB, which leaves a third of the heap in holes.
    """
    _mallopt(M_MMAP_THRESHOLD, _LARGE_BYTES)
    _mallopt(M_TRIM_THRESHOLD, _LARGE_BYTES)


def _mallopt(what: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(what, value)
