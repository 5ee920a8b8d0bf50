"""State that all attempts of a dispatcher share: records, replicas, and cached dancers."""

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
from serving.db.leases import Leases
from serving.db.records import Records
from serving.settings import Settings
from serving.workers.previews import Previews


class WorkerContext:
    """Records, leases, replica handles and caches.

    `bundle` (of a version's URI) and `inference_spec_of` (a pose recipe) block: call them in threads.
    """

    def __init__(self, settings: Settings, database: Database, replicas: DeploymentHandle) -> None:
        self.settings, self.replicas = settings, replicas
        self.leases, self.records = Leases(database), Records(database)
        self._previews = Previews(database)
        self.bundle = lru_cache(maxsize=4)(self._fetch_bundle)
        self.inference_spec_of = lru_cache(maxsize=4)(lambda pose: PeopleDetector(pose).spec)

    async def clear_previews(self, render_id: str) -> None:
        """Delete the previews of a render."""
        await asyncio.to_thread(self._previews.clear, render_id)

    def _fetch_bundle(self, uri: str) -> Bundle:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            return load_bundle(fetch_dancer(uri, Path(folder) / "dancer", self.settings.storage))
