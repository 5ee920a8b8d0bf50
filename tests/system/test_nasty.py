"""Every nasty file through the command line: a complete result with warnings or one clear error, within limits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dancedist.pose.sequence import read_poses

pytestmark = [pytest.mark.slow, pytest.mark.footage]

LIMIT_S, LIMIT_GB = 60, 2.0
# File -> the slug of its error, or None and slugs that must be among its warnings.
POSES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "two_people_12s.mp4": (None, ("several-people",)),
    "leaves_frame_vp9_8s.mp4": (None, ("dancer-absent", "several-people")),
    "portrait_60fps_vp9_2s.mp4": (None, ("several-people",)),
    "no_person_animation_10s.mp4": (None, ("dancer-absent",)),
    "rotated90_metadata_4s.mp4": (None, ()),
    "vfr_odd_size_yuv444_6s.mp4": (None, ("variable-rate",)),
    "hevc_10bit_no_audio_3s.mp4": (None, ()),
    "truncated_60pct.mp4": (None, ("cut-off",)),
    "bitflips.mp4": (None, ("undecodable-frames", "dancer-absent")),
    "one_frame.mp4": (None, ()),
    "audio_only.mp4": ("video-unreadable", ()),
    "empty.mp4": ("video-unreadable", ()),
    "not_a_video.mp4": ("video-unreadable", ()),
    "bomb_16000x8000.mp4": ("video-too-large", ()),
}
# Files that no dancer can be trained on, with the slug of the error.
NO_TARGETS = {
    "no_person_animation_10s.mp4": "footage-unfit",
    "one_frame.mp4": "footage-unfit",
    # Its display matrix turns upright frames by 90 degrees: too few consecutive poses are detected.
    "rotated90_metadata_4s.mp4": "footage-unfit",
    "bitflips.mp4": "footage-unfit",
    "audio_only.mp4": "video-unreadable",
    "empty.mp4": "video-unreadable",
    "not_a_video.mp4": "video-unreadable",
    "bomb_16000x8000.mp4": "video-too-large",
}


@dataclass(frozen=True)
class Outcome:
    """Result and resource use of a command."""

    code: int
    stderr: str
    seconds: float
    peak_gb: float


def dancedist(*args: str | Path) -> Outcome:
    """Run a command as a user does; peak memory as the kernel counts it."""
    started, environment = time.monotonic(), {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "dancedist", *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    return Outcome(process.returncode, "".join(lines), time.monotonic() - started, usage.ru_maxrss / 1e6)


def check_bounds(outcome: Outcome) -> None:
    assert outcome.seconds < LIMIT_S
    assert outcome.peak_gb < LIMIT_GB
    assert "Traceback" not in outcome.stderr


def check_warnings(name: str, poses: Path) -> None:
    slugs = {n.slug for n in read_poses(poses).notices}
    assert set(POSES[name][1]) <= slugs, slugs


@pytest.mark.parametrize("name", POSES)
def test_probe(footage: Path, name: str) -> None:
    outcome = dancedist("probe", footage / "nasty" / name)
    check_bounds(outcome)
    slug = POSES[name][0]
    assert outcome.code == (2 if slug else 0)
    if slug:
        assert f"[{slug}]" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["one_frame.mp4", "bitflips.mp4", "audio_only.mp4", "bomb_16000x8000.mp4"])
def test_poses(footage: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "poses.parquet"
    outcome = dancedist("poses", footage / "nasty" / name, "--out", out)
    check_bounds(outcome)
    if slug := POSES[name][0]:
        assert outcome.code == 2
        assert f"[{slug}]" in outcome.stderr.splitlines()[-1]
        assert list(tmp_path.iterdir()) == []
        return
    assert outcome.code == 0
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    check_warnings(name, out)
    if name == "one_frame.mp4":
        assert len(read_poses(out)) == 1


@pytest.mark.parametrize("name", NO_TARGETS)
def test_an_unsuitable_target_is_refused_before_training(footage: Path, tmp_path: Path, name: str) -> None:
    source = footage / "source_b_rooftop_8s.mp4"
    outcome = dancedist("demo", "--target", footage / "nasty" / name, "--source", source, "--out", tmp_path / "run")
    check_bounds(outcome)
    assert outcome.code == 2
    assert f"[{NO_TARGETS[name]}]" in outcome.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "dancer").exists()


TARGETS = [name for name in POSES if name not in NO_TARGETS]
SHORT = "[training]\nmax_steps = 2\n[face]\nmax_steps = 2\n"


@pytest.mark.parametrize("name", TARGETS)
def test_all_other_files_can_be_trained_on(footage: Path, tmp_path: Path, name: str) -> None:
    recipe = tmp_path / "short.toml"
    recipe.write_text(SHORT)
    outcome = dancedist("train", footage / "nasty" / name, "--out", tmp_path / "run", "--recipe", recipe)
    assert outcome.code == 0, outcome.stderr
    check_bounds(outcome)
    check_warnings(name, tmp_path / "run" / "target" / "poses.parquet")
    assert (tmp_path / "run" / "dancer" / "generator.safetensors").exists()
