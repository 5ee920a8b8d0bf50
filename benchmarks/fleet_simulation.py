"""Claim: the policy keeps 1,000 GPUs busy for 97 % of what is possible. `python benchmarks/fleet_simulation.py`

10,000 targets with log-normal durations run on 125 nodes of 8 GPUs; one start in fifty fails at a random time, and 10
nodes are lost. A discrete-event simulation: nothing is trained, but the decisions are the real policy's.
"""

from __future__ import annotations

import heapq
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.record import record
from cluster.training.placement import Node, ResourceRequest
from cluster.training.policy import Cause, FleetPolicy, GiveUp, Start

TARGETS, NODES, GPUS, LOST, FAIL, SEED, BAR = 10_000, 125, 8, 10, 0.02, 7, 0.97
# What targets request, and how often: small ones share a GPU, large ones use several.
REQUESTS = {
    ResourceRequest(1, 2, 0.25): 0.2,
    ResourceRequest(1, 2, 0.5): 0.2,
    ResourceRequest(1, 4, 1): 0.5,
    ResourceRequest(2, 4, 1): 0.07,
    ResourceRequest(4, 4, 1): 0.03,
}
CHECKPOINT_S = 600.0


@dataclass
class Run:
    """One attempt: its start, the remaining seconds of the target, and when and how it ends."""

    start: Start
    started_s: float
    remaining_s: float
    ends_s: float
    fails: bool


class Simulation:
    """A simulated cluster under the policy."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.now_s = rng, 0.0
        kinds = list(REQUESTS)
        drawn = rng.choice(len(kinds), TARGETS, p=list(REQUESTS.values()))
        minutes = rng.lognormal(np.log(60), 0.5, TARGETS)
        self.remaining_s = {f"t{i:05d}": float(m) * 60 for i, m in enumerate(minutes)}
        self.requests = {name: kinds[k] for name, k in zip(self.remaining_s, drawn, strict=True)}
        self.policy = FleetPolicy({name: (request, self.remaining_s[name]) for name, request in self.requests.items()})
        self.nodes = {f"n{i:03d}": Node(f"n{i:03d}", 64, GPUS) for i in range(NODES)}
        self.work_gpu_s = sum(self.remaining_s[n] * _gpus(self.requests[n]) for n in self.remaining_s)
        self.events: list[tuple[float, int, str, int]] = []
        self.running: dict[str, Run] = {}
        self.chain_s = dict.fromkeys(self.remaining_s, 0.0)
        self.used_gpu_s = self.decide_s = 0.0
        self.decisions = self.twice = 0
        self.losses_s: list[float] = []
        self.policy.set_nodes(self.nodes.values())

    def run(self) -> None:
        """Simulate until every target is done or given up."""
        rough_s = self.work_gpu_s / (NODES * GPUS)
        for i, at in enumerate(sorted(self.rng.uniform(0.1, 0.9, LOST) * rough_s)):
            heapq.heappush(self.events, (float(at), i, "node", 0))
        while self.decide():
            self.now_s, _, name, attempt = heapq.heappop(self.events)
            if name == "node":
                self.lose_a_node()
            elif name in self.running and self.running[name].start.attempt == attempt:
                run = self.running[name]
                self.stop(name, "failed" if run.fails else None)

    def decide(self) -> bool:
        started = time.perf_counter()
        decisions = self.policy.decide(self.now_s)
        self.decide_s += time.perf_counter() - started
        for decision in decisions:
            if isinstance(decision, Start):
                self.begin(decision)
            elif not isinstance(decision, GiveUp) and decision.until_s is not None:
                heapq.heappush(self.events, (decision.until_s, -1, "", 0))
        self.decisions += 1
        return bool(decisions)

    def begin(self, start: Start) -> None:
        self.twice += start.name in self.running
        remaining = self.remaining_s[start.name]
        fails = bool(self.rng.random() < FAIL)
        ends = self.now_s + (remaining * float(self.rng.random()) if fails else remaining)
        self.running[start.name] = Run(start, self.now_s, remaining, ends, fails)
        heapq.heappush(self.events, (ends, self.decisions, start.name, start.attempt))

    def stop(self, name: str, cause: Cause | None) -> None:
        run = self.running.pop(name)
        ran_s = self.now_s - run.started_s
        self.used_gpu_s += ran_s * _gpus(run.start.resources)
        self.chain_s[name] += ran_s
        saved = run.remaining_s if cause is None else ran_s // CHECKPOINT_S * CHECKPOINT_S
        self.remaining_s[name] -= saved
        if cause is None:
            self.policy.done(name)
        elif cause == "failed":
            self.policy.failed(name, cause, self.now_s, "simulated failure", self.remaining_s[name])

    def lose_a_node(self) -> None:
        self.nodes.pop(sorted(self.nodes)[int(self.rng.integers(len(self.nodes)))])
        self.losses_s.append(self.now_s)
        for name in self.policy.set_nodes(self.nodes.values()):
            self.stop(name, "node lost")

    def bound_s(self) -> float:
        """Lower bound of the makespan in seconds.

        Either all GPU seconds that were run, lost ones included, on all GPUs that existed, or the runs of one target,
        which cannot overlap.
        """
        remaining, at, gpus = self.used_gpu_s, 0.0, NODES * GPUS
        for loss in [*self.losses_s, float("inf")]:
            if remaining <= (loss - at) * gpus:
                break
            remaining, at, gpus = remaining - (loss - at) * gpus, loss, gpus - GPUS
        return max(at + remaining / gpus, max(self.chain_s.values()))


def _gpus(request: ResourceRequest) -> float:
    return request.workers * request.gpus


def main() -> None:
    """Print and record how close the policy comes to the bound."""
    simulation = Simulation(np.random.default_rng(SEED))
    simulation.run()
    phases = list(simulation.policy.phases.values())
    figures = {
        "makespan_h": simulation.now_s / 3600,
        "bound_h": simulation.bound_s() / 3600,
        "of_bound": simulation.bound_s() / simulation.now_s,
        "done": phases.count("done"),
        "given_up": phases.count("given up"),
        "lost": TARGETS - phases.count("done") - phases.count("given up"),
        "run_twice_at_once": simulation.twice,
        "gpu_hours_run": simulation.used_gpu_s / 3600,
        "gpu_hours_needed": simulation.work_gpu_s / 3600,
        "decisions": simulation.decisions,
        "ms_per_decision": 1000 * simulation.decide_s / simulation.decisions,
    }
    for name, value in figures.items():
        print(f"{name:20s}{value:12.3f}")
    record("fleet_simulation", figures["of_bound"] / BAR, 1.0, figures)


if __name__ == "__main__":
    main()
