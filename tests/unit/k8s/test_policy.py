"""Security contexts, permissions, secrets, resources and probes of all pods."""

from __future__ import annotations

import re

import pytest

from tests.unit.k8s.manifests import OVERLAYS, Object, Pod, of_kind, pods, ray_clusters, rendered
from tests.unit.k8s.network import selects

# KubeRay adds this container and restarts the head when it ends.
WITHOUT_PROBES = {"autoscaler"}
WRITABLE = {"/tmp", "/cache", "/dev/shm"}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_container_runs_as_root(overlay: str) -> None:
    for pod, container in _containers(overlay):
        assert pod.spec["securityContext"]["runAsNonRoot"]
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not {"runAsUser", "privileged"} & own.keys()


def test_root_file_systems_are_read_only(overlay: str) -> None:
    for pod, container in _containers(overlay):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, pod.name


def test_nodes_have_their_writable_folders(overlay: str) -> None:
    for pod, container in _containers(overlay):
        if container["name"] == "ray":
            empty = {volume["name"] for volume in pod.spec["volumes"] if "emptyDir" in volume}
            assert {m["mountPath"] for m in container["volumeMounts"] if m["name"] in empty} == WRITABLE


def test_volumes_are_mounted_and_mounts_have_volumes(overlay: str) -> None:
    for pod in pods(overlay):
        claims = {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | claims
        mounted = {mount["name"] for container in pod.containers for mount in container["volumeMounts"]}
        # A queued job has no autoscaler, which would mount the account.
        assert mounted <= volumes
        assert volumes - mounted <= {"kubernetes"}


def test_only_the_autoscaler_may_talk_to_kubernetes(overlay: str) -> None:
    (account,) = of_kind(overlay, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert not of_kind(overlay, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    for pod, container in _containers(overlay):
        assert pod.spec["automountServiceAccountToken"] is False
        # The head uses KubeRay's account: with rights if it autoscales, without rights otherwise.
        if pod.labels.get("ray.io/node-type") != "head":
            assert pod.spec["serviceAccountName"] == account["metadata"]["name"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        has_token = "/var/run/secrets/kubernetes.io/serviceaccount" in mounts
        assert has_token == (container["name"] == "autoscaler")


def test_no_secret_is_in_a_manifest(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for pod, container in _containers(overlay):
        for variable in container.get("env", []):
            if re.search("KEY|SECRET|PASSWORD|TOKEN|AUTH|DATABASE|_URI", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], f"{pod.name}: {variable['name']}"
    for thing in of_kind(overlay, "ConfigMap"):
        for name, value in thing["data"].items():
            assert not re.search("SECRET|PASSWORD|TOKEN|ACCESS_KEY|DATABASE", name)
            assert not re.search(r"://[^/\s]*:[^/\s]*@", value), f"{name} holds a password"


def test_redis_password_is_a_reference(overlay: str) -> None:
    (service,) = of_kind(overlay, "RayService")
    options = service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert set(options["redisPassword"]) == {"valueFrom"}


def test_everything_is_in_the_namespace(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for thing in rendered(overlay):
        if thing["kind"] != "Namespace":
            assert thing["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_requests_are_limits_where_there_is_a_gpu(overlay: str) -> None:
    with_gpu = [c["resources"] for _, c in _containers(overlay) if "nvidia.com/gpu" in c["resources"]["limits"]]
    assert bool(with_gpu) == (overlay == "gpu")
    assert all(resources["requests"] == resources["limits"] for resources in with_gpu)


def test_every_container_has_requests_and_a_memory_limit(overlay: str) -> None:
    for pod, container in _containers(overlay):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), pod.name
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"], pod.name


def test_every_container_is_probed(overlay: str) -> None:
    for pod, container in _containers(overlay):
        if container["name"] not in WITHOUT_PROBES:
            assert {"livenessProbe", "readinessProbe"} <= container.keys(), pod.name


def test_heads_do_no_work(overlay: str) -> None:
    for _, cluster in ray_clusters(overlay):
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_clusters_are_sized_by_autoscaler_v2(overlay: str) -> None:
    for owner, cluster in ray_clusters(overlay):
        queued = "kueue.x-k8s.io/queue-name" in owner["metadata"].get("labels", {})
        assert cluster.get("enableInTreeAutoscaling", False) != queued
        assert queued or cluster["autoscalerOptions"]["version"] == "v2"


def test_serving_pods_have_a_disruption_budget(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    for pod in pods(overlay):
        serves = pod.labels["app.kubernetes.io/component"] in ("mlflow", "redis") or (
            pod.labels.get("app.kubernetes.io/instance") == "render" and pod.labels["ray.io/node-type"] == "worker"
        )
        selecting = [budget for budget in budgets if selects(budget["spec"]["selector"], pod.labels)]
        assert len(selecting) == serves, pod.name
        if selecting and "ray.io/node-type" in pod.labels:
            # For pods of other controllers Kubernetes supports only an absolute number.
            assert isinstance(selecting[0]["spec"]["minAvailable"], int)


def test_jobs_end_and_clean_up(overlay: str) -> None:
    for job in of_kind(overlay, "RayJob"):
        assert job["spec"]["shutdownAfterJobFinishes"]
        assert job["spec"]["ttlSecondsAfterFinished"] > 0
        assert job["spec"]["backoffLimit"] > 0
        # Labels that `kubectl apply -l component!=job` excludes and `kubectl create -l name=…` selects.
        labels = job["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == "job"
        assert labels["app.kubernetes.io/name"] == job["metadata"]["name"]


def _containers(overlay: str) -> list[tuple[Pod, Object]]:
    return [(pod, container) for pod in pods(overlay) for container in pod.containers]
