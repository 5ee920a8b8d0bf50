"""What a cluster's nodes have to give, and where workers fit into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Shares are counted in thousandths: sums of floats drift, and a GPU would be full at 0.9999.
MILLI = 1000


@dataclass(frozen=True, slots=True)
class Need:
    """What one target asks for: so many workers, each with so many cores and GPUs.

    A share of a GPU is for one worker alone: NCCL refuses two ranks on one GPU.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 0 or self.gpus < 0:
            raise ValueError(f"a need is of 1 worker at least, and of nothing negative: {self}")
        if self.gpus % 1 and (self.gpus > 1 or self.workers > 1):
            raise ValueError(f"a share of a GPU is for 1 worker, and less than 1: {self}")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. One that comes back is another, with a name of its own."""

    name: str
    cpus: float
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """What one worker holds: of a node, and of its GPUs by number; all in thousandths."""

    node: str
    cpus: int
    gpus: tuple[tuple[int, int], ...] = ()


Place = tuple[Piece, ...]


@dataclass(slots=True)
class _Free:
    """What a node has left; `gpus` by number."""

    cpus: int
    gpus: list[int] = field(default_factory=list)

    def piece(self, name: str, need: Need) -> Piece | None:
        """Room for one worker; a share goes to the fullest GPU that holds it, so that others stay whole."""
        cpus, gpus = round(need.cpus * MILLI), round(need.gpus * MILLI)
        if cpus > self.cpus:
            return None
        if 0 < gpus < MILLI:
            fits = [(left, i) for i, left in enumerate(self.gpus) if left >= gpus]
            return Piece(name, cpus, ((min(fits)[1], gpus),)) if fits else None
        whole = [i for i, left in enumerate(self.gpus) if left == MILLI][: gpus // MILLI]
        return Piece(name, cpus, tuple((i, MILLI) for i in whole)) if len(whole) == gpus // MILLI else None

    def take(self, piece: Piece, sign: int = 1) -> None:
        self.cpus -= sign * piece.cpus
        for i, share in piece.gpus:
            self.gpus[i] -= sign * share


class Room:
    """The nodes, and what is left of each."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._free: dict[str, _Free] = {}

    def set_nodes(self, nodes: Iterable[Node]) -> set[str]:
        """What the cluster has now. Returns the names of nodes that are gone."""
        now = {node.name: node for node in nodes}
        gone = self._nodes.keys() - now.keys()
        self._free = {name: self._free.get(name) or _empty(node) for name, node in now.items()}
        self._nodes = now
        return gone

    def place(self, need: Need) -> Place | None:
        """Where its workers fit now, on as few nodes as can be; None where they do not."""
        return _place(self._free, need)

    def ever_holds(self, need: Need) -> bool:
        """Whether its workers would fit if nothing else ran."""
        return _place({name: _empty(node) for name, node in self._nodes.items()}, need) is not None

    def take(self, place: Place) -> None:
        """Hold it. Asserts that it was free."""
        for piece in place:
            free = self._free[piece.node]
            free.take(piece)
            assert free.cpus >= 0 and min(free.gpus, default=0) >= 0, (piece, free)

    def give_back(self, place: Place) -> None:
        """Let go of it, but for what went with its node."""
        for piece in place:
            if piece.node in self._free:
                self._free[piece.node].take(piece, -1)


def _empty(node: Node) -> _Free:
    return _Free(round(node.cpus * MILLI), [MILLI] * node.gpus)


def _place(free: dict[str, _Free], need: Need) -> Place | None:
    """The first node with room for all of them, fullest first; else the emptiest nodes, as many as it takes."""
    if need.workers == 1:
        fits = ((_left(f), name, piece) for name, f in free.items() if (piece := f.piece(name, need)) is not None)
        best = min(fits, default=None, key=lambda fit: fit[:2])
        return None if best is None else (best[2],)
    pieces: list[Piece] = []
    by_room = sorted(free, key=lambda name: (-_left(free[name]), name))
    for name in by_room:
        node = _Free(free[name].cpus, [*free[name].gpus])
        while len(pieces) < need.workers and (piece := node.piece(name, need)) is not None:
            pieces.append(piece)
            node.take(piece)
    return tuple(pieces) if len(pieces) == need.workers else None


def _left(free: _Free) -> int:
    return sum(free.gpus) * MILLI + free.cpus
