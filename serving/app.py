"""The Ray Serve application `serving.app:app`, configured by environment variables (`serve run serving.app:app`)."""

from __future__ import annotations

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from cluster.core import logs
from cluster.core.session import alive_nodes
from cluster.core.settings import RaySettings
from serving.api.routes import build_api
from serving.ops.periodic import periodic_tasks
from serving.settings import Settings
from serving.workers.dispatcher import Dispatcher
from serving.workers.replica import RenderReplica

RaySettings().export_defaults("serve_proxy_ready_check_timeout_s")


def build(settings: Settings) -> Application:
    """Build API, dispatchers and replicas as one application.

    Raises RecordsNotShared, TrackingRefused: here if Ray is initialized already, otherwise in each process.
    """
    if ray.is_initialized():
        settings.require_shared(alive_nodes())
    # Further requests wait at the dispatcher, which knows the render that each belongs to.
    replicas = serve.deployment(
        RenderReplica,
        name="replica",
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.render_batch,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
    ).bind(settings)
    dispatcher = serve.deployment(
        Dispatcher, name="dispatcher", num_replicas=settings.dispatchers, ray_actor_options={"num_cpus": 0}
    ).bind(settings, replicas, periodic_tasks(settings))

    # Serve calls a plain function in the replica to build the ASGI application there.
    def build_fastapi() -> FastAPI:
        logs.configure()
        settings.require_shared(alive_nodes())
        return build_api(settings)

    ingress = serve.ingress(build_fastapi)(_Ingress)
    api = serve.deployment(ingress, name="api", max_ongoing_requests=400, ray_actor_options={"num_cpus": 0})
    return api.bind(dispatcher)


class _Ingress:
    """HTTP ingress; it holds the dispatcher's handle so that Serve starts both."""

    def __init__(self, dispatcher: DeploymentHandle) -> None:
        self._dispatcher = dispatcher


def __getattr__(name: str) -> Application:
    # Settings create folders: build on access to `app`, not at import.
    if name == "app":
        return build(Settings())
    raise AttributeError(name)
