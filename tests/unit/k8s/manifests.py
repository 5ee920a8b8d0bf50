"""What the overlays come to, as a cluster would be given it, and the pods that would be of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "k8s" / "overlays"
OVERLAYS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
# Where each of Ray's kinds describes its cluster.
CLUSTERS = {"RayCluster": "spec", "RayService": "spec.rayClusterConfig", "RayJob": "spec.rayClusterSpec"}

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod of `owner`, with the labels that it will have."""

    name: str
    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """All objects of an overlay."""
    _require_kubectl()
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@cache
def _require_kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    # Debian 12's brings kustomize 2.
    if int(json.loads(told.stdout).get("kustomizeVersion", "v2.0").lstrip("v").split(".")[0]) < 5:
        pytest.skip("needs kubectl 1.27 or newer")


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [thing for thing in rendered(overlay) if thing["kind"] in kinds]


def at(thing: Object, path: str) -> Any:
    for key in path.split("."):
        thing = thing[key]
    return thing


def ray_clusters(overlay: str) -> list[tuple[Object, Object]]:
    """Each of Ray's objects with the Ray cluster that it describes."""
    return [(owner, at(owner, CLUSTERS[owner["kind"]])) for owner in of_kind(overlay, *CLUSTERS)]


def pods(overlay: str) -> list[Pod]:
    """All that will run, with what KubeRay adds as far as it matters here."""
    return [*_plain(overlay), *_of_ray(overlay)]


def _plain(overlay: str) -> Iterator[Pod]:
    for owner in of_kind(overlay, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        template = owner["spec"]["template"]
        yield Pod(owner["metadata"]["name"], owner, template["metadata"]["labels"], template["spec"])


def _of_ray(overlay: str) -> Iterator[Pod]:
    for owner, cluster in ray_clusters(overlay):
        groups = [("head", cluster["headGroupSpec"])]
        groups += [("worker", group) for group in cluster["workerGroupSpecs"]]
        for node_type, group in groups:
            name = f"{owner['metadata']['name']}-{group.get('groupName', 'headgroup')}"
            template = group["template"]
            added = {"ray.io/node-type": node_type, "ray.io/is-ray-node": "yes"}
            spec = dict(template["spec"])
            if node_type == "head" and cluster.get("enableInTreeAutoscaling"):
                spec["containers"] = [*spec["containers"], _autoscaler(cluster)]
            yield Pod(name, owner, {**template["metadata"]["labels"], **added}, spec)


def _autoscaler(cluster: Object) -> Object:
    """The container that KubeRay puts beside the head; it has no port or probe that could be set."""
    taken = ("resources", "securityContext", "volumeMounts")
    return {"name": "autoscaler", **{key: cluster["autoscalerOptions"][key] for key in taken}}
