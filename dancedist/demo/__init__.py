"""`dancedist demo`: extract poses, train, render and measure for one target and one source."""

from dancedist.demo.outcome import Outcome
from dancedist.demo.run import run_demo

__all__ = ["Outcome", "run_demo"]
