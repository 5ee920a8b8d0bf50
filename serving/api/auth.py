"""FastAPI dependencies of the routes: the service and the authenticated caller."""

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


ServiceDep = Annotated[Service, Depends(_service)]
CallerDep = Annotated[Caller, Depends(_caller)]
