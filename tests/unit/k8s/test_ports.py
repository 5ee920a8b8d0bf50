"""Ports agree between containers, Services, probes and NetworkPolicies; policies allow only the required traffic."""

from __future__ import annotations

import pytest

from tests.unit.k8s.manifests import OVERLAYS, Object, Pod, of_kind, pods
from tests.unit.k8s.network import End, allows, selects

# Ports of containers that KubeRay adds, and ports that Ray opens by default.
BY_RAY = {44217, 44227}
DNS = End({"k8s-app": "kube-dns"}, "kube-system")
OPERATOR = End({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay")
INGRESS = End({"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx")
PROMETHEUS = End({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = End({"app.kubernetes.io/name": "stranger"}, "default")
NEIGHBOUR = End({"app.kubernetes.io/name": "stranger"})
API_SERVER = End({}, "", "10.96.0.1")
INTERNET = End({}, "", "203.0.113.7")


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_services_target_open_ports(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        targets = [pod for pod in pods(overlay) if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        assert targets, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            for pod in targets:
                assert _ports(pod)[port["targetPort"]] == port["port"]


def test_probes_use_open_ports(overlay: str) -> None:
    for pod in pods(overlay):
        for container in pod.containers:
            open_ports = {key for port in container.get("ports", []) for key in (port["name"], port["containerPort"])}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(kind, {}):
                    assert container[kind]["httpGet"]["port"] in open_ports, f"{pod.name} {kind}"


def test_policies_allow_only_ports_that_are_open(overlay: str) -> None:
    for policy in _policies(overlay):
        selected = [pod for pod in pods(overlay) if selects(policy["spec"]["podSelector"], pod.labels)]
        assert selected, policy["metadata"]["name"]
        listening = {port for pod in selected for port in _ports(pod).values()} | BY_RAY
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule.get("ports", [])} <= listening, policy["metadata"]["name"]


def test_every_pod_is_denied_by_default(overlay: str) -> None:
    denying = [p["spec"] for p in _policies(overlay) if not {"ingress", "egress"} & p["spec"].keys()]
    for direction in ("Ingress", "Egress"):
        for pod in [*(pod.labels for pod in pods(overlay)), NEIGHBOUR.labels]:
            assert any(direction in spec["policyTypes"] and selects(spec["podSelector"], pod) for spec in denying)


def test_required_connections_are_allowed(overlay: str) -> None:
    render, worker, shared = _ends(overlay, "render-headgroup", "render-cpu", "shared-cpu")
    mlflow, redis, job = _ends(overlay, "mlflow", "redis", "train-many-headgroup")
    connections = [(worker, render, 6379), (render, worker, 10002), (worker, worker, 20000), (shared, mlflow, 5000)]
    connections += [(job, mlflow, 5000), (render, redis, 6379), (INGRESS, worker, 8000), (INGRESS, render, 8000)]
    connections += [
        (OPERATOR, job, 8265),
        (OPERATOR, render, 8000),
        (PROMETHEUS, worker, 8080),
        (PROMETHEUS, worker, 8000),
    ]
    connections += [(render, API_SERVER, 443), (render, API_SERVER, 6443)]
    for user in (worker, job, mlflow):
        connections += [(user, *target) for target in _stores(overlay)]
    for source, target, port in connections:
        assert allows(_policies(overlay), source, target, port), (source, target, port)
    for pod in pods(overlay):
        assert allows(_policies(overlay), End(pod.labels), DNS, 53, "UDP")


def test_other_connections_are_refused(overlay: str) -> None:
    render, worker, shared = _ends(overlay, "render-headgroup", "render-cpu", "shared-cpu")
    mlflow, redis, job = _ends(overlay, "mlflow", "redis", "train-many-headgroup")
    connections = [
        (STRANGER, worker, 8000),
        (NEIGHBOUR, worker, 8000),
        (INGRESS, shared, 8000),
        (INGRESS, render, 8265),
    ]
    connections += [
        (STRANGER, render, 8265),
        (STRANGER, mlflow, 5000),
        (INGRESS, mlflow, 5000),
        (NEIGHBOUR, redis, 6379),
    ]
    connections += [(shared, redis, 6379), (job, redis, 6379), (mlflow, redis, 6379), (mlflow, worker, 8000)]
    connections += [(End(OPERATOR.labels, "default"), render, 8265), (OPERATOR, mlflow, 5000)]
    connections += [
        (redis, INTERNET, 443),
        (worker, INTERNET, 80),
        (worker, API_SERVER, 6443),
        (mlflow, API_SERVER, 6443),
    ]
    connections += [(redis, target, port) for target, port in _stores(overlay)]
    connections += [(STRANGER, target, port) for target, port in _stores(overlay) if target.address is None]
    if overlay == "local":
        connections += [(worker, INTERNET, 443), (mlflow, INTERNET, 443)]
    for source, target, port in connections:
        assert not allows(_policies(overlay), source, target, port), (source, target, port)


def _policies(overlay: str) -> list[Object]:
    return of_kind(overlay, "NetworkPolicy")


def _ports(pod: Pod) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for c in pod.containers for port in c.get("ports", [])}


def _ends(overlay: str, *names: str) -> list[End]:
    ends = {pod.name: End(pod.labels) for pod in pods(overlay)}
    return [ends[name] for name in names]


def _stores(overlay: str) -> list[tuple[End, int]]:
    """S3 and Postgres with their ports."""
    if overlay == "local":
        s3, postgres = _ends(overlay, "s3", "postgres")
        return [(s3, 8333), (postgres, 5432)]
    return [(INTERNET, 443), (INTERNET, 5432)]
