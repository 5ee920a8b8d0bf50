"""Metrics and logs of the service; dashboards and alert rules query only metrics and labels that exist."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.util.metrics import Counter, Gauge, Metric

from cluster.core import metrics
from cluster.training.policy import PHASES
from dancedist.video.encode import write_film
from tests.serving.conftest import write_dance
from tests.support.prometheus import Prometheus
from tests.support.promql import PromQuery, all_queries
from tests.support.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
WITHIN_S = 240.0
# Metrics that this service does not emit; and rare ones, which need failures (see test_renders).
ELSEWHERE = ("poses", "training", "fleet")
RARE = {metrics.RENDERS_SEAMS_WIDENED, metrics.RENDERS_WORKERS_LOST, metrics.RENDERS_TAKEOVERS}
VALUES = {"state": PHASES, "stage": ("global",), "cause": ("failed",), "slug": ("unexpected",), "how": ("faded",)}
# Labels whose queried values always exist. Values of other labels may appear only after a failure.
PERMANENT = {"job", "le", "Name", "State", "state", "how"}
GPU = ("ray_node_gpus", "ray_node_gram")


@pytest.fixture(scope="module")
def render(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished render of two chunks, of a source that no other test uses."""
    path = tmp_path_factory.mktemp("film") / "long.mp4"
    write_dance(path, 6.4)
    ended = served.ended(served.send(path, dancer="ann", label=True), WITHIN_S)
    assert ended["state"] == "done" and len(ended["chunks"]) == 2, ended
    return ended


def test_dashboards_and_rules_query_existing_metrics(served: Served, render: dict[str, Any], tmp_path: Path) -> None:
    empty_frames = [np.zeros((180, 320, 3), np.uint8)] * 12
    write_film(tmp_path / "nobody.mp4", empty_frames, Fraction(25), crf=20, x264_preset="ultrafast")
    assert served.ended(served.send(tmp_path / "nobody.mp4", dancer="ann"), WITHIN_S)["state"] == "failed"
    targets = {"ray": served.metric_addresses(), "service": [f"127.0.0.1:{served.port}"]}
    with Prometheus(tmp_path / "prometheus", targets) as prometheus:
        queries = all_queries()
        missing: list[str] = []

        def nothing_missing() -> bool:
            # Prometheus drops gauges soon: set them again at every try.
            _emit_other_metrics()
            missing[:] = [gap for query in queries for gap in _gaps(prometheus, query)]
            return not missing

        try:
            prometheus.until(nothing_missing, 60)
        except AssertionError:
            pytest.fail("\n".join(missing))
        assert {(rule["name"], rule["health"]) for rule in prometheus.rules()} == {
            (query.where, "ok") for query in queries if query.where.startswith("Dancedist")
        }


def test_log_lines_of_a_render_have_its_ids(served: Served, render: dict[str, Any]) -> None:
    lines = [line for line in served.logged() if line.get("render") == render["id"]]
    assert {line["attempt"] for line in lines} == {1}
    for deployment in ("dispatcher", "replica"):
        own_lines = [line for line in lines if line["pid"] in served.pids(deployment)]
        assert {line["chunk"] for line in own_lines if "chunk" in line} == {0, 1}, (deployment, lines)
    context = ray.get_runtime_context()
    assert {line["node"] for line in lines} == {context.get_node_id()}
    assert len({line["job"] for line in lines}) == 1


def _gaps(prometheus: Prometheus, query: PromQuery) -> list[str]:
    """Metrics and labels that a query names but Prometheus has never received."""
    selectors = {selector: name for selector, name in query.selectors.items() if not _needs_gpu(selector)}
    gaps = []
    for selector, name in selectors.items():
        labelled = ",".join(f'{label}!=""' for label in sorted(query.matched(selector)))
        exact = selector if query.matched(selector) <= PERMANENT else f"{name}{{{labelled}}}"
        if not prometheus.series(exact):
            gaps.append(f"{query.where}: there is no {exact}")
    for label in query.labels if selectors else ():
        if not any(prometheus.series(f'{name}{{{label}!=""}}') for name in selectors.values()):
            gaps.append(f"{query.where}: nothing has the label {label}")
    return gaps


def _needs_gpu(selector: str) -> bool:
    return not torch.cuda.is_available() and (selector.startswith(GPU) or 'Name="GPU"' in selector)


def _emit_other_metrics() -> None:
    """Emit from this process, which is part of the same Ray; other tests check that the code itself emits them."""
    for metric in vars(metrics).values():
        if isinstance(metric, Metric) and (metric.info["name"].split("_")[1] in ELSEWHERE or metric in RARE):
            names = metric.info["tag_keys"]
            for values in itertools.product(*(VALUES[name] for name in names)):
                _emit(metric, dict(zip(names, values, strict=True)))


def _emit(metric: Metric, labels: dict[str, str]) -> None:
    assert isinstance(metric, Counter | Gauge)
    if isinstance(metric, Counter):
        metric.inc(1, labels)
    else:
        metric.set(1, labels)
