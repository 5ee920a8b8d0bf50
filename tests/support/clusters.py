"""Shared by all Ray clusters of the tests: failure detection settings, environment, and the living nodes."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

# Ray turns authentication on by itself if it finds a token on this machine.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

MB = 2**20
BIN = Path(sys.executable).parent

# A dead process refuses connections at once: three refusals take 3 s. A cut link gives no answer: three timeouts, 9 s.
# Keepalive: a task on a node behind a cut link is retried only when its connection breaks, by Ray's defaults after
# 7 min, however soon the node is declared dead. Servers reject clients that ping more often than they do themselves.
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
    """This process's environment without its RAY_ variables, this Python's `python` and `ray` first on the PATH."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    inherited |= {"PATH": f"{BIN}:{inherited['PATH']}", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return inherited | env


def alive(address: str) -> list[Any]:
    """Information about the living nodes from the GCS at this address; none while it does not answer."""
    from ray._raylet import GcsClient

    try:
        infos = GcsClient(address=address).get_all_node_info(timeout=5).values()
    except Exception:  # not up yet; Ray has several errors for that
        return []
    return [info for info in infos if info.state == 0]


def alive_by_http(address: str, token: str) -> set[str]:
    """Addresses of the living nodes of a cluster with a token, which a process of another cluster cannot use."""
    request = urllib.request.Request(f"{address}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            summary = json.load(response)["data"]["summary"]
    except OSError:  # not up yet
        return set()
    # "ip" of a new node is not set yet, so use the raylet's address.
    raylets = [node["raylet"] for node in summary]
    return {raylet["nodeManagerAddress"] for raylet in raylets if raylet.get("state") == "ALIVE"}
