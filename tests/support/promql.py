"""PromQL queries of dashboards and alert rules: the metrics and labels that they use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

DASHBOARDS = Path(__file__).resolve().parents[2] / "k8s" / "dashboards"
_SELECTOR = re.compile(r"\b((?:ray|dancedist)_\w+|up\b)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


@dataclass(frozen=True)
class PromQuery:
    """A PromQL expression of a panel or rule; `shown` is the legend or summary that displays its labels."""

    where: str
    expr: str
    shown: str = field(default="", compare=False)

    @property
    def selectors(self) -> dict[str, str]:
        """Metric name by selector, as written in the expression."""
        return {match[0]: match[1] for match in _SELECTOR.finditer(self.expr)}

    @property
    def names(self) -> set[str]:
        """Names of all metrics in the expression."""
        return {*self.selectors.values()}

    def matched(self, selector: str) -> set[str]:
        """Labels that a selector filters by."""
        return {label for label, _, _ in _MATCHER.findall(selector)}

    @property
    def labels(self) -> set[str]:
        """Labels that the expression groups by or its legend shows."""
        grouped = {label.strip() for labels in _GROUPED.findall(self.expr) for label in labels.split(",")}
        return grouped | {*_SHOWN.findall(self.shown)}


def all_queries() -> list[PromQuery]:
    """Queries of all dashboards and alert rules."""
    return [*_of_dashboards(), *_of_rules()]


def rules() -> list[dict[str, object]]:
    """All alert rules of k8s/dashboards/alerts.yaml."""
    groups = yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _of_dashboards() -> Iterator[PromQuery]:
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield PromQuery(f"{path.name}: {panel['title']}", target["expr"], target["legendFormat"])


def _of_rules() -> Iterator[PromQuery]:
    for rule in rules():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        yield PromQuery(str(rule["alert"]), str(rule["expr"]), annotations["summary"])


# Ray's own metrics that the queries use, with the labels that they need.
RAYS_OWN = {
    "up": {"job"},
    "ray_resources": {"Name", "State"},
    "ray_node_cpu_utilization": {"ip"},
    "ray_node_disk_utilization_percentage": {"ip"},
    "ray_node_gpus_utilization": {"ip", "GpuIndex"},
    "ray_node_gram_available": {"ip", "GpuIndex"},
    "ray_node_gram_used": {"ip", "GpuIndex"},
    "ray_node_mem_total": {"ip"},
    "ray_node_mem_used": {"ip"},
    "ray_serve_deployment_replica_healthy": {"deployment"},
    "ray_serve_deployment_replica_starts_total": {"deployment"},
    "ray_serve_http_request_latency_ms_bucket": {"route", "le"},
    "ray_serve_num_http_requests_total": {"route", "status_code"},
}
