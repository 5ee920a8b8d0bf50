"""Evaluate NetworkPolicies by Kubernetes' rules: once a policy selects a pod, only allowed traffic passes."""

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
    """Whether a label selector matches."""
    required = selector.get("matchLabels", {}).items()
    return all(labels.get(key) == value for key, value in required) and all(
        _matches(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _matches(expression: Object, labels: dict[str, str]) -> bool:
    assert expression["operator"] == "In"
    return labels.get(expression["key"]) in expression["values"]


def _passes(policies: Sequence[Object], own: End, other: End, port: int, protocol: str, direction: str) -> bool:
    if own.namespace != HERE or own.address is not None:
        return True
    selecting = [
        p["spec"]
        for p in policies
        if direction in p["spec"]["policyTypes"] and selects(p["spec"]["podSelector"], own.labels)
    ]
    peers = "to" if direction == "Egress" else "from"
    rules = [rule for spec in selecting for rule in spec.get(direction.lower(), [])]
    return not selecting or any(
        _allows_port(rule, port, protocol) and _allows_peer(rule, peers, other) for rule in rules
    )


def _allows_port(rule: Object, port: int, protocol: str) -> bool:
    if "ports" not in rule:
        return True
    return any(allowed["port"] == port and allowed.get("protocol", "TCP") == protocol for allowed in rule["ports"])


def _allows_peer(rule: Object, peers: str, other: End) -> bool:
    return peers not in rule or any(_is_peer(peer, other) for peer in rule[peers])


def _is_peer(peer: Object, other: End) -> bool:
    if "ipBlock" in peer:
        # Ends inside the cluster are matched by labels, not by address.
        return other.address is not None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.address is not None:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != HERE:
        return False
    return selects(peer.get("podSelector", {}), other.labels)
