"""The demo with the synthetic performers and a very short training: all files exist, in sync and measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from dancedist.bundle.bundle import load_bundle
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import SOURCE, TARGET_TRAINING
from dancedist.video.probe import probe

pytestmark = pytest.mark.slow

SHORT = """
training.max_steps = 4
face.max_steps = 2
generator = {pixels = 9216, filters = 8}
losses.perceptual_crop_px = 48
"""
# The `dancedist` command with shorter dances.
DANCEDIST = """
from dataclasses import replace
from dancedist.cli import main
from dancedist.demo import measure, run
for name in ("SOURCE", "TARGET_TEST", "TARGET_TRAINING"):
    scene = getattr(run, name)
    short = replace(scene, seconds_each=scene.seconds_each * PART)
    for module in (measure, run):
        setattr(module, name, short)
main()
"""
PART = 0.4
FRAMES = len(replace(SOURCE, seconds_each=SOURCE.seconds_each * PART).poses())


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "short.toml").write_text(SHORT)
    program = DANCEDIST.replace("PART", str(PART))
    command = [sys.executable, "-c", program, "demo", "--out", str(folder / "run")]
    command += ["--recipe", str(folder / "short.toml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = demo(folder)
    assert done.returncode == 0, done.stderr
    for word in ("own motion", "transfer", "nearest frame", "mean frame", "dance.mp4"):
        assert word in done.stdout
    return folder / "run"


def test_all_files_are_written(run: Path) -> None:
    expected = {
        "dance.mp4",
        "side_by_side.mp4",
        "sheet.png",
        "report.json",
        "dancer",
        "footage",
        "target",
        "source",
        "test",
    }
    assert {p.name for p in run.iterdir()} == expected
    assert load_bundle(run / "dancer").dancer.name == "target"


def test_the_film_has_the_size_of_the_target_and_the_length_and_sound_of_the_source(run: Path) -> None:
    limits = Recipe().video
    source, dance, both = (probe(run / n, limits) for n in ("footage/source.mp4", "dance.mp4", "side_by_side.mp4"))
    assert (dance.width, dance.height) == TARGET_TRAINING.size
    assert dance.frames == both.frames == source.frames == FRAMES
    assert dance.fps == both.fps == source.fps == Fraction(25)
    assert dance.audio_codec == both.audio_codec == source.audio_codec == "aac"
    packets = []
    for name in ("footage/source.mp4", "dance.mp4"):
        with av.open(str(run / name)) as film:
            packets.append([bytes(p) for p in film.demux(audio=0) if p.size])
    assert packets[0] == packets[1]


def test_joints_are_detected_accurately(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert set(report["joint_error_torsos"]) == {"target", "target_test", "source"}
    assert max(report["joint_error_torsos"].values()) <= 0.06
    for danced in ("own motion", "transfer"):
        methods = report["reports"][danced]["methods"]
        assert set(methods) == {"dancer", "nearest frame", "mean frame"}
        assert methods["dancer"]["missed_detections"]["frames"] == FRAMES


def test_a_second_run_repeats_nothing(run: Path) -> None:
    files = [p for p in run.rglob("*") if p.is_file()]
    before = [p.stat().st_mtime_ns for p in files]
    again = demo(run.parent)
    assert again.returncode == 0
    assert "already trained" in again.stderr
    assert "already rendered and measured" in again.stderr
    assert "own motion" in again.stdout
    assert [p.stat().st_mtime_ns for p in files] == before
