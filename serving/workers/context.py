"""What all attempts of a director share: records, replicas, and the dancers that it has fetched."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from ray.serve.handle import DeploymentHandle

from cluster.tracking.registry import fetch_dancer
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.pose.detect import PeopleDetector
from serving.db.engine import Database
from serving.db.leases import Claims
from serving.db.records import Records
from serving.settings import Settings
from serving.workers.previews import Frames


class Studio:
    """`bundle` (of a version's URI) and `detector_means` (of a pose recipe) block: they are called in threads."""

    def __init__(self, settings: Settings, database: Database, renderer: DeploymentHandle) -> None:
        self.settings, self.renderer = settings, renderer
        self.claims, self.records = Claims(database), Records(database)
        self._frames = Frames(database)
        self.bundle = lru_cache(maxsize=4)(self._fetch_bundle)
        self.detector_means = lru_cache(maxsize=4)(lambda pose: PeopleDetector(pose).means)

    async def ended(self, render_id: str) -> None:
        """Nothing is shown of a render any more."""
        await asyncio.to_thread(self._frames.clear, render_id)

    def _fetch_bundle(self, uri: str) -> Bundle:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            return load_bundle(fetch_dancer(uri, Path(folder) / "dancer", self.settings.storage))
