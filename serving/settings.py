"""Environment variables of the render service, beside cluster.core.settings.Shared: they begin with DANCEDIST_."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from cluster.core.session import lasting
from cluster.core.settings import Shared
from cluster.storage.base import open_storage
from cluster.tracking.mlflow_client import tracking_uri
from dancedist.bundle.provenance import SigningKey
from dancedist.errors import DancedistError
from dancedist.recipe import VideoRecipe


class RecordsNotShared(DancedistError):
    """Records on one node's disk, in a service of several nodes."""

    slug = "records-not-shared"


class Settings(Shared):
    """How the service is run. Sizes in bytes, times in seconds."""

    api_keys: Path | None = Field(None, description="TOML file of API keys; without it only this machine is served")
    buckets: frozenset[str] = Field(frozenset(), description="JSON list of buckets that sources may be named in")
    without_consent: bool = Field(False, description="render dancers whose version tells of no consent")

    max_upload_bytes: int = Field(2_000_000_000, gt=0, description="of one source")
    max_duration_s: float = Field(1800.0, gt=0, description="of one source")
    max_frame_pixels: int = Field(3840 * 2160, gt=0, description="of one frame of a source")
    max_queue: int = Field(200, gt=0, description="renders that wait; beyond it 503")
    max_per_key: int = Field(50, gt=0, description="renders of one key that wait or run; beyond it 429")
    max_uploads: int = Field(8, gt=0, description="sources that are received at once by one process; beyond it 503")
    retention_s: float = Field(7 * 86400.0, gt=0, description="how long what has ended is kept, films too")

    replicas: int = Field(1, gt=0, description="processes that render")
    replica_cpus: float = Field(1.0, gt=0, description="cores and threads of each")
    replica_gpus: float = Field(0.0, ge=0, description="GPUs of each, or a part of one")
    lockstep: int = Field(1, gt=0, description="chunks of one dancer that a replica renders as one batch")
    dancers_in_memory: int = Field(4, gt=0, description="dancers that a replica keeps")
    directors: int = Field(1, gt=0, description="processes that look after renders; a second one takes over sooner")
    renders_at_once: int = Field(4, gt=0, description="renders that a director works on")
    lease_s: float = Field(15.0, gt=0, description="silence after which a render is taken over")
    chunk_timeout_s: float = Field(1800.0, gt=0, description="after which a chunk is ordered from another replica")

    label: bool = Field(False, description="a visible label on every film, whatever was asked for")
    c2pa_certificates: Path | None = Field(None, description="PEM chain, leaf first: films are signed with its key")
    c2pa_key: Path | None = Field(None, description="PEM of the private key")
    c2pa_algorithm: str = Field("es256", description="as C2PA names it")
    webhook_secret: SecretStr | None = Field(None, description="signs webhooks; without it they are refused")
    webhook_hosts: frozenset[str] = Field(frozenset(), description="JSON list of hosts that may be called back")

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        storage = lasting(self.storage)
        object.__setattr__(self, "storage", storage)
        if not self.database and not storage.startswith("s3://"):
            folder = Path(open_storage(storage).uri)
            folder.mkdir(parents=True, exist_ok=True)
            object.__setattr__(self, "database", f"sqlite:///{folder}/renders.db")
        if not self.database:
            raise ValueError("SQLite cannot lie in a bucket: set DANCEDIST_DATABASE to postgresql+psycopg://…")
        return self

    @property
    def signing_key(self) -> SigningKey | None:
        """What films are signed with, where both files are named."""
        if self.c2pa_certificates is None or self.c2pa_key is None:
            return None
        return SigningKey(self.c2pa_certificates, self.c2pa_key, self.c2pa_algorithm)

    def require_shared(self, nodes: int) -> None:
        """Raise RecordsNotShared or TrackingRefused where `nodes` would each have an SQLite of their own."""
        tracking_uri(self.storage, nodes)
        if nodes > 1 and self.database.startswith("sqlite"):
            expected = "DANCEDIST_DATABASE=postgresql+psycopg://… that all nodes reach"
            raise RecordsNotShared("SQLite serves one node only", expected=expected, got=f"{nodes} nodes")

    def limits(self, encoding: VideoRecipe) -> VideoRecipe:
        """The bounds on a source, with a dancer's way of encoding."""
        bounds = {"max_frame_pixels": self.max_frame_pixels, "max_duration_s": self.max_duration_s}
        return encoding.model_copy(update=bounds)
