"""API keys and their scopes. `python -m serving.api.keys NAME` creates a key."""

from __future__ import annotations

import hmac
import secrets
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from dancedist.errors import FileInvalid
from serving.problems import RequestRejected

SCOPES = frozenset({"read", "render", "all"})


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    sha256: str
    scopes: frozenset[str]


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: list[_Key]


@dataclass(frozen=True)
class Caller:
    """The authenticated caller. The scope `all` gives access to other keys' renders too."""

    key_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raise RequestRejected unless the caller has the scope."""
        if scope not in self.scopes:
            raise RequestRejected("forbidden", "the key lacks the required scope", expected=f"scope {scope}")


class ApiKeys:
    """The keys in a file. Without a file, callers on this machine have all scopes and others are refused."""

    def __init__(self, path: Path | None) -> None:
        self._keys = None if path is None else _read(path)

    def caller(self, request: Request) -> Caller:
        """Authenticate a request. Raises RequestRejected."""
        if self._keys is None:
            if _is_local(request):
                return Caller("here", SCOPES)
            raise RequestRejected(
                "unauthorized",
                "without API keys only this machine is served",
                expected="DANCEDIST_API_KEYS",
            )
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        digest = sha256(token.strip().encode()).hexdigest()
        # Compare with every key, so that timing reveals nothing.
        matching = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if scheme.lower() != "bearer" or not matching:
            raise RequestRejected("unauthorized", "needs an API key", expected="Authorization: Bearer KEY")
        return Caller(matching[0].id, matching[0].scopes)


def _is_local(request: Request) -> bool:
    # A proxy on this machine forwards requests of others.
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"} & {*request.headers.keys()}
    try:
        return not forwarded and request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> list[_Key]:
    try:
        keys = _KeyFile.model_validate(tomllib.loads(path.read_text())).key
    except (OSError, ValueError, ValidationError) as error:
        raise FileInvalid("is not a file of API keys", file=path, got=str(error).splitlines()[0]) from error
    for key in keys:
        if len(key.sha256) != 64 or not key.scopes <= SCOPES:
            raise FileInvalid(
                "has an invalid key", file=path, expected=f"sha256, scopes of {sorted(SCOPES)}", got=key.id
            )
    return keys


def _create(
    name: str, scopes: Annotated[str, typer.Option(help="Comma-separated: read, render, all.")] = "read,render"
) -> None:
    """Create an API key. The key is shown only once: the file stores its hash."""
    key = secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in scopes.split(","))
    typer.echo(f"# for {name}: {key}", err=True)
    typer.echo(f'[[key]]\nid = "{name}"\nsha256 = "{sha256(key.encode()).hexdigest()}"\nscopes = [{listed}]')


if __name__ == "__main__":
    typer.run(_create)
