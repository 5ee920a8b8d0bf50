"""Three hosts that have nothing in common but a network, and S3, MLflow and Postgres on a fourth.

Poses, two dancers, the service, a film over HTTP from outside, by their real commands and with a token; in the midst of
each the servers are killed and started again, and the link of a worker is cut. The tests are one story, in this order.
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

from cluster.storage.base import open_storage
from dancedist.recipe import VideoRecipe, file_sha256
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
AWAY_S = 5.0
STEPS, FACE_STEPS = 30, 10
CONSENT = 'consent = {who = "nobody: drawn", when = 2026-11-01, reference = "none"}'
TARGETS = {"anna": TARGET_TEST, "bert": SOURCE}
WEIGHTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dancedist" / "weights"
# A dancer with a past does not settle after so few steps, and would be rendered in one chunk.
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
    """The hosts, what runs on them, and who uses it from outside."""

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
        """`ray job submit` from the head, where it is a user of Ray like any other."""
        command = ["ray", "job", "submit", "--address", self.nodes.job_address, "--working-dir", ".", "--", "python"]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return self.nodes.run([*command, *job], env, cwd=ROOT, **both)

    def own_file(self, name: str, text: str) -> str:
        """A file on the head's own disk, as the head names it."""
        (self.nodes.own_disk(0) / name).write_text(text)
        return f"/tmp/ray/{name}"


def away(*servers: S3Server | MlflowServer | PostgresServer) -> None:
    """Kill servers, one after the other, and bring each back."""
    for server in servers:
        server.kill()
        time.sleep(AWAY_S)
        server.start()


