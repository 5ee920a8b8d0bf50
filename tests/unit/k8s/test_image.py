"""Checks of the image that do not build it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from serving.ops.variables import known_variables

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ROOT / "k8s" / "image"
# Variables that the container runtime or CPython reads, not dancedist.
SYSTEM = {
    "HOME",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    with (IMAGE / "Dockerfile").open("rb") as file:
        lines = DockerfileParser(fileobj=file).structure
    return [(line["instruction"], line["value"]) for line in lines if line["instruction"] != "COMMENT"]


def last_stage(instructions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return instructions[max(i for i, (name, _) in enumerate(instructions) if name == "FROM") :]


def pinned(flavour: str) -> dict[str, Version]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", (IMAGE / f"{flavour}.lock").read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def required(extra: str) -> Iterator[Requirement]:
    """Direct dependencies of an extra, and of the project's other extras that it includes."""
    for line in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        if requirement.name != "dancedist":
            yield requirement
        for other in requirement.extras if requirement.name == "dancedist" else ():
            yield from required(other)


def test_copied_files_exist_and_are_in_the_build_context(instructions: list[tuple[str, str]]) -> None:
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [value.split()[:-1] for name, value in instructions if name == "COPY" and "--from" not in value]
    sources = {source for sources in copied for source in sources}
    assert {"dancedist", "cluster", "jobs", "serving", "pyproject.toml"} <= sources
    for source in sources:
        for flavour in ("cpu", "cuda"):
            assert (ROOT / source.replace("${FLAVOUR}", flavour)).exists()
        assert (re.sub(r"[^/]*\.lock$", "*.lock", source)) in context


def test_stages_and_arguments_are_declared_and_used(instructions: list[tuple[str, str]]) -> None:
    text = "\n".join(value for _, value in instructions)
    stages = {value.partition(" AS ")[2] for name, value in instructions if name == "FROM"}
    named = {stage for _, value in instructions for stage in re.findall(r"--from=(\w+)", value)}
    assert named <= stages
    declared = {value.partition("=")[0] for name, value in instructions if name == "ARG"}
    assert declared == set(re.findall(r"\$\{(\w+)\}", text))


def test_the_image_has_a_user_a_healthcheck_and_labels(instructions: list[tuple[str, str]]) -> None:
    last = last_stage(instructions)
    assert [value for name, value in last if name == "USER"] == ["10001:10001"]
    assert "/healthz" in next(value for name, value in last if name == "HEALTHCHECK")
    labels = next(value for name, value in last if name == "LABEL")
    assert "org.opencontainers.image.revision" in labels
    assert "org.opencontainers.image.licenses" in labels


def test_variables_are_known_and_point_to_copied_folders(instructions: list[tuple[str, str]]) -> None:
    last = last_stage(instructions)
    environment = dict(re.findall(r"(\w+)=(\S+)", next(value for name, value in last if name == "ENV")))
    assert environment.keys() <= known_variables().keys() | SYSTEM
    copied = {value.split()[-1] for name, value in last if name == "COPY"}
    assert {environment["DANCEDIST_WEIGHTS"], environment["PYTHONPATH"]} <= copied
    # The root may be read-only.
    assert all(environment[name].startswith("/tmp") for name in ("HOME", "XDG_CACHE_HOME", "DANCEDIST_CACHE"))


@pytest.mark.parametrize("flavour", ["cpu", "cuda"])
def test_a_lock_satisfies_pyproject(flavour: str) -> None:
    locked, requirements = pinned(flavour), [*required(""), *required("serve")]
    assert {"torch", "ray", "mlflow", "deepspeed", "psycopg", "av"} <= {r.name for r in requirements}
    environment = default_environment() | {"python_version": "3.11", "sys_platform": "linux"}
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"`make lock`: {requirement}, not {version}"


def test_each_flavour_has_its_torch() -> None:
    cpu, cuda = pinned("cpu"), pinned("cuda")
    assert cpu["torch"].local == "cpu"
    assert not any(name.startswith(("nvidia-cu", "triton")) for name in cpu)
    assert cuda["torch"].local is None
    assert any(name.startswith("nvidia-cu") for name in cuda)
    others = cpu.keys() - {"torch"}
    assert {name: cpu[name] for name in others} == {name: cuda[name] for name in others}


@pytest.mark.parametrize("flavour", ["cpu", "cuda", "sbom"])
def test_locked_packages_have_hashes_and_no_urls(flavour: str) -> None:
    text = (IMAGE / f"{flavour}.lock").read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned(flavour))
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_the_sbom_tool_is_locked_and_not_installed_here() -> None:
    (tool,) = required("sbom")
    assert tool.specifier.contains(pinned("sbom")[tool.name])
    assert importlib.util.find_spec("rfc3987_syntax") is None, "every process of Ray would import it for seconds"


def test_packages_built_from_source_are_locked(instructions: list[tuple[str, str]]) -> None:
    steps = "\n".join(value for name, value in instructions if name == "RUN")
    loop = re.search(r"for package in ([\w ]+);", steps)
    assert loop is not None
    assert set(loop[1].split()) <= pinned("cpu").keys() & pinned("cuda").keys()
