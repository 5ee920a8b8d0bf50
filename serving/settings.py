"""Environment variables of the render service, in addition to cluster.core.settings.SharedSettings.

All names start with DANCEDIST_.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from cluster.core.settings import SharedSettings
from cluster.storage.open import durable_uri, open_storage
from cluster.tracking.mlflow_client import tracking_uri
from dancedist.bundle.provenance import SigningKey
from dancedist.errors import DancedistError
from dancedist.recipe.schema import VideoRecipe

log = logging.getLogger("dancedist")


class RecordsNotShared(DancedistError):
    """The records are on one node's disk, but the service runs on several nodes."""

    slug = "records-not-shared"


class Settings(SharedSettings):
    """Settings of the render service. Sizes in bytes, times in seconds."""

    # Fields with several environment names can still be set by field name.
    model_config = SettingsConfigDict(populate_by_name=True)

    api_keys: Path | None = Field(None, description="TOML file of API keys; without it only this machine is served")
    buckets: frozenset[str] = Field(frozenset(), description="JSON list of buckets that sources may come from")
    without_consent: bool = Field(False, description="render dancers whose version has no recorded consent")

    max_upload_bytes: int = Field(2_000_000_000, gt=0, description="largest source")
    max_duration_s: float = Field(1800.0, gt=0, description="longest source")
    max_frame_pixels: int = Field(3840 * 2160, gt=0, description="largest frame of a source")
    max_queue: int = Field(200, gt=0, description="renders that wait; more are answered with 503")
    max_per_key: int = Field(50, gt=0, description="renders of one key that wait or run; more are answered with 429")
    max_uploads: int = Field(8, gt=0, description="uploads received at once by one process; more are answered with 503")
    retention_s: float = Field(7 * 86400.0, gt=0, description="how long ended renders and their films are stored")

    replicas: int = Field(1, gt=0, description="render processes")
    replica_cpus: float = Field(1.0, gt=0, description="cores and threads of each replica")
    replica_gpus: float = Field(0.0, ge=0, description="GPUs of each replica; may be a fraction")
    render_batch: int = Field(
        1,
        gt=0,
        validation_alias=AliasChoices("DANCEDIST_RENDER_BATCH", "DANCEDIST_LOCKSTEP"),
        description="chunks of one dancer that a replica renders as one batch",
    )
    dancers_in_memory: int = Field(4, gt=0, description="dancers that a replica keeps in memory")
    dispatchers: int = Field(
        1,
        gt=0,
        validation_alias=AliasChoices("DANCEDIST_DISPATCHERS", "DANCEDIST_DIRECTORS"),
        description="processes that manage renders; a second one takes over sooner",
    )
    renders_at_once: int = Field(4, gt=0, description="renders that a dispatcher works on at once")
    lease_s: float = Field(15.0, gt=0, description="time without renewal after which a render is taken over")
    chunk_timeout_s: float = Field(1800.0, gt=0, description="time after which a chunk is retried on another replica")

    label: bool = Field(False, description="put a visible label on every film, even if the request does not ask for it")
    c2pa_certificates: Path | None = Field(None, description="PEM certificate chain, leaf first, to sign films with")
    c2pa_key: Path | None = Field(None, description="PEM file of the private key")
    c2pa_algorithm: str = Field("es256", description="signature algorithm, by its C2PA name")
    webhook_secret: SecretStr | None = Field(None, description="signs webhooks; without it webhooks are refused")
    webhook_hosts: frozenset[str] = Field(frozenset(), description="JSON list of hosts that webhooks may call")

    @model_validator(mode="after")
    def _warn_of_old_names(self) -> Self:
        for field in type(self).model_fields:
            for name in self.old_env_names(field):
                if os.environ.get(name):
                    log.warning("warning: %s was renamed to %s", name, self.env_name(field))
        return self

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        storage = durable_uri(self.storage)
        object.__setattr__(self, "storage", storage)
        if not self.database and not storage.startswith("s3://"):
            folder = Path(open_storage(storage).uri)
            folder.mkdir(parents=True, exist_ok=True)
            object.__setattr__(self, "database", f"sqlite:///{folder}/renders.db")
        if not self.database:
            raise ValueError("SQLite does not work in a bucket: set DANCEDIST_DATABASE to postgresql+psycopg://…")
        return self

    @property
    def signing_key(self) -> SigningKey | None:
        """Certificate and key that films are signed with; None unless both files are set."""
        if self.c2pa_certificates is None or self.c2pa_key is None:
            return None
        return SigningKey(self.c2pa_certificates, self.c2pa_key, self.c2pa_algorithm)

    def require_shared(self, nodes: int) -> None:
        """Raise RecordsNotShared or TrackingRefused if each of `nodes` nodes would have an SQLite file of its own."""
        tracking_uri(self.storage, nodes)
        if nodes > 1 and self.database.startswith("sqlite"):
            expected = "DANCEDIST_DATABASE=postgresql+psycopg://… that all nodes reach"
            raise RecordsNotShared("SQLite supports one node only", expected=expected, got=f"{nodes} nodes")

    def limits(self, encoding: VideoRecipe) -> VideoRecipe:
        """The limits on a source, with the encoding settings of a dancer."""
        bounds = {"max_frame_pixels": self.max_frame_pixels, "max_duration_s": self.max_duration_s}
        return encoding.model_copy(update=bounds)
