"""What a Prometheus and a log tell of the service, and whether dashboards and rules ask for what there is."""

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
from tests.support.promql import Asked, asked
from tests.support.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
WITHIN_S = 240.0
# Not counted by the service; and what happens to it when it is ill, which test_renders looks at.
ELSEWHERE = ("poses", "training", "fleet")
RARE = {metrics.RENDERS_SEAMS_WIDENED, metrics.RENDERS_WORKERS_LOST, metrics.RENDERS_TAKEOVERS}
VALUES = {"state": PHASES, "stage": ("global",), "cause": ("failed",), "slug": ("unexpected",), "how": ("faded",)}
# Of these labels a rule looks at values that are always there; of others, at some that come with a fault.
LASTING = {"job", "le", "Name", "State", "state", "how"}
GPU = ("ray_node_gpus", "ray_node_gram")


@pytest.fixture(scope="module")
def told(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A film of two chunks, like no other."""
    path = tmp_path_factory.mktemp("film") / "long.mp4"
    write_dance(path, 6.4)
    ended = served.ended(served.send(path, dancer="ann", label=True), WITHIN_S)
    assert ended["state"] == "done" and len(ended["chunks"]) == 2, ended
    return ended


def test_dashboards_and_rules_ask_for_what_there_is(served: Served, told: dict[str, Any], tmp_path: Path) -> None:
    nobody = [np.zeros((180, 320, 3), np.uint8)] * 12
    write_film(tmp_path / "nobody.mp4", nobody, Fraction(25), crf=20, speed="ultrafast")
    assert served.ended(served.send(tmp_path / "nobody.mp4", dancer="ann"), WITHIN_S)["state"] == "failed"
    targets = {"ray": served.figures(), "service": [f"127.0.0.1:{served.port}"]}
    with Prometheus(tmp_path / "prometheus", targets) as prometheus:
        everything = asked()
        missing: list[str] = []

        def all_there() -> bool:
            # Gauges are forgotten soon.
            _count_what_is_counted_elsewhere()
            missing[:] = [gap for one in everything for gap in _gaps(prometheus, one)]
            return not missing

        try:
            prometheus.until(all_there, 60)
        except AssertionError:
            pytest.fail("\n".join(missing))
        assert {(rule["name"], rule["health"]) for rule in prometheus.rules()} == {
            (one.where, "ok") for one in everything if one.where.startswith("Dancedist")
        }


def test_a_logs_lines_of_a_render_are_found_by_its_ids(served: Served, told: dict[str, Any]) -> None:
    lines = [line for line in served.logged() if line.get("render") == told["id"]]
    assert {line["attempt"] for line in lines} == {1}
    for deployment in ("director", "renderer"):
        mine = [line for line in lines if line["pid"] in served.pids(deployment)]
        assert {line["chunk"] for line in mine if "chunk" in line} == {0, 1}, (deployment, lines)
    context = ray.get_runtime_context()
    assert {line["node"] for line in lines} == {context.get_node_id()}
    assert len({line["job"] for line in lines}) == 1


def _gaps(prometheus: Prometheus, one: Asked) -> list[str]:
    """Metrics and labels that an expression names, and Prometheus has never seen."""
    selectors = {selector: name for selector, name in one.selectors.items() if not _needs_gpu(selector)}
    gaps = []
    for selector, name in selectors.items():
        labelled = ",".join(f'{label}!=""' for label in sorted(one.matched(selector)))
        exact = selector if one.matched(selector) <= LASTING else f"{name}{{{labelled}}}"
        if not prometheus.series(exact):
            gaps.append(f"{one.where}: there is no {exact}")
    for label in one.labels if selectors else ():
        if not any(prometheus.series(f'{name}{{{label}!=""}}') for name in selectors.values()):
            gaps.append(f"{one.where}: nothing has the label {label}")
    return gaps


def _needs_gpu(selector: str) -> bool:
    return not torch.cuda.is_available() and (selector.startswith(GPU) or 'Name="GPU"' in selector)


def _count_what_is_counted_elsewhere() -> None:
    """In this process, which is one of the same Ray; that it is counted where it happens, other tests look at."""
    for metric in vars(metrics).values():
        if isinstance(metric, Metric) and (metric.info["name"].split("_")[1] in ELSEWHERE or metric in RARE):
            names = metric.info["tag_keys"]
            for values in itertools.product(*(VALUES[name] for name in names)):
                _count(metric, dict(zip(names, values, strict=True)))


def _count(metric: Metric, labels: dict[str, str]) -> None:
    assert isinstance(metric, Counter | Gauge)
    if isinstance(metric, Counter):
        metric.inc(1, labels)
    else:
        metric.set(1, labels)
