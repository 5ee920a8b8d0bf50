"""The rendered overlays are valid for Kubernetes, KubeRay and Ray Serve."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import DeploymentSchema, HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

from tests.unit.k8s.manifests import CLUSTERS, OVERLAYS, ROOT, Object, of_kind, ray_clusters, rendered

KUBERNETES = "1.33"
CRDS = ROOT.parent / "shared" / "crds" / "kuberay-1.7.0"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_builtin_kinds_are_valid(overlay: str) -> None:
    for thing in rendered(overlay):
        if thing["kind"] not in CLUSTERS:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("kind", CLUSTERS)
def test_kinds_of_ray_are_valid(kind: str, overlay: str) -> None:
    objects = of_kind(overlay, kind)
    assert objects
    for thing in objects:
        filled = copy.deepcopy(thing)
        _set_defaults(filled, _validator(kind).schema)
        _validator(kind).validate(filled)


@pytest.mark.parametrize("field", ["spec.headGroupSpec.template.spec.containers.0.imagge", "spec.workerGroupSpec"])
def test_a_misspelled_field_is_detected(field: str) -> None:
    thing = copy.deepcopy(of_kind(OVERLAYS[0], "RayCluster")[0])
    *parents, last = field.split(".")
    inner: Any = thing
    for key in parents:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = "x"
    with pytest.raises(jsonschema.ValidationError, match=last):
        _validator("RayCluster").validate(thing)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_serve_configuration_is_valid(overlay: str) -> None:
    (service,) = of_kind(overlay, "RayService")
    plain = yaml.safe_load(service["spec"]["serveConfigV2"])
    config = ServeDeploySchema.model_validate(plain)
    assert [application.import_path for application in config.applications] == ["serving.app:app"]
    # These schemas ignore unknown fields: check the names here.
    assert plain.keys() <= ServeDeploySchema.model_fields.keys()
    assert plain["http_options"].keys() <= HTTPOptionsSchema.model_fields.keys()
    for application in plain["applications"]:
        assert application.keys() <= ServeApplicationSchema.model_fields.keys()
        assert all(
            deployment.keys() <= DeploymentSchema.model_fields.keys() for deployment in application["deployments"]
        )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kuberay_would_accept_a_cluster(overlay: str) -> None:
    """Checks beyond the schema, from KubeRay's ValidateRayClusterSpec, as far as they apply here."""
    for owner, cluster in ray_clusters(overlay):
        assert len(owner["metadata"]["name"]) <= 41
        assert cluster["authOptions"] == {"mode": "token"}
        assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            names = {variable["name"] for variable in group["template"]["spec"]["containers"][0]["env"]}
            assert not names & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "RAY_enable_autoscaler_v2"}
            # Autoscaler v2 does not support restarting pods.
            assert "restartPolicy" not in group["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kueue_would_accept_a_queued_job(overlay: str) -> None:
    jobs = of_kind(overlay, "RayJob")
    queued = [job for job in jobs if "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]]
    assert queued == (jobs if overlay == "gpu" else [])
    for job in queued:
        assert job["spec"]["suspend"]
        assert job["spec"]["shutdownAfterJobFinishes"]
        assert "clusterSelector" not in job["spec"]
        assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]
        groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert len(groups) <= 7
        assert all(0 < group["replicas"] <= group["maxReplicas"] for group in groups)


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    file = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip("needs KubeRay's CRDs in ../shared/crds")
    crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    (version,) = (version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema: Object = version["schema"]["openAPIV3Schema"]
    _forbid_unknown_fields(schema)
    return jsonschema.Draft202012Validator(schema)


def _forbid_unknown_fields(schema: Object) -> None:
    """Make unknown fields an error; a server would drop them."""
    properties = schema.get("properties", {})
    if properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for inner in (*properties.values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            _forbid_unknown_fields(inner)


def _set_defaults(value: Any, schema: Object) -> None:
    """Set defaults, as a server does before validation."""
    if isinstance(value, list):
        for item in value:
            _set_defaults(item, schema.get("items", {}))
    elif isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if "default" in inner:
                value.setdefault(name, copy.deepcopy(inner["default"]))
            if name in value:
                _set_defaults(value[name], inner)
