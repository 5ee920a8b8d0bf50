"""The whole way for one target and one source, measured: what `dancedist demo` does."""

from dancedist.demo.outcome import Outcome
from dancedist.demo.run import run_demo

__all__ = ["Outcome", "run_demo"]
