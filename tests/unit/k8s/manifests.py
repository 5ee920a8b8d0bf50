"""The manifests that the overlays render to, and the pods that a cluster would create from them."""

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
# Path of the cluster spec in each of KubeRay's kinds.
CLUSTERS = {"RayCluster": "spec", "RayService": "spec.rayClusterConfig", "RayJob": "spec.rayClusterSpec"}

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod of `owner`, with its final labels."""

    name: str
    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """All objects of an overlay, as kustomize renders them."""
    _require_kubectl()
    result = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return tuple(yaml.load_all(result.stdout, Loader=yaml.CSafeLoader))


@cache
def _require_kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    version = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
    )
    # The kubectl of Debian 12 has kustomize 2.
    if int(json.loads(version.stdout).get("kustomizeVersion", "v2.0").lstrip("v").split(".")[0]) < 5:
        pytest.skip("needs kubectl 1.27 or newer")


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [thing for thing in rendered(overlay) if thing["kind"] in kinds]


def at(thing: Object, path: str) -> Any:
    for key in path.split("."):
        thing = thing[key]
    return thing


def ray_clusters(overlay: str) -> list[tuple[Object, Object]]:
    """Each object of KubeRay with the spec of its Ray cluster."""
    return [(owner, at(owner, CLUSTERS[owner["kind"]])) for owner in of_kind(overlay, *CLUSTERS)]


def pods(overlay: str) -> list[Pod]:
    """All pods, with the labels and containers that KubeRay adds, as far as the tests need them."""
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
    """The autoscaler container that KubeRay adds to the head; its ports and probes cannot be configured."""
    copied = ("resources", "securityContext", "volumeMounts")
    return {"name": "autoscaler", **{key: cluster["autoscalerOptions"][key] for key in copied}}
