"""`fit_nodes.py FILM STORAGE ZERO_STAGE ELASTIC EVENTS`: train with two workers of $RAY_ADDRESS, log events."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import ray

from cluster.training.target import ProgressEvent
from cluster.training.trainer import fit_target
from tests.unit.cluster.training.fits import ROOT, job, small


@ray.remote(num_cpus=0)
class EventWriter:
    """Appends step and ranks of every event to a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def receive(self, event: ProgressEvent) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": event.step, "ranks": event.ranks}) + "\n")


def main() -> None:
    film, storage, zero_stage, elastic, events_file = sys.argv[1:]
    env = {"PYTHONPATH": str(ROOT), "DANCEDIST_CACHE": os.environ["DANCEDIST_CACHE"]}
    # How long Ray Train waits for workers to start on a node whose loss it does not know yet: 60 s by default.
    env["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "15"
    ray.init(log_to_driver=False, runtime_env={"env_vars": env})
    recipe = small(zero_stage=int(zero_stage), elastic=elastic == "elastic", max_steps=40)
    target_job = job(film, storage, recipe, 2)
    head = ray.get_runtime_context().get_node_id()
    # The head node is not removed by the tests.
    on_head = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(head, soft=False)
    writer = EventWriter.options(scheduling_strategy=on_head).remote(events_file)  # type: ignore[attr-defined]
    fit = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_head)(fit_target)
    sys.stdout.write(json.dumps(asdict(ray.get(fit.remote(target_job, writer)))) + "\n")
    assert Path(events_file).exists()


if __name__ == "__main__":
    main()
