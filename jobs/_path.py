"""Adds the repository to sys.path for a job that is run as a script: Python itself adds only jobs/."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
