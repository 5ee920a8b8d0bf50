"""What all Ray clusters of the tests have in common: how soon a node is given up, and who is there."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

# Where somebody has a Ray token lying about, Ray switches authentication on by itself.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

MB = 2**20
BIN = Path(sys.executable).parent

# A dead process answers "refused" at once: three of those are 3 s. A cut link answers nothing: three timeouts, 9 s.
# Keepalive: a task on a node behind a cut link is only tried again when its connection is given up, which is 7 min
# by Ray's defaults, however soon the node is known to be dead. Servers turn away who pings oftener than they do.
SYSTEM_CONFIG = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
    "grpc_keepalive_time_ms": 2000,
    "grpc_client_keepalive_time_ms": 5000,
    "grpc_client_keepalive_timeout_ms": 5000,
}


def environment(env: dict[str, str]) -> dict[str, str]:
    """This process's environment without its Ray, with this Python's `python` and `ray` in front."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    mine |= {"PATH": f"{BIN}:{mine['PATH']}", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return mine | env


def alive(address: str) -> list[Any]:
    """What the GCS at this address knows about the nodes that it takes for alive."""
    from ray._raylet import GcsClient

    try:
        infos = GcsClient(address=address).get_all_node_info(timeout=5).values()
    except Exception:  # not up yet; Ray has several errors for that
        return []
    return [info for info in infos if info.state == 0]


def alive_by_http(address: str, token: str) -> set[str]:
    """The same of a cluster that asks for a token, which a process of another cluster cannot take up."""
    request = urllib.request.Request(f"{address}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            told = json.load(answer)["data"]["summary"]
    except OSError:  # not up yet
        return set()
    # Of one that has just come, "ip" is not told yet.
    raylets = [node["raylet"] for node in told]
    return {raylet["nodeManagerAddress"] for raylet in raylets if raylet.get("state") == "ALIVE"}
