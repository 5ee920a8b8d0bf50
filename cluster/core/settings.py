"""Environment variables: name, default and description of each, declared once.

Variables of the render service alone are in serving.settings; `python -m serving.ops.variables` prints all of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class EnvironmentSettings(BaseSettings):
    """Variables with one prefix. An empty variable counts as not set."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def env_name(cls, field: str) -> str:
        """Name of the environment variable of a field."""
        alias = cls.model_fields[field].validation_alias
        return alias if isinstance(alias, str) else f"{cls.model_config['env_prefix']}{field}".upper()

    @classmethod
    def old_env_names(cls, field: str) -> list[str]:
        """Former names of the variable that are still read."""
        alias = cls.model_fields[field].validation_alias
        return [str(name) for name in alias.choices[1:]] if isinstance(alias, AliasChoices) else []

    def export_defaults(self, *fields: str) -> None:
        """Export our defaults of variables that a library reads itself, unless they are set."""
        for field in fields:
            os.environ.setdefault(self.env_name(field), json.dumps(getattr(self, field)))


class SharedSettings(EnvironmentSettings):
    """Settings shared by jobs, their workers and the render service."""

    model_config = SettingsConfigDict(env_prefix="DANCEDIST_")

    storage: str = Field(
        "runs", description="folder shared by all nodes, or s3://bucket/prefix: dancers, renders, MLflow artifacts"
    )
    database: str = Field("", description="SQLAlchemy URL of the render records; default: SQLite in the storage folder")
    fleet: Path = Field(Path("fleet.toml"), description="TOML file of the dancers that train_many trains")
    cache: Path | None = Field(None, description="cache folder of each node; default: one in the temporary folder")
    log: str = Field("text", description="`text`, or `json`: one object per line, with correlation ids")
    # dancedist.weights reads these two itself: it does not import cluster.
    weights: str = Field("", description="folders of weights installed by hand, separated by `:`")
    xdg_cache_home: Path = Field(
        Path("~/.cache"),
        validation_alias="XDG_CACHE_HOME",
        description="downloaded weights are stored in its dancedist/weights/",
    )
    # Read by dancedist.version_info.
    commit: str = Field("", description="commit that --version reports where there is no git; set in the image")


class S3Settings(EnvironmentSettings):
    """The S3 store behind `s3://`. minio and pyarrow read the keys themselves."""

    model_config = SettingsConfigDict(env_prefix="AWS_")

    endpoint_url: str = Field("https://s3.amazonaws.com", description="http(s)://host:port of the store")
    endpoint_url_s3: str = Field("", description="the same; takes precedence over AWS_ENDPOINT_URL")
    access_key_id: SecretStr | None = Field(None, description="access key of the store")
    secret_access_key: SecretStr | None = Field(None, description="secret key of the store")
    session_token: SecretStr | None = Field(None, description="session token of temporary keys")
    region: str = Field("", description="region; default for stores other than Amazon's: us-east-1")
    default_region: str = Field("", description="the same; AWS_REGION takes precedence")
    ca_bundle: str = Field("", description="PEM file of the certificate authorities trusted for the store")
    ssl_cert_file: str = Field(
        "", validation_alias="SSL_CERT_FILE", description="the same; AWS_CA_BUNDLE takes precedence"
    )

    @property
    def endpoint(self) -> str:
        """URL of the store: `http://` or `https://`, host and port."""
        return (self.endpoint_url_s3 or self.endpoint_url).rstrip("/")

    @property
    def is_amazon(self) -> bool:
        """Whether the store is Amazon S3."""
        return bool(self.endpoint == type(self).model_fields["endpoint_url"].default)

    @property
    def region_name(self) -> str | None:
        """The region; None for Amazon, where minio looks it up.

        Other stores seldom use it, and few of their keys are allowed to look it up.
        """
        return self.region or self.default_region or (None if self.is_amazon else "us-east-1")


class MLflowSettings(EnvironmentSettings):
    """Connection to MLflow. Its own retries take minutes; reports here are queued and sent again instead."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_")

    tracking_uri: str = Field("", description="http(s):// URL of a server; default: SQLite in the storage folder")
    tracking_username: str = Field("", description="user name, if the server requires one")
    tracking_password: SecretStr | None = Field(None, description="password of that user")
    tracking_token: SecretStr | None = Field(None, description="bearer token, instead of user name and password")
    experiment_name: str = Field("dancedist", description="experiment of all fleets")
    http_request_max_retries: int = Field(
        0, description="retries of one request; reports are queued and sent again anyway"
    )
    # The server answers the upload of a bundle only after it has forwarded the files to its artifact store.
    http_request_timeout: int = Field(60, description="seconds until a server that does not answer counts as down")
    enable_artifacts_progress_bar: bool = Field(False, description="upload progress bars in the logs")
    disable_telemetry: bool = Field(True, description="send no usage data to MLflow's developers")
    backend_store_uri: SecretStr | None = Field(None, description="of an `mlflow server`: URL of its database")
    artifacts_destination: str = Field("", description="of an `mlflow server`: folder or s3:// URL of its artifacts")
    server_enable_job_execution: bool = Field(True, description="of an `mlflow server`: `false` saves 7 processes")


class RaySettings(EnvironmentSettings):
    """Connection to Ray, and other defaults than its own."""

    model_config = SettingsConfigDict(env_prefix="RAY_")

    address: str = Field("local", description="address of a running cluster; `local`: a Ray of this process alone")
    auth_mode: str = Field("", description="`token` or `disabled`: whether Ray's ports require a token")
    auth_token: SecretStr | None = Field(None, description="token for Ray's ports")
    auth_token_path: Path | None = Field(None, description="file that contains the token")
    usage_stats_enabled: int = Field(1, description="`0`: send no usage data to Ray's developers")
    grpc_client_keepalive_time_ms: int | None = Field(
        None,
        validation_alias="RAY_grpc_client_keepalive_time_ms",
        description="milliseconds between pings on an idle connection to a node",
    )
    grpc_client_keepalive_timeout_ms: int | None = Field(
        None,
        validation_alias="RAY_grpc_client_keepalive_timeout_ms",
        description="milliseconds without an answer to a ping until the connection counts as broken",
    )
    train_health_check_interval_s: float = Field(
        0.1, description="seconds between polls of a training's workers; every report waits for the next poll"
    )
    train_enable_preemption_watcher: bool = Field(
        False, description="one more process per training, which nothing here uses"
    )
    serve_default_http_host: str = Field("127.0.0.1", description="address that the render service listens on")
    # Serve gives up on its proxy after three times this time. Ray's default, 5 s, is too short on a small busy machine.
    # Only a Ray started by this process inherits it.
    serve_proxy_ready_check_timeout_s: float = Field(
        60.0, description="a third of the seconds that Serve waits for its proxy"
    )


def _option(field: str) -> Any:
    return typer.Option(envvar=SharedSettings.env_name(field), help=SharedSettings.model_fields[field].description)


# Options of the jobs that read the variable by default.
StorageOption = Annotated[str, _option("storage")]
FleetOption = Annotated[Path, _option("fleet")]
STORAGE: str = SharedSettings.model_fields["storage"].default
FLEET: Path = SharedSettings.model_fields["fleet"].default
