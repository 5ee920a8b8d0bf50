"""Environment variables: each stands here once, with what it means and its default.

What only the render service reads is in serving.settings; `python -m serving.ops.variables` prints all of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Variables(BaseSettings):
    """Variables of one prefix. One that is set to nothing counts as not set."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def variable(cls, field: str) -> str:
        """The name in the environment."""
        alias = cls.model_fields[field].validation_alias
        return alias if isinstance(alias, str) else f"{cls.model_config['env_prefix']}{field}".upper()

    def hand_on(self, *fields: str) -> None:
        """Set what a library reads for itself, where nobody has, so that our default is its too."""
        for field in fields:
            os.environ.setdefault(self.variable(field), json.dumps(getattr(self, field)))


class Shared(Variables):
    """What jobs, their workers and the render service have in common."""

    model_config = SettingsConfigDict(env_prefix="DANCEDIST_")

    storage: str = Field(
        "runs", description="folder that all nodes share, or s3://bucket/prefix: dancers, renders, MLflow's files"
    )
    database: str = Field(
        "", description="SQLAlchemy URL of the renders' records; SQLite in the storage folder by default"
    )
    fleet: Path = Field(Path("fleet.toml"), description="TOML file of the dancers that train_many trains")
    cache: Path | None = Field(None, description="folder of a node's own copies; by default one among temporary files")
    log: str = Field("text", description="`text`, or `json`: an object a line, with the ids of what is worked on")
    # These two are read by dancedist.weights, which knows no cluster.
    weights: str = Field("", description="folders, with : between, of weights that were brought by hand")
    xdg_cache_home: Path = Field(
        Path("~/.cache"),
        validation_alias="XDG_CACHE_HOME",
        description="fetched weights are in its dancedist/weights/",
    )
    # Read by dancedist.version_info.
    commit: str = Field("", description="what --version tells where there is no git; the image sets it")


class S3(Variables):
    """Which S3 store `s3://` is. The keys are read by minio and pyarrow, where they are used."""

    model_config = SettingsConfigDict(env_prefix="AWS_")

    endpoint_url: str = Field("https://s3.amazonaws.com", description="http(s)://host:port of the store")
    endpoint_url_s3: str = Field("", description="the same, and goes before it")
    access_key_id: SecretStr | None = Field(None, description="key of the store")
    secret_access_key: SecretStr | None = Field(None, description="its secret")
    session_token: SecretStr | None = Field(None, description="for keys that last for a while")
    region: str = Field("", description="us-east-1 where the store is not Amazon's")
    default_region: str = Field("", description="the same, and goes after it")
    ca_bundle: str = Field("", description="PEM file of the authorities that the store's certificate is checked with")
    ssl_cert_file: str = Field("", validation_alias="SSL_CERT_FILE", description="the same, and goes after it")

    @property
    def endpoint(self) -> str:
        """`http://` or `https://`, host and port."""
        return (self.endpoint_url_s3 or self.endpoint_url).rstrip("/")

    @property
    def is_amazon(self) -> bool:
        """Whether no other store is named."""
        return bool(self.endpoint == type(self).model_fields["endpoint_url"].default)

    @property
    def region_name(self) -> str | None:
        """The region; None where Amazon is to be asked. Elsewhere it seldom matters, and few keys may ask for it."""
        return self.region or self.default_region or (None if self.is_amazon else "us-east-1")


class MLflow(Variables):
    """How MLflow is reached. Its own patience is minutes: whoever calls it here has a better plan than to wait."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_")

    tracking_uri: str = Field("", description="http(s):// of a server; by default SQLite in the storage folder")
    tracking_username: str = Field("", description="for a server that asks who calls")
    tracking_password: SecretStr | None = Field(None, description="its password")
    tracking_token: SecretStr | None = Field(None, description="or a bearer token")
    experiment_name: str = Field("dancedist", description="the experiment of all fleets")
    http_request_max_retries: int = Field(0, description="reports are spooled and sent again anyway")
    # A proxied upload of a bundle is answered when the server has passed it on.
    http_request_timeout: int = Field(60, description="seconds until a server that does not answer is taken to be away")
    enable_artifacts_progress_bar: bool = Field(False, description="bars in the logs")
    disable_telemetry: bool = Field(True, description="nothing is told to MLflow's makers")
    backend_store_uri: SecretStr | None = Field(None, description="of an `mlflow server`: its database")
    artifacts_destination: str = Field("", description="of an `mlflow server`: folder or s3:// of its files")
    server_enable_job_execution: bool = Field(True, description="of an `mlflow server`: `false` saves 7 processes")


class Ray(Variables):
    """How Ray is reached, and where its defaults do not fit."""

    model_config = SettingsConfigDict(env_prefix="RAY_")

    address: str = Field("local", description="a running cluster, or a Ray of this process alone")
    auth_mode: str = Field("", description="`token` or `disabled`: whether Ray's ports ask for a token")
    auth_token: SecretStr | None = Field(None, description="the token")
    auth_token_path: Path | None = Field(None, description="or the file that it is in")
    usage_stats_enabled: int = Field(1, description="`0`: nothing is told to Ray's makers")
    grpc_client_keepalive_time_ms: int | None = Field(
        None,
        validation_alias="RAY_grpc_client_keepalive_time_ms",
        description="how often a silent node is asked whether it is there",
    )
    grpc_client_keepalive_timeout_ms: int | None = Field(
        None,
        validation_alias="RAY_grpc_client_keepalive_timeout_ms",
        description="how long that may take until its network is taken to be cut",
    )
    train_health_check_interval_s: float = Field(0.1, description="every report of a training waits for the next look")
    train_enable_preemption_watcher: bool = Field(False, description="a process for each training that nobody asks")
    serve_default_http_host: str = Field("127.0.0.1", description="address that the render service listens at")
    # Serve gives up on its proxy after three times so many seconds, 5 by default: it starts more slowly on a small
    # machine that has other work. Only a Ray that is started by this process inherits it.
    serve_proxy_ready_check_timeout_s: float = Field(60.0, description="a third of what Serve waits for its proxy")


def _option(field: str) -> Any:
    return typer.Option(envvar=Shared.variable(field), help=Shared.model_fields[field].description)


# For the jobs: an option whose default is the variable.
StorageOption = Annotated[str, _option("storage")]
FleetOption = Annotated[Path, _option("fleet")]
STORAGE: str = Shared.model_fields["storage"].default
FLEET: Path = Shared.model_fields["fleet"].default
