from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dancedist import models

MODULES = [f"dancedist.models.{path.stem}" for path in Path(models.__path__[0]).glob("[!_]*.py")]
OTHERS = ("av", "cv2", "pydantic", "scipy")


def test_the_networks_need_torch_alone() -> None:
    # Where benchmarks/gpu.py runs there is nothing else.
    block = f"import sys; sys.modules.update(dict.fromkeys({OTHERS}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{block}; import {', '.join(MODULES)}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
