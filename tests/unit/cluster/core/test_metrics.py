"""One scheme of names, told in docs/operations.md as they are served; and rare things are counted where they happen."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.util.metrics import Counter, Histogram, Metric

from cluster.core import metrics
from cluster.training.executor import Fleet
from cluster.training.placement import Need, Node
from cluster.training.policy import FleetPolicy, Rules
from tests.support.promql import RAYS_OWN, Asked, asked, rules
from tests.unit.conftest import Counted

ROOT = Path(__file__).resolve().parents[4]
DOC = (ROOT / "docs" / "operations.md").read_text()
PARTS = {"poses": "cluster/", "training": "cluster/", "fleet": "cluster/", "renders": ""}


def served() -> dict[str, set[str]]:
    """Names as Prometheus has them, with their labels."""
    names: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Metric):
            told = f"ray_{metric.info['name']}"
            labels = {*metric.info["tag_keys"]}
            if isinstance(metric, Histogram):
                names |= {f"{told}_bucket": labels | {"le"}, f"{told}_sum": labels, f"{told}_count": labels}
            else:
                names[told + "_total" if isinstance(metric, Counter) else told] = labels
        elif isinstance(metric, metrics.Recorded):
            names[metric.name] = {*metric.labels}
    return names


def test_names_follow_the_scheme_and_each_is_counted_somewhere() -> None:
    declared = {n: m for n, m in vars(metrics).items() if isinstance(m, Metric | metrics.Recorded)}
    code = "".join(path.read_text() for folder in ("cluster", "serving") for path in (ROOT / folder).rglob("*.py"))
    for variable, metric in declared.items():
        name, told = (metric.name, metric.description) if isinstance(metric, metrics.Recorded) else (
            metric.info["name"], metric.info["description"],
        )  # fmt: skip
        assert re.fullmatch(rf"dancedist_({'|'.join(PARTS)})_[a-z_]+", name), name
        assert told and not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        assert len(re.findall(rf"\b{variable}\b(?!:)", code)) > 2, f"{variable} is declared and never counted"


def test_the_table_in_the_documentation_is_what_is_served() -> None:
    table = DOC.partition("### Metrics")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)(?:\{([\w, ]+)\})?` \| (.+) \|$", table, re.M)
    told = {name: {*labels.split(", ")} - {""} for name, labels, _ in rows}
    plain = {name.removesuffix("_bucket"): labels - {"le"} for name, labels in served().items() if not _part(name)}
    assert told == plain


def _part(name: str) -> bool:
    return name.endswith(("_sum", "_count"))


@pytest.mark.parametrize("one", asked(), ids=lambda one: one.where)
def test_dashboards_and_rules_name_what_is_declared(one: Asked) -> None:
    """Of Ray's own what its source has; tests/serving/test_watching.py asks a real Prometheus."""
    names = served()
    for selector, name in one.selectors.items():
        if "dancedist" in name:
            assert one.matched(selector) <= names[name], selector
    ours = set().union(*(names.get(name, RAYS_OWN.get(name, set())) for name in one.names))
    assert one.names <= names.keys() | RAYS_OWN.keys()
    assert one.labels <= ours | {"NodeAddress"}


def test_what_needs_a_gpu_is_in_rays_source() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    assert {name.removeprefix("ray_") for name in RAYS_OWN if name.startswith("ray_node")} <= METRICS_GAUGES.keys()


def test_a_fleet_tells_of_targets_in_every_state(counted: Counted) -> None:
    policy = FleetPolicy({"a": (Need(), 2.0), "b": (Need(), 1.0), "c": (Need(cpus=9), 1.0)}, Rules(no_room_s=0))
    policy.set_nodes([Node("n", 2)])
    policy.decide(0)
    policy.done("a")
    Fleet._count(SimpleNamespace(_policy=policy))  # type: ignore[arg-type]
    states = {labels[0]: values for (name, *labels), values in counted.items() if name == "dancedist_fleet_targets"}
    assert states == {"waiting": [0], "running": [1], "done": [1], "given up": [1]}


def test_every_alert_leads_to_a_heading_that_says_what_to_do() -> None:
    anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", DOC, re.M)}
    for rule in rules():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        file, _, anchor = annotations["runbook"].partition("#")
        assert (file, anchor in anchors) == ("docs/operations.md", True), annotations["runbook"]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
