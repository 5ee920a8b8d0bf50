"""`fit_nodes.py FILM STORAGE ZERO_STAGE ELASTIC TOLD`: a fit by two workers of $RAY_ADDRESS; news go into a file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import ray

from cluster.training.target import News
from cluster.training.trainer import fit_target
from tests.unit.cluster.training.fits import ROOT, job, small


@ray.remote(num_cpus=0)
class Scribe:
    """Writes down where every rank is, and how far."""

    def __init__(self, path: str) -> None:
        self.path = path

    def hear(self, news: News) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": news.step, "ranks": news.ranks}) + "\n")


def main() -> None:
    film, storage, zero_stage, elastic, told = sys.argv[1:]
    env = {"PYTHONPATH": str(ROOT), "DANCEDIST_CACHE": os.environ["DANCEDIST_CACHE"]}
    # How long Ray Train waits for a worker on a node that it does not know yet to be gone: 60 s by default.
    env["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "15"
    ray.init(log_to_driver=False, runtime_env={"env_vars": env})
    recipe = small(zero_stage=int(zero_stage), elastic=elastic == "elastic", max_steps=40)
    what = job(film, storage, recipe, 2)
    head = ray.get_runtime_context().get_node_id()
    # Where it stays.
    at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(head, soft=False)
    scribe = Scribe.options(scheduling_strategy=at).remote(told)  # type: ignore[attr-defined]
    fit = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=at)(fit_target)
    sys.stdout.write(json.dumps(asdict(ray.get(fit.remote(what, scribe)))) + "\n")
    assert Path(told).exists()


if __name__ == "__main__":
    main()
