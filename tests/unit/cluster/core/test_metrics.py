"""Metrics follow one naming scheme, are documented in monitoring.md, and cover all dashboards and alert rules."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.util.metrics import Counter, Histogram, Metric

from cluster.core import metrics
from cluster.training.executor import FleetExecutor
from cluster.training.placement import Node, ResourceRequest
from cluster.training.policy import FleetPolicy, Rules
from tests.support.promql import RAYS_OWN, PromQuery, all_queries, rules
from tests.unit.conftest import Counted

ROOT = Path(__file__).resolve().parents[4]
MONITORING = (ROOT / "docs" / "operations" / "monitoring.md").read_text()
RUNBOOK = "docs/operations/runbook.md"
PARTS = {"poses": "cluster/", "training": "cluster/", "fleet": "cluster/", "renders": ""}


def served() -> dict[str, set[str]]:
    """Names as served to Prometheus, with their labels."""
    names: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Metric):
            name = f"ray_{metric.info['name']}"
            labels = {*metric.info["tag_keys"]}
            if isinstance(metric, Histogram):
                names |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
            else:
                names[name + "_total" if isinstance(metric, Counter) else name] = labels
        elif isinstance(metric, metrics.RecordsMetric):
            names[metric.name] = {*metric.labels}
    return names


def test_names_follow_the_scheme_and_each_is_counted_somewhere() -> None:
    declared = {n: m for n, m in vars(metrics).items() if isinstance(m, Metric | metrics.RecordsMetric)}
    code = "".join(path.read_text() for folder in ("cluster", "serving") for path in (ROOT / folder).rglob("*.py"))
    for variable, metric in declared.items():
        name, description = (metric.name, metric.description) if isinstance(metric, metrics.RecordsMetric) else (
            metric.info["name"], metric.info["description"],
        )  # fmt: skip
        assert re.fullmatch(rf"dancedist_({'|'.join(PARTS)})_[a-z_]+", name), name
        assert description and not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        assert len(re.findall(rf"\b{variable}\b(?!:)", code)) > 2, f"{variable} is declared and never counted"


def test_the_documented_table_lists_the_served_metrics() -> None:
    table = MONITORING.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)(?:\{([\w, ]+)\})?` \| (.+) \|$", table, re.M)
    documented = {name: {*labels.split(", ")} - {""} for name, labels, _ in rows}
    plain = {name.removesuffix("_bucket"): labels - {"le"} for name, labels in served().items() if not _part(name)}
    assert documented == plain


def _part(name: str) -> bool:
    return name.endswith(("_sum", "_count"))


@pytest.mark.parametrize("query", all_queries(), ids=lambda query: query.where)
def test_dashboards_and_rules_use_declared_metrics_and_labels(query: PromQuery) -> None:
    """Ray's own metrics are those of RAYS_OWN; tests/serving/test_watching.py queries a real Prometheus."""
    names = served()
    for selector, name in query.selectors.items():
        if "dancedist" in name:
            assert query.matched(selector) <= names[name], selector
    ours = set().union(*(names.get(name, RAYS_OWN.get(name, set())) for name in query.names))
    assert query.names <= names.keys() | RAYS_OWN.keys()
    assert query.labels <= ours | {"NodeAddress"}


def test_gpu_metrics_are_in_rays_source() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    assert {name.removeprefix("ray_") for name in RAYS_OWN if name.startswith("ray_node")} <= METRICS_GAUGES.keys()


def test_a_fleet_counts_targets_in_every_state(counted: Counted) -> None:
    policy = FleetPolicy(
        {"a": (ResourceRequest(), 2.0), "b": (ResourceRequest(), 1.0), "c": (ResourceRequest(cpus=9), 1.0)},
        Rules(no_room_s=0),
    )
    policy.set_nodes([Node("n", 2)])
    policy.decide(0)
    policy.done("a")
    FleetExecutor._set_gauges(SimpleNamespace(_policy=policy))  # type: ignore[arg-type]
    states = {labels[0]: values for (name, *labels), values in counted.items() if name == "dancedist_fleet_targets"}
    assert states == {"waiting": [0], "running": [1], "done": [1], "given up": [1]}


def test_every_alert_links_to_a_runbook_heading() -> None:
    anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.M)}
    for rule in rules():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        file, _, anchor = annotations["runbook"].partition("#")
        assert (file, anchor in anchors) == (RUNBOOK, True), annotations["runbook"]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