def until(holds: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Wait for it; what it is then."""
    give_up_s = time.monotonic() + LIMIT_S
    while not (found := holds()):
        assert time.monotonic() < give_up_s
        assert process is None or process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.2)
    return found


def ended(process: subprocess.Popen[str]) -> str:
    """What a job said that ended well."""
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said[-5000:]
    return said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if (why := available()) is not None or (why := None if shutil.which("setpriv") else "no setpriv") is not None:
        pytest.skip(why)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        made = Site(stack, tmp_path_factory.mktemp("site"))
        for name, value in made.s3.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def films(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """In the bucket, and here to compare with: a film of each target, and a dance of 24 s."""
    folder, encoding = tmp_path_factory.mktemp("films"), {"crf": 16, "speed": "ultrafast"}
    for name, scene in TARGETS.items():
        drawn = scene.frames()
        frames = [next(drawn) for _ in range(60)]
        write_film(folder / f"{name}.mp4", frames + frames[::-1], Fraction(25), **encoding)
    bucket = open_storage(site.s3.uri("films"))
    for path in folder.iterdir():
        bucket.upload(path, path.name)
    write_film(folder / "dance.mp4", (frames + frames[::-1]) * 5, Fraction(25), **encoding)
    return {path.stem: path for path in folder.iterdir()}


def test_who_has_no_token_is_refused(site: Site) -> None:
    process = site.submit("-c", "1", RAY_AUTH_TOKEN=secrets.token_hex(32))
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "InvalidAuthToken" in said or "Unauthorized" in said, said[-2000:]


def test_poses_are_found_while_s3_is_away(site: Site, films: dict[str, Path]) -> None:
    output = site.s3.uri("dancedist/poses")
    job = site.submit("jobs/extract_poses.py", site.s3.uri("films"), "--output", output)
    store = open_storage(output)
    until(lambda: [*store.list("work/")], job)
    away(site.s3)
    assert "2 of 2 videos" in ended(job)
    assert {entry.name for entry in store.list("poses/")} == {f"poses/{name}.parquet" for name in TARGETS}


def test_two_dancers_are_trained_while_servers_are_away_and_a_link_is_cut(site: Site, films: dict[str, Path]) -> None:
    target = '[[target]]\nname = "{0}"\nvideos = "s3://films/{0}.mp4"\n{1}\n'
    text = FLEET + "".join(target.format(name, CONSENT) for name in TARGETS)
    job = site.submit("jobs/train_many.py", "--fleet", site.own_file("fleet.toml", text), "--back-off-s", "1")
    store, begun = open_storage(site.storage), lambda name: [*store.list(f"{name}/")]
    until(lambda: all(any("/step_" in entry.name for entry in begun(name)) for name in TARGETS), job)
    site.nodes.cut(site.nodes.workers[-1])
    away(site.mlflow, site.s3, site.postgres)
    site.nodes.wait(site.nodes.workers[-1])
    site.nodes.add()
    said = ended(job)
    rows = {row["target"]: row for row in json.loads(store.read("fleet.json"))}
    assert {row["state"] for row in rows.values()} == {"done"}, said
    registry = MlflowClient(site.mlflow.uri, site.mlflow.uri)
    for name in TARGETS:
        version = registry.get_model_version_by_alias(f"dancer-{name}", "champion")
        assert version.run_id is not None
        told = [len(registry.get_metric_history(version.run_id, loss)) for loss in ("g_l1", "f_l1")]
        assert told == [STEPS, FACE_STEPS]
        (log,) = [entry.name for entry in begun(name) if entry.name.endswith("/log.jsonl")]
        steps = [json.loads(line)["step"] for line in store.read(log).splitlines()]
        assert steps == [*range(STEPS + FACE_STEPS)]


def test_a_film_is_rendered_while_servers_are_away_and_a_link_is_cut(
    site: Site, films: dict[str, Path], tmp_path: Path
) -> None:
    deployed = site.nodes.run(
        ["serve", "deploy", "serving/serve.yaml", "--address", site.nodes.job_address],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    ended(deployed)
    door = httpx.Client(base_url=f"http://{site.nodes.ip(0)}:8000", timeout=20)
    until(lambda: answered(door, "/readyz"))
    with films["dance"].open("rb") as source:
        form = {"data": {"dancer": "anna"}, "files": {"source": source}}
        assert door.post("/v1/renders", **form).status_code == 401
        door.headers["Authorization"] = f"Bearer {site.key}"
        source.seek(0)
        sent = door.post("/v1/renders", **form)
    assert sent.status_code == 202, sent.text
    place = sent.headers["location"]

    def told() -> dict[str, Any]:
        silent = {"state": "nobody answers", "progress": {"stage": None, "frames_done": 0}}
        return answered(door, place) or silent

    def at_work(stage: str) -> bool:
        now = told()
        assert now["state"] not in ENDED, now
        return now["progress"]["stage"] == stage and (stage == "poses" or now["progress"]["frames_done"] > 0)

    until(lambda: at_work("poses"))
    away(site.postgres)
    until(lambda: at_work("rendering"))
    cut = site.nodes.workers[-1]
    site.nodes.cut(cut)
    away(site.s3, site.mlflow)
    site.nodes.wait(cut)
    site.nodes.add()
    render = until(lambda: (now := told())["state"] in ENDED and now)
    assert render["state"] == "done", render
    assert len(render["chunks"]) > 1
    moved = door.get(f"{place}/result")
    assert moved.status_code == 307
    film = tmp_path / "film.mp4"
    film.write_bytes(httpx.get(moved.headers["location"]).content)
    assert file_sha256(film) == render["result"]["sha256"]
    assert probe(film, VideoRecipe()).frames == probe(films["dance"], VideoRecipe()).frames


def answered(door: httpx.Client, path: str) -> dict[str, Any]:
    """What the service answers; nothing while it does not, or cannot."""
    try:
        answer = door.get(path)
    except httpx.TransportError:
        return {}
    # 404: Serve does not know the application yet.
    assert answer.status_code in (200, 404, 500, 502, 503, 504), answer.text
    return dict(answer.json()) if answer.status_code == 200 else {}
