"""What NetworkPolicies let through, by Kubernetes' rules: what no policy allows is refused once one selects a pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tests.unit.k8s.manifests import Object

HERE = "dancedist"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod of a namespace, or an address outside."""

    labels: dict[str, str]
    namespace: str = HERE
    address: str | None = None


def allows(policies: Sequence[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to `target`. Policies are those of the namespace HERE."""
    return _passes(policies, source, target, port, protocol, "Egress") and _passes(
        policies, target, source, port, protocol, "Ingress"
    )


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector fits."""
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _fits(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _fits(expression: Object, labels: dict[str, str]) -> bool:
    assert expression["operator"] == "In"
    return labels.get(expression["key"]) in expression["values"]


def _passes(policies: Sequence[Object], own: End, other: End, port: int, protocol: str, way: str) -> bool:
    if own.namespace != HERE or own.address is not None:
        return True
    mine = [
        p["spec"] for p in policies if way in p["spec"]["policyTypes"] and selects(p["spec"]["podSelector"], own.labels)
    ]
    peers = "to" if way == "Egress" else "from"
    rules = [rule for spec in mine for rule in spec.get(way.lower(), [])]
    return not mine or any(_port(rule, port, protocol) and _peer(rule, peers, other) for rule in rules)


def _port(rule: Object, port: int, protocol: str) -> bool:
    if "ports" not in rule:
        return True
    return any(one["port"] == port and one.get("protocol", "TCP") == protocol for one in rule["ports"])


def _peer(rule: Object, peers: str, other: End) -> bool:
    return peers not in rule or any(_is(peer, other) for peer in rule[peers])


def _is(peer: Object, other: End) -> bool:
    if "ipBlock" in peer:
        # What is in the cluster is named by its labels.
        return other.address is not None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.address is not None:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != HERE:
        return False
    return selects(peer.get("podSelector", {}), other.labels)
