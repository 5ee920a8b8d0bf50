from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dancedist.cli import app
from dancedist.recipe import Recipe
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

VERBS = ("probe", "poses", "train", "render", "evaluate", "weights", "demo")


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """The real thing, as a process: exit code, stdout, stderr."""
    command = [sys.executable, "-m", "dancedist", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_every_verb() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    assert all(verb in told for verb in VERBS)
    assert "--install-completion" in told


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    if verb in ("probe", "poses", "train", "demo"):
        assert "quick" in result.output
        assert "--recipe" in result.output


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("dancedist 0.")


def test_version_is_told_without_the_heavy_imports() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'deepspeed', 'openvino', 'onnxruntime', 'cv2'}"
    code = f"import sys; from dancedist.version_info import inside; dict(inside()); print({heavy} & {{*sys.modules}})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip() == "set()"


def test_the_users_fault_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "not.mp4"
    file.write_bytes(b"no video" * 99)
    result = run("probe", file)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert str(file) in result.stderr
    assert "[video-unreadable]" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("demo", "--target", "x.mp4"),
        ("probe", "--preset", "slow", "x.mp4"),
        ("weights", "--fetch", "nothing"),
        ("dance",),
    ],
)
def test_what_cannot_be_asked_is_exit_code_2(args: tuple[str, ...]) -> None:
    assert run(*args).returncode == 2


def test_a_bug_is_exit_code_1() -> None:
    lines = ("import sys, dancedist.cli as c, dancedist.commands as v", "v.look_at = lambda *a: 1 / 0")
    code = "\n".join((*lines, "sys.argv[1:] = ['probe', 'x']", "c.main()"))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


def test_probe_tells_what_a_film_holds(tmp_path: Path) -> None:
    from fractions import Fraction

    file = tmp_path / "v.mp4"
    frames = (np.full((48, 64, 3), 90, np.uint8) for _ in range(10))
    write_film(file, frames, Fraction(25), crf=20, speed="ultrafast")
    result = run("probe", file)
    assert result.returncode == 0
    assert "64x48" in result.stdout
    assert f"{probe(file, Recipe().video).frames} frames" in result.stdout
