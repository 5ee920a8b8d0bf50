from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dancedist import models

MODULES = [f"dancedist.models.{path.stem}" for path in Path(models.__path__[0]).glob("[!_]*.py")]
OTHERS = ("av", "cv2", "pydantic", "scipy")


def test_the_networks_import_only_torch() -> None:
    # The GPU benchmarks run where nothing else is installed.
    block = f"import sys; sys.modules.update(dict.fromkeys({OTHERS}))"
    process = subprocess.run(
        [sys.executable, "-c", f"{block}; import {', '.join(MODULES)}"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
