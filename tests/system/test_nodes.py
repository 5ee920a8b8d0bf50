"""The test cluster of several hosts that other cluster tests use."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.nodes import Nodes, OneHost, available, three_nodes  # noqa: F401

pytestmark = pytest.mark.cluster

# Prints as JSON where each of four tasks ran. The first attempt of each writes its node's address to a file and waits.
TASKS = """
import json, pathlib, socket, sys, time, ray
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
ray.init(log_to_driver=False)

@ray.remote(num_cpus=1, max_retries=3, scheduling_strategy="SPREAD")
def where(i):
    marker = folder / str(i)
    if not marker.exists():
        marker.write_text(ray.util.get_node_ip_address())
        time.sleep(seconds)
    return ray.util.get_node_ip_address(), socket.gethostname()

print(json.dumps(ray.get([where.remote(i) for i in range(4)])))
"""


def tasks(nodes: Nodes | OneHost, folder: Path, seconds: float) -> subprocess.Popen[str]:
    return nodes.run(["python", "-c", TASKS, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out


def task_hosts(process: subprocess.Popen[str]) -> set[tuple[str, str]]:
    # Among other lines: Ray prints the end of a raylet to the driver's stdout, log_to_driver or not.
    (line,) = [line for line in output(process).splitlines() if line.startswith('[["')]
    return {tuple(host) for host in json.loads(line)}


def test_tasks_run_on_every_worker(three_nodes: Nodes | OneHost, tmp_path: Path) -> None:  # noqa: F811
    assert len(three_nodes.alive()) == 3
    hosts = task_hosts(tasks(three_nodes, tmp_path, 0.5))
    assert {ip for ip, _ in hosts} == {three_nodes.ip(i) for i in three_nodes.workers}
    if isinstance(three_nodes, Nodes):
        assert len({host for _, host in hosts}) == 2


def test_host_is_reachable_and_jobs_run(three_nodes: Nodes | OneHost, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "hello.txt").write_text("from the host")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "job.py").write_text(
        "import sys, urllib.request, ray\n"
        "get = lambda url: urllib.request.urlopen(url, timeout=10).read().decode()\n"
        "print('worker got it', ray.get(ray.remote(get).remote(sys.argv[1])))\n"
    )
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{three_nodes.host_ip}:{server.server_port}/hello.txt"
        submit = ["ray", "job", "submit", "--address", three_nodes.job_address, "--working-dir", str(tmp_path / "work")]
        out = output(three_nodes.run([*submit, "--", "python", "job.py", url], stdout=subprocess.PIPE, text=True))
        server.shutdown()
    assert "worker got it from the host" in out


def test_tasks_of_a_lost_node_run_elsewhere(three_nodes: Nodes | OneHost, tmp_path: Path) -> None:  # noqa: F811
    lost, other = three_nodes.workers
    process = tasks(three_nodes, tmp_path, 3)
    wait_for_two_tasks(tmp_path)
    three_nodes.cut(lost)
    noticed_s = three_nodes.wait(lost)
    hosts = task_hosts(process)
    assert noticed_s < 15
    if isinstance(three_nodes, Nodes):
        assert {ip for ip, _ in hosts} == {three_nodes.ip(other)}
        assert three_nodes.ip(lost) in {file.read_text() for file in tmp_path.iterdir()}
    assert three_nodes.add() not in (lost, other)
    assert len(three_nodes.alive()) == 3


def wait_for_two_tasks(folder: Path) -> None:
    for _ in range(300):
        if len([file for file in folder.iterdir() if file.read_text()]) >= 2:
            return
        time.sleep(0.1)
    raise AssertionError("two tasks did not start")


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := available():
        pytest.skip(reason)
    nodes = Nodes()
    monkeypatch.setattr(nodes, "wait", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nodes.__enter__()
    assert not nodes.folder.exists()
    listings = [
        subprocess.run(["ip", *command], capture_output=True, text=True).stdout for command in (["netns"], ["link"])
    ]
    assert nodes.folder.name.split("-")[0] not in "".join(listings)
    assert all(process.returncode is not None for process in nodes._ray)
