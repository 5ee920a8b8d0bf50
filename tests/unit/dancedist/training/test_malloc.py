import platform
import subprocess
import sys
import textwrap

import pytest

FAULTS = """
    import resource
    import sys

    import numpy

    from dancedist.training.malloc import keep_heap

    if sys.argv[1] == "kept":
        keep_heap()
    faults = []
    for _ in range(4):
        numpy.ones(64 << 20, numpy.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(faults[-1] - faults[0])
"""


def _later_faults(heap: str) -> int:
    """Pages that the system filled for the second to fourth array of 64 MiB, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FAULTS), heap], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be kept")
def test_what_is_freed_is_kept_for_the_next():
    given_back, kept = _later_faults("by default"), _later_faults("kept")
    # NumPy asks for pages of 2 MiB: 32 for an array, where the system gives them.
    assert given_back >= 3 * 32
    assert kept < given_back / 4


HOLES = """
    import sys

    import numpy

    from dancedist.training.malloc import give_back

    if sys.argv[1] == "given back":
        give_back()
    # Growing, as a network's weights are: glibc learns to keep ever larger pieces.
    for mb in range(1, 30):
        numpy.ones(mb << 20, numpy.uint8)
    pieces = [numpy.ones(8 << 20, numpy.uint8) for _ in range(16)]
    del pieces[:-1]
    held = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    print(held.split()[1])
"""


def _held_kb(heap: str) -> int:
    """What a process holds once it has freed fifteen pieces of 8 MiB, of sixteen."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HOLES), heap], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be given back")
def test_what_is_freed_is_given_back():
    assert _held_kb("given back") < _held_kb("by default") - (100 << 10)
