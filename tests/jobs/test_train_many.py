"""jobs/train_many.py as users start it: `ray job submit` against `ray start --head`, a bad video, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from dancedist.bundle.bundle import load_bundle
from dancedist.synthetic import SOURCE, TARGET_TEST
from dancedist.video.encode import write_film
from tests.support.nodes import MB, Nodes, available

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCENES = {"anna": TARGET_TEST, "bert": SOURCE}
LIMIT_S = 900
# The job finds the weights where this process does.
CACHE = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """`ray start --head` with two cores."""
    if (why := available()) is not None:
        pytest.skip(why)
    env = CACHE | {"DANCEDIST_CACHE": str(tmp_path_factory.mktemp("cache")), "RAY_metrics_report_interval_ms": "1000"}
    with Nodes(0, head_cpus=2, memory=4096 * MB, env=env) as head:
        yield head


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two synthetic dancers of a few seconds, and a text file with the name of a video."""
    folder = tmp_path_factory.mktemp("fleet")
    for name, scene in SCENES.items():
        rendered = scene.frames()
        frames = [next(rendered) for _ in range(60)]
        write_film(folder / f"{name}.mp4", frames + frames[::-1], Fraction(25), crf=16, x264_preset="ultrafast")
    (folder / "dora.mp4").write_text("no film at all")
    return folder


def fleet_file(fleet: Path, names: list[str], steps: int) -> Path:
    """A fleet.toml with preset quick, shortened to `steps` steps of both stages together."""
    lines = ['[defaults]\npreset = "quick"', f"overrides.face.max_steps = {steps // 5}"]
    lines += ["[defaults.overrides.training]", f"max_steps = {steps - steps // 5}", "checkpoint_every_steps = 5"]
    lines += ["sample_every_steps = 10", "log_every_steps = 1"]
    for name in names:
        lines.append(f'[[target]]\nname = "{name}"\nvideos = "{name}.mp4"')
        lines.append('consent = {who = "nobody: drawn", when = 2026-11-01, reference = "none"}')
    path = fleet / f"fleet-{steps}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def submit(node: Nodes, *args: str | Path) -> tuple[int, str]:
    job = ["--", "python", "jobs/train_many.py", *map(str, args)]
    command = ["ray", "job", "submit", "--address", node.job_address, "--working-dir", ".", *job]
    process = node.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, log


def exported_counters(node: Nodes) -> set[str]:
    """Counters that the node exports, summed over all processes, without Ray's own labels."""
    script = (
        "import ray, urllib.request; ray.init(log_to_driver=False)\n"
        "node, = ray.nodes()\n"
        "url = f\"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics\"\n"
        "print(urllib.request.urlopen(url, timeout=10).read().decode())"
    )
    metrics, _ = node.run(["python", "-c", script], stdout=subprocess.PIPE, text=True).communicate(timeout=60)
    sums: dict[str, float] = defaultdict(float)
    for name, labels, value in re.findall(r"^ray_dancedist_(\w+_total)\{(.*)\} (\S+)$", metrics, re.M):
        own = ",".join(re.findall(r'(?:stage|cause)="[^"]*"', labels))
        sums[f"{name}{{{own}}}" if own else name] += float(value)
    return {f"{name} {value:.0f}" for name, value in sums.items()}


def rows(storage: Path, name: str) -> dict[str, dict[str, Any]]:
    return {row["target"]: row for row in json.loads((storage / f"{name}.json").read_text())}


