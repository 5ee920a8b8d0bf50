from __future__ import annotations

import json
from pathlib import Path

import pytest

from dancedist.evaluation.ablation import KEYS, gains, seeds_better, to_markdown, values_of, write_ablation
from dancedist.evaluation.report import Measure, Report


def report(**values: float) -> Report:
    """A report of a dancer with these means (0.5 by default), and of a nearest frame where every mean is 1."""
    dancer = {key: Measure(values.get(key, 0.5), 10) for key in KEYS}
    return Report(10, {"dancer": dancer, "nearest": {key: Measure(1.0, 10) for key in KEYS}})


@pytest.fixture
def values() -> dict:
    reports = {
        "plain": {0: report(tof_px=1.0), 1: report(tof_px=1.0), 2: report(tof_px=1.0)},
        "+ smooth": {0: report(tof_px=0.9), 1: report(tof_px=1.1), 2: report(tof_px=0.8)},
        "+ face": {0: report(face_lpips=0.4), 1: report(face_lpips=0.5), 2: report(face_ssim=0.7)},
    }
    return values_of(reports, "dancer", "nearest")


def test_gains_are_against_the_row_above_and_positive_if_better(values: dict) -> None:
    assert gains(values, "tof_px")["+ smooth"] == pytest.approx({0: 0.1, 1: -0.1, 2: 0.2})
    assert seeds_better(gains(values, "tof_px")["+ smooth"]) == [0, 2]
    assert gains(values, "face_lpips")["+ face"] == pytest.approx({0: 0.1, 1: 0.0, 2: 0.0})
    assert gains(values, "face_ssim")["+ face"] == pytest.approx({0: 0.0, 1: 0.0, 2: 0.2})
    assert set(gains(values, "tof_px")) == {"+ smooth", "+ face"}


def test_the_tables_have_every_row_and_a_sign_per_seed(values: dict) -> None:
    markdown = to_markdown(values, "about it")
    assert markdown.startswith("about it\n")
    assert markdown.count("\n| nearest |") == 5
    assert "| + smooth | 0.933 ± 0.153 |" in markdown
    assert "+ - +" in next(line for line in markdown.splitlines() if line.startswith("| + smooth | 0 0 0"))
    assert "Table 4: missed detections" in markdown


def test_an_undefined_mean_gives_no_gain(values: dict, tmp_path: Path) -> None:
    values["+ face"] = {**values["+ face"], 0: {**values["+ face"][0], "tof_px": float("nan")}}
    assert "| + face | 0 0 0 | 0 0 0 | 0 0 + | + 0 0 | 0 0 0 | 0 0 0 | ? + + |" in to_markdown(values, "")
    assert seeds_better(gains(values, "tof_px")["+ face"]) == [1, 2]
    write_ablation(values, "about", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"ablation.md", "ablation.json", "ablation.png"}
    plain = json.loads((tmp_path / "ablation.json").read_text())
    assert plain["rows"]["+ face"]["0"]["tof_px"] is None
    assert plain["gains"]["tof_px"]["+ smooth"]["1"] == pytest.approx(-0.1)
