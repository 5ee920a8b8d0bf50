import platform
import subprocess
import sys
import textwrap

import pytest

FAULTS = """
    import resource
    import sys

    import numpy

    from dancedist.training.malloc import keep_freed_memory

    if sys.argv[1] == "kept":
        keep_freed_memory()
    faults = []
    for _ in range(4):
        numpy.ones(64 << 20, numpy.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(faults[-1] - faults[0])
"""


def _later_faults(setting: str) -> int:
    """Page faults for the second to fourth array of 64 MiB, in a new process."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FAULTS), setting], capture_output=True, text=True, check=True
    )
    return int(process.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be kept")
def test_freed_memory_is_kept_for_reuse():
    by_default, kept = _later_faults("by default"), _later_faults("kept")
    # NumPy requests pages of 2 MiB, so an array may need only 32.
    assert by_default >= 3 * 32
    assert kept < by_default / 4


HOLES = """
    import sys

    import numpy

    from dancedist.training.malloc import return_freed_memory

    if sys.argv[1] == "returned":
        return_freed_memory()
    # Growing blocks: glibc raises its threshold and keeps larger and larger blocks.
    for mb in range(1, 30):
        numpy.ones(mb << 20, numpy.uint8)
    blocks = [numpy.ones(8 << 20, numpy.uint8) for _ in range(16)]
    del blocks[:-1]
    rss = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    print(rss.split()[1])
"""


def _rss_kb(setting: str) -> int:
    """Memory (kB) of a process after it has freed fifteen of sixteen blocks of 8 MiB."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HOLES), setting], capture_output=True, text=True, check=True
    )
    return int(process.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be returned")
def test_freed_memory_is_returned():
    assert _rss_kb("returned") < _rss_kb("by default") - (100 << 10)