def test_a_fleet_and_a_broken_video(node: Nodes, fleet: Path, tmp_path: Path) -> None:
    args = ["--fleet", fleet_file(fleet, [*SCENES, "dora"], 20), "--storage", tmp_path, "--back-off-s", "1"]
    code, log = submit(node, *args, "--attempts", "2")
    assert code != 0
    assert "failed with exit code 3" in log
    assert exported_counters(node) >= {
        'training_steps_total{stage="global"} 32', 'training_steps_total{stage="face"} 8',
        'fleet_attempts_total 3', 'fleet_failures_total{cause="failed"} 2',
    }  # fmt: skip
    statuses = rows(tmp_path, "fleet-20")
    assert {name: row["state"] for name, row in statuses.items()} == dict.fromkeys(SCENES, "done") | {"dora": "failed"}
    assert (statuses["dora"]["slug"], statuses["dora"]["attempts"]) == ("video-unreadable", 2)
    assert "is not a video" in statuses["dora"]["why"]
    registry = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    for name in SCENES:
        versions = {a: registry.get_model_version_by_alias(f"dancer-{name}", a) for a in ("candidate", "champion")}
        assert {v.version for v in versions.values()} == {statuses[name]["version"]} == {1}
        assert load_bundle(Path(statuses[name]["bundle"])).dancer.provenance.steps == 20
        run = registry.get_run(versions["champion"].run_id)
        assert run.info.status == "FINISHED"
        rows_of = [len(registry.get_metric_history(run.info.run_id, loss)) for loss in ("g_l1", "f_l1")]
        assert rows_of == [16, 4]
        assert run.data.metrics["held_out_body_lpips"] == pytest.approx(statuses[name]["lpips"])
    assert versions["champion"].tags["consent.who"] == "nobody: drawn"

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/dancer/*")}
    code, log = submit(node, *args, "--attempts", "1")
    assert "failed with exit code 3" in log
    assert "2 of them found done" in log
    again = rows(tmp_path, "fleet-20")
    assert {name: row["state"] for name, row in again.items() if name in SCENES} == dict.fromkeys(SCENES, "found done")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/dancer/*")} == stamps
    assert [again[name]["version"] for name in SCENES] == [1, 1]


def test_a_fleet_stopped_by_ctrl_c_resumes(node: Nodes, fleet: Path, tmp_path: Path) -> None:
    command = ["python", "jobs/train_many.py", "--fleet", fleet_file(fleet, ["anna"], 40), "--storage", tmp_path]

    def start() -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return node.run([*map(str, command)], cwd=ROOT, text=True, **streams)  # type: ignore[return-value]

    first = start()
    deadline = time.monotonic() + LIMIT_S
    while not list(tmp_path.glob("anna/*/checkpoints-torch/step_0000[1-9]*")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    log, _ = first.communicate(timeout=120)
    assert first.returncode == 130, log
    assert rows(tmp_path, "fleet-40")["anna"]["state"] == "stopped"
    assert not list(tmp_path.glob("anna/*/dancer"))
    second = start()
    log, _ = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0, log
    assert rows(tmp_path, "fleet-40")["anna"]["state"] == "done"
    (log_file,) = tmp_path.glob("anna/*/log.jsonl")
    assert [json.loads(line)["step"] for line in log_file.read_text().splitlines()] == list(range(40))
    (trained,) = tmp_path.glob("anna/*/trained.json")
    assert json.loads(trained.read_text())["steps"] == 40


def test_the_ablation_is_one_command(node: Nodes, fleet: Path, tmp_path: Path) -> None:
    command = ["python", "jobs/evaluate_dancers.py", "--ablation", "--target", str(fleet / "anna.mp4"), "--steps", "20"]
    command += ["--seeds", "1", "--storage", str(tmp_path), "--out", str(tmp_path / "out")]
    process = node.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, log
    result = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(result["rows"]) == ["nearest frame", "frame by frame", "+ temporal smoothing", "+ face"]
    assert result["gains"]["body_lpips"].keys() == {"+ temporal smoothing", "+ face"}
    logs = [path.read_text().splitlines() for path in sorted(tmp_path.glob("anna-*/*/log.jsonl"))]
    assert [json.loads(rows_of[-1])["step"] for rows_of in logs] == [19, 19, 19]
    assert ["f_gan" in rows_of[-1] for rows_of in logs] == [False, False, True]


def test_all_errors_in_a_fleet_file_are_reported_before_it_starts(node: Nodes, fleet: Path, tmp_path: Path) -> None:
    wrong = fleet / "wrong.toml"
    wrong.write_text(
        '[[target]]\nname = "x"\nvideos = "nowhere.mp4"\n[[target]]\nname = "x"\nvideos = "anna.mp4"\n'
        "[target.overrides.training]\nmax_stepz = 1\n"
    )
    code, log = submit(node, "--fleet", wrong, "--storage", tmp_path)
    assert code != 0
    assert "failed with exit code 1" in log
    assert all(word in log for word in ("2 targets have this name", "nowhere.mp4", "max_stepz"))
    assert not list(tmp_path.iterdir())
