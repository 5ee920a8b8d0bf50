"""Claim: the policy keeps 1,000 GPUs busy for 97 % of what is possible. `python benchmarks/fleet_simulation.py`

10,000 targets whose minutes are log-normal, on 125 nodes of 8 GPUs; one start in fifty fails somewhere on its way, and
10 nodes are lost. Nothing is trained: events are taken from a heap, decisions are the real policy's.
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
from cluster.training.placement import Need, Node
from cluster.training.policy import Cause, FleetPolicy, GiveUp, Start

TARGETS, NODES, GPUS, LOST, FAIL, SEED, BAR = 10_000, 125, 8, 10, 0.02, 7, 0.97
# What targets ask for, and how often: small ones share a GPU, large ones have several.
NEEDS = {Need(1, 2, 0.25): 0.2, Need(1, 2, 0.5): 0.2, Need(1, 4, 1): 0.5, Need(2, 4, 1): 0.07, Need(4, 4, 1): 0.03}
CHECKPOINT_S = 600.0


@dataclass
class Run:
    """One attempt: when it began, what is left of the target, and how it will end."""

    start: Start
    began_s: float
    left_s: float
    ends_s: float
    fails: bool


class Simulation:
    """A cluster of clockwork under the policy."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.now_s = rng, 0.0
        kinds = list(NEEDS)
        drawn = rng.choice(len(kinds), TARGETS, p=list(NEEDS.values()))
        minutes = rng.lognormal(np.log(60), 0.5, TARGETS)
        self.left_s = {f"t{i:05d}": float(m) * 60 for i, m in enumerate(minutes)}
        self.needs = {name: kinds[k] for name, k in zip(self.left_s, drawn, strict=True)}
        self.policy = FleetPolicy({name: (need, self.left_s[name]) for name, need in self.needs.items()})
        self.nodes = {f"n{i:03d}": Node(f"n{i:03d}", 64, GPUS) for i in range(NODES)}
        self.work_gpu_s = sum(self.left_s[n] * _gpus(self.needs[n]) for n in self.left_s)
        self.events: list[tuple[float, int, str, int]] = []
        self.running: dict[str, Run] = {}
        self.chain_s = dict.fromkeys(self.left_s, 0.0)
        self.used_gpu_s = self.decide_s = 0.0
        self.decisions = self.twice = 0
        self.losses_s: list[float] = []
        self.policy.set_nodes(self.nodes.values())

    def go(self) -> None:
        """Until every target is done or given up."""
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
        left = self.left_s[start.name]
        fails = bool(self.rng.random() < FAIL)
        ends = self.now_s + (left * float(self.rng.random()) if fails else left)
        self.running[start.name] = Run(start, self.now_s, left, ends, fails)
        heapq.heappush(self.events, (ends, self.decisions, start.name, start.attempt))

    def stop(self, name: str, cause: Cause | None) -> None:
        run = self.running.pop(name)
        ran_s = self.now_s - run.began_s
        self.used_gpu_s += ran_s * _gpus(run.start.need)
        self.chain_s[name] += ran_s
        kept = run.left_s if cause is None else ran_s // CHECKPOINT_S * CHECKPOINT_S
        self.left_s[name] -= kept
        if cause is None:
            self.policy.done(name)
        elif cause == "failed":
            self.policy.failed(name, cause, self.now_s, "bad luck", self.left_s[name])

    def lose_a_node(self) -> None:
        self.nodes.pop(sorted(self.nodes)[int(self.rng.integers(len(self.nodes)))])
        self.losses_s.append(self.now_s)
        for name in self.policy.set_nodes(self.nodes.values()):
            self.stop(name, "node lost")

    def bound_s(self) -> float:
        """No schedule ends sooner: all GPU seconds that were run, lost ones too, on all GPUs there were; or one
        target's own runs after each other."""
        left, at, gpus = self.used_gpu_s, 0.0, NODES * GPUS
        for loss in [*self.losses_s, float("inf")]:
            if left <= (loss - at) * gpus:
                break
            left, at, gpus = left - (loss - at) * gpus, loss, gpus - GPUS
        return max(at + left / gpus, max(self.chain_s.values()))


def _gpus(need: Need) -> float:
    return need.workers * need.gpus


def main() -> None:
    """Print and keep how near the policy comes to the bound."""
    simulation = Simulation(np.random.default_rng(SEED))
    simulation.go()
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
