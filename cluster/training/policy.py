"""Scheduling policy of a fleet: which target is trained when, from resources, failures and a clock passed in.

Ray starts the workers. The policy asks Ray only for what fits now, so that nothing waits in Ray's own queue.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cluster.training.placement import Inventory, Node, Placement, ResourceRequest

Phase = Literal["waiting", "running", "done", "given up"]
PHASES: tuple[Phase, ...] = get_args(Phase)
# Effect on the next attempt: "failed" none, "out of memory" doubles a GPU share, "node lost" does not count.
Cause = Literal["failed", "out of memory", "node lost"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Retry limits and back-off of a fleet.

    A target that has been passed over for `patience_s` starts next, even if others would fit. `node_losses`: number of
    lost nodes that are not counted as the target's failures. `no_room_s`: how long a target may be too large for the
    whole cluster before it is given up.
    """

    attempts: int = 3
    back_off_s: float = 30.0
    longest_back_off_s: float = 600.0
    node_losses: int = 20
    patience_s: float = 120.0
    no_room_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Start:
    """Train this target now; `attempt` counts from 1."""

    name: str
    attempt: int
    resources: ResourceRequest
    placement: Placement


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try this target again."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until_s`; None: until an attempt ends or a node joins."""

    until_s: float | None


Decision = Start | GiveUp | Wait


@dataclass(slots=True, eq=False)
class _Target:
    name: str
    resources: ResourceRequest
    size: float
    phase: Phase = "waiting"
    failures: int = 0
    node_losses: int = 0
    not_before_s: float = 0.0
    passed_over_s: float | None = None
    why: str = ""
    placement: Placement = ()


class FleetPolicy:
    """Starts the largest targets first, as many as fit.

    `targets`: name -> (resources, size); size in any unit that grows with training time.
    """

    def __init__(self, targets: Mapping[str, tuple[ResourceRequest, float]], rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._inventory = Inventory()
        self._targets = {name: _Target(name, resources, size) for name, (resources, size) in targets.items()}
        self._open = len(self._targets)
        # Waiting targets by resources, the largest last: if that one does not fit, no other of its queue does.
        self._queues: dict[ResourceRequest, list[_Target]] = {}
        self._backing_off: set[_Target] = set()
        self._too_large_since_s: dict[ResourceRequest, float] = {}
        self._could_hold: dict[ResourceRequest, bool] = {}
        for target in self._targets.values():
            self._enqueue(target)

    @property
    def phases(self) -> dict[str, Phase]:
        """Phase of every target by name."""
        return {name: target.phase for name, target in self._targets.items()}

    def set_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """Update to the cluster's current nodes. Returns the targets that lost a node; they are tried again."""
        gone = self._inventory.set_nodes(nodes)
        self._could_hold.clear()
        lost = [t.name for t in self._targets.values() if gone & {bundle.node for bundle in t.placement}]
        for name in lost:
            self.failed(name, "node lost", 0.0, "a node was lost")
        return lost

    def done(self, name: str) -> None:
        """Mark a running target as trained."""
        self._close(self._stop(name), "done")

    def failed(self, name: str, cause: Cause, now_s: float, why: str, size: float | None = None) -> None:
        """Mark a running target's attempt as failed; `size`: remaining size after the last checkpoint, if known."""
        target = self._stop(name)
        target.phase, target.why, target.size = "waiting", why, target.size if size is None else size
        if cause == "node lost":
            target.node_losses += 1
        else:
            target.failures += 1
            back_off_s = self.rules.back_off_s * 2 ** (target.failures - 1)
            target.not_before_s = now_s + min(back_off_s, self.rules.longest_back_off_s)
        if cause == "out of memory" and target.resources.gpus < 1:
            target.resources = replace(target.resources, gpus=min(1.0, 2 * target.resources.gpus))
        self._backing_off.add(target)

    def decide(self, now_s: float) -> list[Decision]:
        """Return what to do now; the last decision is a Wait while any target is open. Empty if none is open."""
        decisions = self._give_up_exhausted()
        for target in sorted((t for t in self._backing_off if t.not_before_s <= now_s), key=lambda t: t.name):
            self._backing_off.remove(target)
            self._enqueue(target)
        decisions += [*self._give_up_too_large(now_s), *self._start_all(now_s)]
        if self._open:
            back_offs_end = [t.not_before_s for t in self._backing_off]
            deadlines = [since + self.rules.no_room_s for since in self._too_large_since_s.values()]
            decisions.append(Wait(min([*back_offs_end, *deadlines], default=None)))
        return decisions

    def _give_up_exhausted(self) -> list[Decision]:
        """Give up targets that have reached their retry limits."""
        rules = self.rules
        exhausted = [t for t in self._backing_off if t.failures >= rules.attempts or t.node_losses > rules.node_losses]
        self._backing_off.difference_update(exhausted)
        return [self._give_up(target) for target in sorted(exhausted, key=lambda t: t.name)]

    def _give_up_too_large(self, now_s: float) -> list[Decision]:
        """Give up targets that have been too large for the whole cluster for `no_room_s`."""
        given_up: list[Decision] = []
        for resources, queue in self._queues.items():
            if resources not in self._could_hold:
                self._could_hold[resources] = self._inventory.could_hold(resources)
            if self._could_hold[resources] or not queue:
                self._too_large_since_s.pop(resources, None)
            elif now_s >= self._too_large_since_s.setdefault(resources, now_s) + self.rules.no_room_s:
                for target in queue:
                    each = f"({resources.cpus:g} cores, {resources.gpus:g} GPUs)"
                    target.why = f"the cluster never held {resources.workers} x {each}"
                    given_up.append(self._give_up(target))
                queue.clear()
                del self._too_large_since_s[resources]
        return given_up

    def _start_all(self, now_s: float) -> list[Decision]:
        starts: list[Decision] = []
        full: set[ResourceRequest] = set()
        while heads := [queue[-1] for resources, queue in self._queues.items() if queue and resources not in full]:
            target = max(heads, key=lambda t: (self._starves(t, now_s), t.size, t.name))
            placement = self._inventory.find_room(target.resources)
            if placement is not None:
                starts.append(self._start(target, placement))
                continue
            full.add(target.resources)
            if self._could_hold[target.resources]:
                if target.passed_over_s is None:
                    target.passed_over_s = now_s
                if self._starves(target, now_s):
                    # Start nothing else, so that resources that become free go to this target.
                    break
        return starts

    def _starves(self, target: _Target, now_s: float) -> bool:
        return target.passed_over_s is not None and now_s - target.passed_over_s >= self.rules.patience_s

    def _start(self, target: _Target, placement: Placement) -> Start:
        self._queues[target.resources].remove(target)
        self._inventory.reserve(placement)
        target.phase, target.placement, target.passed_over_s = "running", placement, None
        return Start(target.name, target.failures + target.node_losses + 1, target.resources, placement)

    def _stop(self, name: str) -> _Target:
        target = self._targets[name]
        assert target.phase == "running", (name, target.phase)
        self._inventory.release(target.placement)
        target.placement = ()
        return target

    def _give_up(self, target: _Target) -> GiveUp:
        self._close(target, "given up")
        return GiveUp(target.name, target.why)

    def _close(self, target: _Target, phase: Phase) -> None:
        target.phase = phase
        self._open -= 1

    def _enqueue(self, target: _Target) -> None:
        insort(self._queues.setdefault(target.resources, []), target, key=lambda t: (t.size, t.name))
