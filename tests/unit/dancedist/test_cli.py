from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dancedist.cli import app
from dancedist.recipe.schema import Recipe
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

COMMANDS = ("probe", "poses", "train", "render", "evaluate", "weights", "demo")


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `dancedist` as a process; returns exit code, stdout and stderr."""
    command = [sys.executable, "-m", "dancedist", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_lists_every_command() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert all(command in output for command in COMMANDS)
    assert "--install-completion" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    if command in ("probe", "poses", "train", "demo"):
        assert "quick" in result.output
        assert "--recipe" in result.output


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("dancedist 0.")


def test_version_does_not_import_heavy_packages() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'deepspeed', 'openvino', 'onnxruntime', 'cv2'}"
    code = (
        "import sys; from dancedist.version_info import version_info; dict(version_info());"
        f"print({heavy} & {{*sys.modules}})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "set()"


def test_invalid_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
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
def test_invalid_arguments_are_exit_code_2(args: tuple[str, ...]) -> None:
    assert run(*args).returncode == 2


def test_a_bug_is_exit_code_1() -> None:
    lines = (
        "import sys, dancedist.cli as cli, dancedist.commands as commands",
        "commands.probe_video = lambda *a: 1 / 0",
    )
    code = "\n".join((*lines, "sys.argv[1:] = ['probe', 'x']", "cli.main()"))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


def test_probe_shows_a_videos_properties(tmp_path: Path) -> None:
    from fractions import Fraction

    file = tmp_path / "v.mp4"
    frames = (np.full((48, 64, 3), 90, np.uint8) for _ in range(10))
    write_film(file, frames, Fraction(25), crf=20, x264_preset="ultrafast")
    result = run("probe", file)
    assert result.returncode == 0
    assert "64x48" in result.stdout
    assert f"{probe(file, Recipe().video).frames} frames" in result.stdout
