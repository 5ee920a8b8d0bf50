"""Which target of a fleet is trained when: decisions from targets, room and failures, with no clock of its own.

Ray places the workers. Decided here is what is asked of it, so that nothing waits in Ray's queue that cannot run.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cluster.training.placement import Need, Node, Place, Room

Phase = Literal["waiting", "running", "done", "given up"]
PHASES: tuple[Phase, ...] = get_args(Phase)
# What a failure says of the next try: nothing, that the share of a GPU was too small, or that it was not its fault.
Cause = Literal["failed", "out of memory", "node lost"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How often and how soon a target is tried again.

    A large target that smaller ones were preferred to for `patience_s` is the next that starts, whatever else would
    fit. `losses`: so many lost nodes are not put down to the target itself.
    """

    attempts: int = 3
    back_off_s: float = 30.0
    longest_back_off_s: float = 600.0
    losses: int = 20
    patience_s: float = 120.0
    no_room_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Start:
    """Train this target now; `attempt` counts from 1."""

    name: str
    attempt: int
    need: Need
    place: Place


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Try this target no more."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing more before `until_s`; where that is None, before something ends or a node comes."""

    until_s: float | None


Decision = Start | GiveUp | Wait


@dataclass(slots=True, eq=False)
class _Target:
    name: str
    need: Need
    size: float
    phase: Phase = "waiting"
    failures: int = 0
    losses: int = 0
    not_before_s: float = 0.0
    passed_over_s: float | None = None
    why: str = ""
    place: Place = ()


class FleetPolicy:
    """The largest first, as many as fit. `targets`: name -> (need, size in any unit that grows with its time)."""

    def __init__(self, targets: Mapping[str, tuple[Need, float]], rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._room = Room()
        self._targets = {name: _Target(name, need, size) for name, (need, size) in targets.items()}
        self._open = len(self._targets)
        # Waiting ones by need, the largest last: where that one does not fit, the others do not either.
        self._queues: dict[Need, list[_Target]] = {}
        self._resting: set[_Target] = set()
        self._too_large_since_s: dict[Need, float] = {}
        self._ever_held: dict[Need, bool] = {}
        for target in self._targets.values():
            self._queue(target)

    @property
    def phases(self) -> dict[str, Phase]:
        """Where every target stands."""
        return {name: target.phase for name, target in self._targets.items()}

    def set_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """What the cluster has now. Returns the targets that a lost node has ended; they are tried again."""
        gone = self._room.set_nodes(nodes)
        self._ever_held.clear()
        lost = [t.name for t in self._targets.values() if gone & {piece.node for piece in t.place}]
        for name in lost:
            self.failed(name, "node lost", 0.0, "a node was lost")
        return lost

    def done(self, name: str) -> None:
        """A running target is trained."""
        self._close(self._stopped(name), "done")

    def failed(self, name: str, cause: Cause, now_s: float, why: str, size: float | None = None) -> None:
        """A running target came to nothing; `size` is what is left of it, where a checkpoint keeps the rest."""
        target = self._stopped(name)
        target.phase, target.why, target.size = "waiting", why, target.size if size is None else size
        if cause == "node lost":
            target.losses += 1
        else:
            target.failures += 1
            rest_s = self.rules.back_off_s * 2 ** (target.failures - 1)
            target.not_before_s = now_s + min(rest_s, self.rules.longest_back_off_s)
        if cause == "out of memory" and target.need.gpus < 1:
            target.need = replace(target.need, gpus=min(1.0, 2 * target.need.gpus))
        self._resting.add(target)

    def decide(self, now_s: float) -> list[Decision]:
        """What to do now, and a Wait last while any target is open; nothing at all when none was."""
        decisions = self._spent()
        for target in sorted((t for t in self._resting if t.not_before_s <= now_s), key=lambda t: t.name):
            self._resting.remove(target)
            self._queue(target)
        decisions += [*self._too_large(now_s), *self._starts(now_s)]
        if self._open:
            rests_end = [t.not_before_s for t in self._resting]
            hopes_end = [since + self.rules.no_room_s for since in self._too_large_since_s.values()]
            decisions.append(Wait(min([*rests_end, *hopes_end], default=None)))
        return decisions

    def _spent(self) -> list[Decision]:
        """Targets that have failed as often as they may."""
        rules = self.rules
        spent = [t for t in self._resting if t.failures >= rules.attempts or t.losses > rules.losses]
        self._resting.difference_update(spent)
        return [self._given_up(target) for target in sorted(spent, key=lambda t: t.name)]

    def _too_large(self, now_s: float) -> list[Decision]:
        """Targets for which the cluster, all of it, was too small during `no_room_s`."""
        given_up: list[Decision] = []
        for need, queue in self._queues.items():
            if need not in self._ever_held:
                self._ever_held[need] = self._room.ever_holds(need)
            if self._ever_held[need] or not queue:
                self._too_large_since_s.pop(need, None)
            elif now_s >= self._too_large_since_s.setdefault(need, now_s) + self.rules.no_room_s:
                for target in queue:
                    target.why = f"the cluster never held {need.workers} x ({need.cpus:g} cores, {need.gpus:g} GPUs)"
                    given_up.append(self._given_up(target))
                queue.clear()
                del self._too_large_since_s[need]
        return given_up

    def _starts(self, now_s: float) -> list[Decision]:
        starts: list[Decision] = []
        full: set[Need] = set()
        while heads := [queue[-1] for need, queue in self._queues.items() if queue and need not in full]:
            target = max(heads, key=lambda t: (self._impatient(t, now_s), t.size, t.name))
            place = self._room.place(target.need)
            if place is not None:
                starts.append(self._started(target, place))
                continue
            full.add(target.need)
            if self._ever_held[target.need]:
                if target.passed_over_s is None:
                    target.passed_over_s = now_s
                if self._impatient(target, now_s):
                    # What others leave free now is kept for it.
                    break
        return starts

    def _impatient(self, target: _Target, now_s: float) -> bool:
        return target.passed_over_s is not None and now_s - target.passed_over_s >= self.rules.patience_s

    def _started(self, target: _Target, place: Place) -> Start:
        self._queues[target.need].remove(target)
        self._room.take(place)
        target.phase, target.place, target.passed_over_s = "running", place, None
        return Start(target.name, target.failures + target.losses + 1, target.need, place)

    def _stopped(self, name: str) -> _Target:
        target = self._targets[name]
        assert target.phase == "running", (name, target.phase)
        self._room.give_back(target.place)
        target.place = ()
        return target

    def _given_up(self, target: _Target) -> GiveUp:
        self._close(target, "given up")
        return GiveUp(target.name, target.why)

    def _close(self, target: _Target, phase: Phase) -> None:
        target.phase = phase
        self._open -= 1

    def _queue(self, target: _Target) -> None:
        insort(self._queues.setdefault(target.need, []), target, key=lambda t: (t.size, t.name))
