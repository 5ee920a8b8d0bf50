"""A Ray cluster of several hosts on this one machine: every node has its own network namespace."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.clusters import MB, SYSTEM_CONFIG, alive, alive_by_http, environment
from tests.support.one_host import OneHost

# Runs a command on a node, with its own host name and /tmp/ray, all nodes in /etc/hosts, and no name server, which
# would only time out. `ip netns exec` has unshared the mounts already. Nothing forks: the pid is the command's.
INSIDE = """
hostname "$1" && mount --bind "$0/$1" /tmp/ray || exit 1
for file in hosts resolv.conf; do mount --bind "$0/$file" "/etc/$file" || exit 1; done
shift && exec "$@"
"""
# The same without a shared disk: a node can read this machine's files, but writes to its own /tmp/ray only.
APART = """
mkdir -p "$0/$1/shm" && mount --bind "$0/$1/shm" /dev/shm || exit 1
""" + INSIDE.replace("shift", "mount -o remount,bind,ro / && shift")
# Number of the host for servers, higher than any node's.
SERVER = 99

KILL = 'while p=$(ip netns pids "$n") && [ -n "$p" ]; do kill -9 $p 2>/dev/null; sleep 0.05; done'

# Waits for a line from close(), or for end of file because the tests were killed, then removes everything.
JANITOR = f"""
read _
all=$(ip netns list | awk -v p="^$1[sn]" '$1 ~ p {{print $1}}')
for n in $all; do {KILL}; done
ip link del "$1h" 2>/dev/null
for n in $all; do ip netns del "$n"; done
rm -rf "$2"
"""

_counter = itertools.count()


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def available() -> str | None:
    """Why Nodes cannot be used here; None if it can."""
    if os.geteuid() != 0:
        return "not root"
    if missing := [tool for tool in ("ip", "awk", "mount", "unshare", "hostname") if not shutil.which(tool)]:
        return f"no {', '.join(missing)}"
    probe = f"dd{os.getpid()}p"
    try:
        _ip("netns", "add", probe)
        try:
            _ip("-n", probe, "link", "add", "name", "bridge", "type", "bridge")
            _ip("-n", probe, "link", "add", "name", "left", "type", "veth", "peer", "name", "right")
            _ip("netns", "exec", probe, "unshare", "--uts", "mount", "--bind", "/tmp", "/tmp")
        finally:
            _ip("netns", "del", probe)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.strip()}"
    return None


def _free_network(count: int) -> str:
    """First three numbers of an unused /24. Runs with other pids start their search elsewhere."""
    taken = _ip("-4", "route", "show", "table", "all")
    for k in itertools.count(os.getpid() * 8 + count):
        network = f"10.{64 + k // 256 % 64}.{k % 256}."
        if network not in taken:
            return network
    raise AssertionError


class Nodes:
    """A head (node 0) and workers, each `ray start --block` in a network namespace with its own address.

    A bridge connects them with each other and with this machine, which they see as `host_ip` ({host} in `env`). They
    reach nothing else.
    """

    def __init__(
        self,
        workers: int = 2,
        cpus_per_node: int = 1,
        env: dict[str, str] | None = None,
        *,
        head_cpus: int = 0,
        memory: int = 1024 * MB,
        object_store: int = 200 * MB,
        dashboard: bool = True,
        token: str | None = None,
        apart: bool = False,
        servers: Callable[[str, list[str]], dict[str, str]] | None = None,
    ) -> None:
        """Ray requires the `token`, if given. With `apart` no disk is shared: a node writes to its own /tmp/ray only.

        `servers(ip, enter)` starts servers on one more host, without Ray: `ip` is its address and `enter` the prefix
        of commands that run there. It returns environment variables with which the nodes find the servers.
        """
        self._token, self._apart, self._servers = token, apart, servers
        self._workers, self._cpus, self._head_cpus = workers, cpus_per_node, head_cpus
        self._memory, self._object_store, self._dashboard = memory, object_store, dashboard
        count = next(_counter)
        self._network = _free_network(count)
        self.host_ip = self._network + "1"
        self._env = environment({k: v.replace("{host}", self.host_ip) for k, v in (env or {}).items()})
        if token is not None:
            self._env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        if apart:
            self._env |= {"HOME": "/tmp/ray/home", "TMPDIR": "/tmp/ray", "DANCEDIST_CACHE": "/tmp/ray/cache"}
        self._name = f"dd{os.getpid()}{chr(97 + count % 26)}"  # names of links have 15 characters at most
        self._ray: list[subprocess.Popen[bytes]] = []
        self._gone: set[int] = set()
        self.address = f"{self.ip(0)}:6379"
        self.job_address = f"http://{self.ip(0)}:8265"

    def ip(self, i: int) -> str:
        """The address of node i."""
        return f"{self._network}{10 + i}"

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.host_ip} {self._name}h\n")
        (self.folder / "resolv.conf").touch()
        Path("/tmp/ray").mkdir(exist_ok=True)  # mount point; never removed, which would unmount it for others, too
        self._janitor = subprocess.Popen(
            ["sh", "-c", JANITOR, "sh", self._name, self.folder], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)
        try:
            self._lay_cables()
            if self._servers is not None:
                self._plug_in(SERVER)
                self._env |= self._servers(self.ip(SERVER), ["ip", "netns", "exec", f"{self._name}n{SERVER}"])
            for _ in range(1 + self._workers):
                self._start()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill everything on the nodes and remove them."""
        atexit.unregister(self.close)
        if self._janitor.poll() is None:
            self._janitor.communicate(b"\n", timeout=30)
        for process in self._ray:
            process.wait(timeout=10)

    def _lay_cables(self) -> None:
        # The bridge has its own namespace: a Docker host's firewall drops packets that other bridges forward.
        switch, host = f"{self._name}s", f"{self._name}h"
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        _ip("link", "add", host, "type", "veth", "peer", "name", "host", "netns", switch)
        _ip("-n", switch, "link", "set", "host", "master", "bridge", "up")
        _ip("addr", "add", f"{self.host_ip}/24", "dev", host)
        _ip("link", "set", host, "up")

    def _plug_in(self, i: int) -> None:
        switch, node = f"{self._name}s", f"{self._name}n{i}"
        _ip("netns", "add", node)
        _ip("-n", node, "link", "set", "lo", "up")
        _ip("-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", f"n{i}", "netns", switch)
        _ip("-n", switch, "link", "set", f"n{i}", "master", "bridge", "up")
        _ip("-n", node, "addr", "add", f"{self.ip(i)}/24", "dev", "eth0")
        _ip("-n", node, "link", "set", "eth0", "up")
        _ip("-n", node, "route", "add", "default", "via", self.host_ip)  # Ray finds its own address by the routes
        with (self.folder / "hosts").open("a") as hosts:
            hosts.write(f"{self.ip(i)} {node}\n")
        (self.folder / node).mkdir()

    def _start(self) -> int:
        i = len(self._ray)
        self._plug_in(i)
        head = ["--head", "--port=6379", f"--system-config={json.dumps(SYSTEM_CONFIG)}", "--dashboard-host=0.0.0.0"]
        head += [f"--include-dashboard={str(self._dashboard).lower()}", f"--num-cpus={self._head_cpus}"]
        worker = [f"--address={self.address}", f"--num-cpus={self._cpus}"]
        command = ["ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={self.ip(i)}"]
        command += [f"--memory={self._memory}", f"--object-store-memory={self._object_store}", "--num-gpus=0"]
        with (self.folder / f"{i}.log").open("wb") as log:
            self._ray.append(self._inside(i, [*command, *(worker if i else head)], self._env, stdout=log, stderr=log))
        return i

    def own_disk(self, i: int) -> Path:
        """Path on this machine of node i's /tmp/ray."""
        return self.folder / f"{self._name}n{i}"

    def _inside(self, i: int, command: list[str], env: dict[str, str], **popen: Any) -> subprocess.Popen[Any]:
        node, script = f"{self._name}n{i}", APART if self._apart else INSIDE
        enter = ["ip", "netns", "exec", node, "unshare", "--uts", "sh", "-c", script, str(self.folder), node]
        return subprocess.Popen(
            [*enter, *command], env=env, start_new_session=True, **{"stdin": subprocess.DEVNULL, **popen}
        )

    def alive(self) -> set[str]:
        """Addresses of the nodes that Ray considers alive."""
        if self._token is None:
            return {info.node_manager_address for info in alive(self.address)}
        return alive_by_http(self.job_address, self._token)

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers that are not gone."""
        return [i for i in range(1, len(self._ray)) if i not in self._gone]

    def wait(self, *gone: int, timeout: float = 60) -> float:
        """Wait until Ray has exactly the nodes that are neither removed nor `gone`; returns the seconds waited."""
        self._gone |= set(gone)
        begin, due = time.monotonic(), [0, *self.workers]
        while (seen := self.alive()) != {self.ip(i) for i in due}:
            ended = [i for i in due if self._ray[i].poll() is not None]
            if ended or time.monotonic() - begin > timeout:
                logs = "\n".join((self.folder / f"{i}.log").read_text()[-2000:] for i in ended or due)
                raise RuntimeError(f"Ray has {seen}, not the nodes {due}, of which ended: {ended}\n{logs}")
            time.sleep(0.2)
        return time.monotonic() - begin

    def run(
        self, command: list[str], env: dict[str, str] | None = None, node: int = 0, **popen: Any
    ) -> subprocess.Popen[Any]:
        """Start a command on a node in its own process group, with Ray's address in its environment."""
        return self._inside(node, command, self._env | {"RAY_ADDRESS": self.address} | (env or {}), **popen)

    def remove(self, i: int) -> None:
        """Kill all processes of node i: its connections break, as after a crash. For a power cut, call `cut` first."""
        self._gone.add(i)
        subprocess.run(["sh", "-c", KILL], env={**os.environ, "n": f"{self._name}n{i}"}, check=True)

    def cut(self, i: int) -> None:
        """Disconnect node i from the network."""
        _ip("-n", f"{self._name}s", "link", "set", f"n{i}", "down")

    def heal(self, i: int) -> None:
        """Connect node i again. A node that Ray has declared dead meanwhile (wait(i)) then exits by itself."""
        _ip("-n", f"{self._name}s", "link", "set", f"n{i}", "up")

    def add(self) -> int:
        """Start one more worker; returns its number when Ray knows it."""
        i = self._start()
        self.wait()
        return i


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[Nodes | OneHost]:
    """A head without CPUs and two workers with one CPU each. A test that removes a worker must add another."""
    pytest.importorskip("ray")
    with (Nodes if available() is None else OneHost)() as nodes:
        yield nodes
