"""What routes depend on: the service, and who calls."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from serving.api.keys import Caller
from serving.api.service import Service


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> Caller:
    return _service(request).keys.caller(request)


TheService = Annotated[Service, Depends(_service)]
TheCaller = Annotated[Caller, Depends(_caller)]
