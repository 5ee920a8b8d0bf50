"""API keys: who may do what. `python -m serving.api.keys NAME` makes one."""

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
from serving.api.errors import Refused

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
    """Who asks. With the scope `all`, other keys' renders are seen too."""

    key_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raises Refused."""
        if scope not in self.scopes:
            raise Refused("forbidden", "the key does not allow it", expected=f"scope {scope}")


class Keys:
    """The keys of a file; without one, whoever calls from this machine may do everything."""

    def __init__(self, path: Path | None) -> None:
        self._keys = None if path is None else _read(path)

    def caller(self, request: Request) -> Caller:
        """Who a request is from. Raises Refused."""
        if self._keys is None:
            if _from_here(request):
                return Caller("here", SCOPES)
            raise Refused("unauthorized", "without API keys only this machine is served", expected="DANCEDIST_API_KEYS")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        digest = sha256(given.strip().encode()).hexdigest()
        # All are compared, so that the time taken tells nothing.
        found = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if scheme.lower() != "bearer" or not found:
            raise Refused("unauthorized", "needs an API key", expected="Authorization: Bearer KEY")
        return Caller(found[0].id, found[0].scopes)


def _from_here(request: Request) -> bool:
    # A proxy on this machine speaks for others.
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"} & {*request.headers.keys()}
    try:
        return not forwarded and request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> list[_Key]:
    try:
        keys = _KeyFile.model_validate(tomllib.loads(path.read_text())).key
    except (OSError, ValueError, ValidationError) as error:
        raise FileInvalid("is no file of API keys", file=path, got=str(error).splitlines()[0]) from error
    for key in keys:
        if len(key.sha256) != 64 or not key.scopes <= SCOPES:
            raise FileInvalid(
                "has a key that is none", file=path, expected=f"sha256, scopes of {sorted(SCOPES)}", got=key.id
            )
    return keys


def _make(name: str, scopes: Annotated[str, typer.Option(help="Of read, render, all.")] = "read,render") -> None:
    """Make an API key: the file has its hash alone, so that the key is shown now and never again."""
    key = secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in scopes.split(","))
    typer.echo(f"# for {name}: {key}", err=True)
    typer.echo(f'[[key]]\nid = "{name}"\nsha256 = "{sha256(key.encode()).hexdigest()}"\nscopes = [{listed}]')


if __name__ == "__main__":
    typer.run(_make)
