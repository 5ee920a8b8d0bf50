"""The whole system on three hosts that share only a network, with S3, MLflow and Postgres on a fourth.

The real commands, with a token: poses, two dancers, the service, a film over HTTP from outside. During each step the
servers are killed and restarted, and a worker's link is cut. The tests build on each other, in this order.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from cluster.storage.open import open_storage
from dancedist.files import file_sha256
from dancedist.recipe.schema import VideoRecipe
from dancedist.synthetic import SOURCE, TARGET_TEST
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from serving.db.models import ENDED
from tests.support.mlflow_server import MlflowServer
from tests.support.nodes import MB, Nodes, available
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIMIT_S = 600.0
OUTAGE_S = 5.0
STEPS, FACE_STEPS = 30, 10
CONSENT = 'consent = {who = "nobody: drawn", when = 2026-11-01, reference = "none"}'
TARGETS = {"anna": TARGET_TEST, "bert": SOURCE}
WEIGHTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dancedist" / "weights"
# temporal = false: a temporal dancer does not settle after so few steps and would be rendered in one chunk.
FLEET = f"""
[defaults]
preset = "quick"
overrides.face.max_steps = {FACE_STEPS}
[defaults.overrides.training]
temporal = false
max_steps = {STEPS}
checkpoint_every_steps = 5
sample_every_steps = 20
log_every_steps = 1
"""


class Site:
    """The hosts, the servers, and the API key of an outside user."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder, self.key = stack, folder, secrets.token_urlsafe(16)
        keys = folder / "keys.toml"
        digest = sha256(self.key.encode()).hexdigest()
        keys.write_text(f'[[key]]\nid = "outside"\nsha256 = "{digest}"\nscopes = ["read", "render"]\n')
        env = {
            "DANCEDIST_API_KEYS": str(keys), "DANCEDIST_LEASE_S": "5", "DANCEDIST_REPLICAS": "2",
            "DANCEDIST_WEIGHTS": str(WEIGHTS), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.nodes = stack.enter_context(
            Nodes(2, env=env, memory=4096 * MB, token=secrets.token_hex(32), apart=True, servers=self._servers)
        )

    def _servers(self, ip: str, enter: list[str]) -> dict[str, str]:
        self.s3 = S3Server(ip, enter)
        self._stack.callback(self.s3.close)
        self.postgres = PostgresServer(ip, enter)
        self._stack.callback(self.postgres.close)
        stores = ["--artifacts-destination", self.s3.uri("mlflow/artifacts")]
        stores += ["--backend-store-uri", self.postgres.url("mlflow"), "--allowed-hosts", "*"]
        self.mlflow = MlflowServer(*stores, ip=ip, enter=enter, env=self.s3.environment)
        self._stack.callback(self.mlflow.close)
        self.storage = self.s3.uri("dancedist/runs")
        return self.s3.environment | {
            "MLFLOW_TRACKING_URI": self.mlflow.uri,
            "DANCEDIST_STORAGE": self.storage,
            "DANCEDIST_DATABASE": self.postgres.url("renders"),
        }

    def submit(self, *job: str, **env: str) -> subprocess.Popen[str]:
        """Run `ray job submit` on the head, as a user of Ray does."""
        command = ["ray", "job", "submit", "--address", self.nodes.job_address, "--working-dir", ".", "--", "python"]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return self.nodes.run([*command, *job], env, cwd=ROOT, **output)

    def own_file(self, name: str, text: str) -> str:
        """Write a file on the head's own disk. Returns its path on the head."""
        (self.nodes.own_disk(0) / name).write_text(text)
        return f"/tmp/ray/{name}"


def interrupt(*servers: S3Server | MlflowServer | PostgresServer) -> None:
    """Kill servers one after another and restart each."""
    for server in servers:
        server.kill()
        time.sleep(OUTAGE_S)
        server.start()


def until(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Wait until the condition returns something true, and return that."""
    deadline_s = time.monotonic() + LIMIT_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s
        assert process is None or process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.2)
    return result


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a job to succeed. Returns its output."""
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output[-5000:]
    return output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if (reason := available()) is not None or (reason := None if shutil.which("setpriv") else "no setpriv") is not None:
        pytest.skip(reason)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        started = Site(stack, tmp_path_factory.mktemp("site"))
        for name, value in started.s3.environment.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture(scope="module")
def films(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films of each target, in the bucket and as local copies; and a local dance of 24 s."""
    folder, encoding = tmp_path_factory.mktemp("films"), {"crf": 16, "x264_preset": "ultrafast"}
    for name, scene in TARGETS.items():
        synthetic = scene.frames()
        frames = [next(synthetic) for _ in range(60)]
        write_film(folder / f"{name}.mp4", frames + frames[::-1], Fraction(25), **encoding)
    bucket = open_storage(site.s3.uri("films"))
    for path in folder.iterdir():
        bucket.upload(path, path.name)
    write_film(folder / "dance.mp4", (frames + frames[::-1]) * 5, Fraction(25), **encoding)
    return {path.stem: path for path in folder.iterdir()}


def test_a_job_with_a_wrong_token_is_refused(site: Site) -> None:
    process = site.submit("-c", "1", RAY_AUTH_TOKEN=secrets.token_hex(32))
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "InvalidAuthToken" in output or "Unauthorized" in output, output[-2000:]


def test_poses_are_extracted_despite_an_outage_of_s3(site: Site, films: dict[str, Path]) -> None:
    output = site.s3.uri("dancedist/poses")
    job = site.submit("jobs/extract_poses.py", site.s3.uri("films"), "--output", output)
    store = open_storage(output)
    until(lambda: [*store.list("work/")], job)
    interrupt(site.s3)
    assert "2 of 2 videos" in ended(job)
    assert {entry.name for entry in store.list("poses/")} == {f"poses/{name}.parquet" for name in TARGETS}


def test_two_dancers_are_trained_despite_outages_and_a_cut_link(site: Site, films: dict[str, Path]) -> None:
    target = '[[target]]\nname = "{0}"\nvideos = "s3://films/{0}.mp4"\n{1}\n'
    text = FLEET + "".join(target.format(name, CONSENT) for name in TARGETS)
    job = site.submit("jobs/train_many.py", "--fleet", site.own_file("fleet.toml", text), "--back-off-s", "1")
    store, files_of = open_storage(site.storage), lambda name: [*store.list(f"{name}/")]
    until(lambda: all(any("/step_" in entry.name for entry in files_of(name)) for name in TARGETS), job)
    site.nodes.cut(site.nodes.workers[-1])
    interrupt(site.mlflow, site.s3, site.postgres)
    site.nodes.wait(site.nodes.workers[-1])
    site.nodes.add()
    output = ended(job)
    rows = {row["target"]: row for row in json.loads(store.read("fleet.json"))}
    assert {row["state"] for row in rows.values()} == {"done"}, output
    registry = MlflowClient(site.mlflow.uri, site.mlflow.uri)
    for name in TARGETS:
        version = registry.get_model_version_by_alias(f"dancer-{name}", "champion")
        assert version.run_id is not None
        logged = [len(registry.get_metric_history(version.run_id, loss)) for loss in ("g_l1", "f_l1")]
        assert logged == [STEPS, FACE_STEPS]
        (log,) = [entry.name for entry in files_of(name) if entry.name.endswith("/log.jsonl")]
        steps = [json.loads(line)["step"] for line in store.read(log).splitlines()]
        assert steps == [*range(STEPS + FACE_STEPS)]


def test_a_film_is_rendered_despite_outages_and_a_cut_link(site: Site, films: dict[str, Path], tmp_path: Path) -> None:
    deployed = site.nodes.run(
        ["serve", "deploy", "serving/serve.yaml", "--address", site.nodes.job_address],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    ended(deployed)
    client = httpx.Client(base_url=f"http://{site.nodes.ip(0)}:8000", timeout=20)
    until(lambda: answered(client, "/readyz"))
    with films["dance"].open("rb") as source:
        form = {"data": {"dancer": "anna"}, "files": {"source": source}}
        assert client.post("/v1/renders", **form).status_code == 401
        client.headers["Authorization"] = f"Bearer {site.key}"
        source.seek(0)
        sent = client.post("/v1/renders", **form)
    assert sent.status_code == 202, sent.text
    location = sent.headers["location"]

    def current() -> dict[str, Any]:
        unreachable = {"state": "unreachable", "progress": {"stage": None, "frames_done": 0}}
        return answered(client, location) or unreachable

    def in_stage(stage: str) -> bool:
        render = current()
        assert render["state"] not in ENDED, render
        return render["progress"]["stage"] == stage and (stage == "poses" or render["progress"]["frames_done"] > 0)

    until(lambda: in_stage("poses"))
    interrupt(site.postgres)
    until(lambda: in_stage("rendering"))
    lost = site.nodes.workers[-1]
    site.nodes.cut(lost)
    interrupt(site.s3, site.mlflow)
    site.nodes.wait(lost)
    site.nodes.add()
    render = until(lambda: (latest := current())["state"] in ENDED and latest)
    assert render["state"] == "done", render
    assert len(render["chunks"]) > 1
    redirect = client.get(f"{location}/result")
    assert redirect.status_code == 307
    film = tmp_path / "film.mp4"
    film.write_bytes(httpx.get(redirect.headers["location"]).content)
    assert file_sha256(film) == render["result"]["sha256"]
    assert probe(film, VideoRecipe()).frames == probe(films["dance"], VideoRecipe()).frames


def answered(client: httpx.Client, path: str) -> dict[str, Any]:
    """The JSON response of the service; empty while it is unreachable or answers with an error."""
    try:
        answer = client.get(path)
    except httpx.TransportError:
        return {}
    # 404: Serve has not deployed the application yet.
    assert answer.status_code in (200, 404, 500, 502, 503, 504), answer.text
    return dict(answer.json()) if answer.status_code == 200 else {}
