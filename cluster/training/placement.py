"""Resources of the cluster's nodes, and placement of workers on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Resources are counted in integer thousandths: sums of floats drift, and a GPU would be full at 0.9999.
MILLI = 1000


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """Resources of one target: number of workers; CPU cores and GPUs of each worker.

    A fraction of a GPU is allowed for a single worker only: NCCL refuses two ranks on one GPU.
    Raises ValueError for a request that makes no sense.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 0 or self.gpus < 0:
            raise ValueError(f"a request needs at least 1 worker and no negative amounts: {self}")
        if self.gpus % 1 and (self.gpus > 1 or self.workers > 1):
            raise ValueError(f"a fraction of a GPU needs exactly 1 worker and gpus below 1: {self}")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. A machine that comes back is a new node with a new name."""

    name: str
    cpus: float
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class ResourceBundle:
    """Resources reserved for one worker on a node, in thousandths; `gpus`: (GPU number, share) pairs."""

    node: str
    cpus: int
    gpus: tuple[tuple[int, int], ...] = ()


Placement = tuple[ResourceBundle, ...]


@dataclass(slots=True)
class _Free:
    """Free resources of a node in thousandths; `gpus` by GPU number."""

    cpus: int
    gpus: list[int] = field(default_factory=list)

    def bundle(self, name: str, resources: ResourceRequest) -> ResourceBundle | None:
        """Find resources for one worker, None if there are none.

        A fraction goes to the fullest GPU that can hold it, so that other GPUs stay free for whole requests.
        """
        cpus, gpus = round(resources.cpus * MILLI), round(resources.gpus * MILLI)
        if cpus > self.cpus:
            return None
        if 0 < gpus < MILLI:
            fits = [(free, i) for i, free in enumerate(self.gpus) if free >= gpus]
            return ResourceBundle(name, cpus, ((min(fits)[1], gpus),)) if fits else None
        unused = [i for i, free in enumerate(self.gpus) if free == MILLI][: gpus // MILLI]
        return ResourceBundle(name, cpus, tuple((i, MILLI) for i in unused)) if len(unused) == gpus // MILLI else None

    def reserve(self, bundle: ResourceBundle, sign: int = 1) -> None:
        self.cpus -= sign * bundle.cpus
        for i, share in bundle.gpus:
            self.gpus[i] -= sign * share


class Inventory:
    """The nodes and their free resources."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._free: dict[str, _Free] = {}

    def set_nodes(self, nodes: Iterable[Node]) -> set[str]:
        """Update to the cluster's current nodes. Returns the names of nodes that are gone."""
        now = {node.name: node for node in nodes}
        gone = self._nodes.keys() - now.keys()
        self._free = {name: self._free.get(name) or _all_free(node) for name, node in now.items()}
        self._nodes = now
        return gone

    def find_room(self, resources: ResourceRequest) -> Placement | None:
        """Find a placement for the workers on as few nodes as possible; None if they do not fit now."""
        return _find_room(self._free, resources)

    def could_hold(self, resources: ResourceRequest) -> bool:
        """Whether the workers would fit if nothing else ran."""
        return _find_room({name: _all_free(node) for name, node in self._nodes.items()}, resources) is not None

    def reserve(self, placement: Placement) -> None:
        """Reserve a placement. Asserts that its resources are free."""
        for bundle in placement:
            free = self._free[bundle.node]
            free.reserve(bundle)
            assert free.cpus >= 0 and min(free.gpus, default=0) >= 0, (bundle, free)

    def release(self, placement: Placement) -> None:
        """Release a placement; resources of nodes that are gone are ignored."""
        for bundle in placement:
            if bundle.node in self._free:
                self._free[bundle.node].reserve(bundle, -1)


def _all_free(node: Node) -> _Free:
    return _Free(round(node.cpus * MILLI), [MILLI] * node.gpus)


def _find_room(free: dict[str, _Free], resources: ResourceRequest) -> Placement | None:
    """One worker: the fullest node that can hold it. Several: the emptiest nodes first, as many as needed."""
    if resources.workers == 1:
        fits = (
            (_total_free(f), name, bundle)
            for name, f in free.items()
            if (bundle := f.bundle(name, resources)) is not None
        )
        best = min(fits, default=None, key=lambda fit: fit[:2])
        return None if best is None else (best[2],)
    bundles: list[ResourceBundle] = []
    emptiest_first = sorted(free, key=lambda name: (-_total_free(free[name]), name))
    for name in emptiest_first:
        node = _Free(free[name].cpus, [*free[name].gpus])
        while len(bundles) < resources.workers and (bundle := node.bundle(name, resources)) is not None:
            bundles.append(bundle)
            node.reserve(bundle)
    return tuple(bundles) if len(bundles) == resources.workers else None


def _total_free(free: _Free) -> int:
    return sum(free.gpus) * MILLI + free.cpus
