"""`serve run serving.app:app`: the render service, by the settings in the environment."""

from __future__ import annotations

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from cluster.core import logs
from cluster.core.session import alive_nodes
from cluster.core.settings import Ray
from serving.api.routes import build_api
from serving.settings import Settings
from serving.workers.dispatcher import Director
from serving.workers.replica import Renderer

Ray().hand_on("serve_proxy_ready_check_timeout_s")


def build(settings: Settings) -> Application:
    """API, director and replicas as one application.

    Raises RecordsNotShared, TrackingRefused: here where the cluster is known already, else in each process.
    """
    if ray.is_initialized():
        settings.require_shared(alive_nodes())
    # As many more requests wait at the director, which knows whose they are.
    renderer = serve.deployment(
        Renderer,
        name="renderer",
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.lockstep,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
    ).bind(settings)
    director = serve.deployment(
        Director, name="director", num_replicas=settings.directors, ray_actor_options={"num_cpus": 0}
    ).bind(settings, renderer)

    # Serve takes a plain function for one that builds the application in the replica.
    def made() -> FastAPI:
        logs.begin()
        settings.require_shared(alive_nodes())
        return build_api(settings)

    door = serve.ingress(made)(_Door)
    api = serve.deployment(door, name="api", max_ongoing_requests=400, ray_actor_options={"num_cpus": 0})
    return api.bind(director)


class _Door:
    """What HTTP comes in by; it holds the director's handle so that Serve starts both."""

    def __init__(self, director: DeploymentHandle) -> None:
        self._director = director


def __getattr__(name: str) -> Application:
    # Settings make folders: not at import, and not without being asked.
    if name == "app":
        return build(Settings())
    raise AttributeError(name)
