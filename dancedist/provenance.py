"""Marks on synthetic video."""

from __future__ import annotations

from dancedist import __version__
from dancedist.bundle import Dancer


def film_metadata(dancer: Dancer) -> dict[str, str]:
    """What every rendered film carries in its container: that it is synthetic, and what made it."""
    return {
        "title": f"{dancer.name} (synthetic)",
        "comment": "Synthetic media: rendered by dancedist, not filmed.",
        "description": f"dancedist {__version__}, dancer {dancer.name}, weights sha256 {dancer.weights_sha256[:16]}",
    }
