"""Everything that the manifests name exists: modules, jobs, arguments, variables, Secrets, ConfigMaps, images."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from cluster.training.fleet_file import _FleetTable
from dancedist import __version__
from serving.ops.variables import known_variables
from serving.settings import Settings
from tests.unit.k8s.manifests import FOLDER, OVERLAYS, ROOT, Object, Pod, at, of_kind, pods, rendered

IN_THE_IMAGE = "/opt/dancedist/"
# Prefix of the repository's own variables.
OURS = "DANCEDIST_"
EVERY_NODE = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "MLFLOW_TRACKING_URI",
    "DANCEDIST_STORAGE",
    "DANCEDIST_DATABASE",
    "DANCEDIST_CACHE",
    "RAY_grpc_client_keepalive_time_ms",
    "RAY_grpc_client_keepalive_timeout_ms",
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_import_paths_exist(overlay: str) -> None:
    (service,) = of_kind(overlay, "RayService")
    for application in yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]:
        module, _, name = application["import_path"].partition(":")
        code = importlib.import_module(module)
        assert name in vars(code) or hasattr(code, "__getattr__")
        deployments = {"api", "dispatcher", "replica"}
        assert {deployment["name"] for deployment in application["deployments"]} <= deployments


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_jobs_accept_their_arguments(overlay: str) -> None:
    jobs = of_kind(overlay, "RayJob")
    assert jobs
    for job in jobs:
        python, script, *arguments = shlex.split(job["spec"]["entrypoint"])
        assert python == "python"
        assert script.startswith(IN_THE_IMAGE)
        name = script.removeprefix(f"{IN_THE_IMAGE}jobs/").removesuffix(".py")
        assert (ROOT / "jobs" / f"{name}.py").exists()
        app = typer.Typer()
        app.command()(getattr(importlib.import_module(f"jobs.{name}"), name))
        # Raises UsageError if an argument is missing or unknown.
        typer.main.get_command(app).make_context(name, arguments)
        for variable in re.findall(r"\$(\w+)", job["spec"]["entrypoint"]):
            assert variable in _environment(overlay, _head(overlay, job))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_fleet_file_of_a_job_is_mounted(overlay: str) -> None:
    (job,) = (job for job in of_kind(overlay, "RayJob") if "--fleet" in job["spec"]["entrypoint"])
    fleet = shlex.split(job["spec"]["entrypoint"])[-1]
    head = _head(overlay, job)
    (mount,) = (m for m in head.containers[0]["volumeMounts"] if fleet.startswith(m["mountPath"]))
    (volume,) = (v for v in head.spec["volumes"] if v["name"] == mount["name"])
    assert fleet.removeprefix(f"{mount['mountPath']}/") in _config_maps(overlay)[volume["configMap"]["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_sample_fleet_files_are_valid(overlay: str) -> None:
    _FleetTable.model_validate(tomllib.loads((FOLDER / overlay / "fleet.toml").read_text()))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_known(overlay: str) -> None:
    for pod in pods(overlay):
        environment = _environment(overlay, pod)
        assert {name for name in environment if name.startswith(OURS)} <= known_variables().keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_node_has_the_required_variables(overlay: str) -> None:
    for pod in pods(overlay):
        if "ray.io/node-type" in pod.labels:
            assert set(_environment(overlay, pod)) >= EVERY_NODE, pod.name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_valid_for_the_service(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings,) = (data for name, data in _config_maps(overlay).items() if name.startswith("settings-"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DANCEDIST_DATABASE", "postgresql+psycopg://u:p@postgres/dancedist")
    read = Settings()
    read.require_shared(nodes=2)
    assert read.storage.startswith("s3://")
    assert read.api_keys is not None
    for pod in pods(overlay):
        if pod.labels.get("app.kubernetes.io/instance") == "render":
            mounts = {mount["mountPath"] for mount in pod.containers[0]["volumeMounts"]}
            assert str(read.api_keys.parent) in mounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_replicas_fit_their_nodes(overlay: str) -> None:
    (settings,) = (data for name, data in _config_maps(overlay).items() if name.startswith("settings-"))
    need_gpu = float(settings.get("DANCEDIST_REPLICA_GPUS", 0))
    need_cpu = float(settings.get("DANCEDIST_REPLICA_CPUS", 1))
    count = int(settings["DANCEDIST_REPLICAS"])
    (service,) = of_kind(overlay, "RayService")
    capacity = 0
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        # The API and the dispatcher use 0.3 cores.
        fits = int((float(limits["cpu"]) - 0.3) // need_cpu)
        if need_gpu:
            fits = min(fits, int(float(limits.get("nvidia.com/gpu", 0)) // need_gpu))
        capacity += fits * group["maxReplicas"]
    assert capacity >= count


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_config_maps_that_are_referenced_exist(overlay: str) -> None:
    defined = {*_config_maps(overlay), "kube-root-ca.crt"}
    referenced = set(_names_under(rendered(overlay), "configMapRef", "configMapKeyRef", "configMap"))
    assert referenced
    assert referenced <= defined


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_that_are_referenced_are_in_the_readme(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    text = (FOLDER / overlay / "README.md").read_text()
    documented = {name: set(keys.split(", ")) for name, keys in re.findall(r"`([\w-]+)` \(([\w., -]+)\)", text)}
    referenced: dict[str, set[str]] = {}
    for reference in _references(rendered(overlay), "secretKeyRef"):
        referenced.setdefault(reference["name"], set()).add(reference["key"])
    for reference in _references(rendered(overlay), "secret"):
        referenced.setdefault(reference["secretName"], {"keys.toml"})
    assert {name: keys for name, keys in documented.items() if name in referenced} == referenced
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_pinned(overlay: str) -> None:
    for pod in pods(overlay):
        for container in pod.containers:
            if "image" in container:
                name, _, tag = container["image"].rpartition(":")
                assert name, f"{pod.name}: {container['image']} has no tag"
                assert re.match(r"\d", tag)
                assert "dancedist" not in name or tag.startswith(__version__)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mlflow_allows_the_host_name_that_nodes_use(overlay: str) -> None:
    (mlflow,) = (pod for pod in pods(overlay) if pod.name == "mlflow")
    arguments = mlflow.containers[0]["args"]
    allowed = arguments[arguments.index("--allowed-hosts") + 1].split(",")
    environment = _environment(overlay, mlflow)
    assert urlsplit(environment["MLFLOW_TRACKING_URI"]).netloc in allowed
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_host_names_in_settings_are_services(overlay: str) -> None:
    services = {service["metadata"]["name"]: service["spec"]["ports"] for service in of_kind(overlay, "Service")}
    (settings,) = (data for name, data in _config_maps(overlay).items() if name.startswith("settings-"))
    urls = [urlsplit(value) for value in settings.values() if value.startswith("http://")]
    (service,) = of_kind(overlay, "RayService")
    redis = at(service, "spec.rayClusterConfig.gcsFaultToleranceOptions.redisAddress")
    for url in (*urls, urlsplit(f"//{redis}")):
        assert url.port in {port["port"] for port in services[str(url.hostname)]}


def _head(overlay: str, owner: Object) -> Pod:
    (head,) = (pod for pod in pods(overlay) if pod.owner == owner and pod.labels.get("ray.io/node-type") == "head")
    return head


def _config_maps(overlay: str) -> dict[str, dict[str, str]]:
    return {thing["metadata"]["name"]: thing["data"] for thing in of_kind(overlay, "ConfigMap")}


def _environment(overlay: str, pod: Pod) -> dict[str, str]:
    """Environment variables of the pod's first container; those from Secrets have empty values."""
    container = pod.containers[0]
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= _config_maps(overlay)[source["configMapRef"]["name"]]
    return variables | {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def _references(things: Any, key: str) -> Iterator[Object]:
    """All mappings under `key`, at any depth."""
    if isinstance(things, dict):
        if isinstance(things.get(key), dict):
            yield things[key]
        for inner in things.values():
            yield from _references(inner, key)
    elif isinstance(things, list | tuple):
        for inner in things:
            yield from _references(inner, key)


def _names_under(things: Any, *keys: str) -> Iterator[str]:
    for key in keys:
        for reference in _references(things, key):
            yield reference["name"]
