from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dancedist.evaluation.report import METRICS, Measure, Report, means, summarise, table, where_it_loses, write_report

NAN = float("nan")


@pytest.fixture
def report() -> Report:
    dancer = {"body_ssim": Measure(0.91, 20), "body_lpips": Measure(0.08, 20), "face_ssim": Measure(NAN, 0)}
    nearest = {"body_ssim": Measure(0.88, 20), "body_lpips": Measure(0.06, 20), "face_ssim": Measure(NAN, 0)}
    dancer["pose_distance_px"], nearest["pose_distance_px"] = Measure(3.0, 20), Measure(9.0, 18)
    return Report(20, {"dancer": dancer, "nearest frame": nearest})


def table_text(report: Report, width: int = 80) -> str:
    console = Console(width=width, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(report))
    return console.export_text(styles=True)


def test_means_are_over_defined_values() -> None:
    scores = {"a": {"tlp": np.array([NAN, 1, 3]), "face_ssim": np.array([NAN] * 3)}, "b": {"tlp": np.arange(3.0)}}
    report = summarise(scores)
    assert report.frames == 3
    assert report.methods["a"]["tlp"] == Measure(2.0, 2)
    assert report.methods["b"]["tlp"] == Measure(1.0, 3)
    assert report.methods["a"]["face_ssim"].frames == report.methods["b"]["face_ssim"].frames == 0
    assert list(report.methods["a"]) == ["face_ssim", "tlp"]


def test_a_mask_selects_frames() -> None:
    report = summarise({"a": {"tlp": np.arange(4.0)}}, keep=np.array([False, True, True, False]))
    assert report == Report(2, {"a": {"tlp": Measure(1.5, 2)}})


def test_a_report_is_written_as_strict_json(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "new" / "report.json")
    content = json.loads((tmp_path / "new" / "report.json").read_text())
    assert content["frames"] == 20
    assert content["methods"]["dancer"]["body_ssim"] == {"value": 0.91, "frames": 20}
    assert content["methods"]["dancer"]["face_ssim"] == {"value": None, "frames": 0}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.json"]


def test_a_failed_write_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="Out of range"):
        write_report(Report(1, {"a": {"tlp": Measure(float("inf"), 1)}}), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_the_table_marks_the_better_direction_and_the_best_value(report: Report) -> None:
    text = table_text(report)
    assert "SSIM ↑" in text
    assert "LPIPS ↓" in text
    for best in ("0.9100", "0.0600", "3.00"):
        assert re.search(rf"\x1b\[1m *{best}", text)
    for worse in ("0.8800", "0.0800", "9.00"):
        assert not re.search(rf"\x1b\[1m *{worse}", text)
        assert worse in text
    assert "over 0 of 20 frames: face SSIM" in text
    assert "over dancer 20, nearest frame 18 of 20 frames: pose dist. px" in text


def test_the_whole_table_fits_80_columns() -> None:
    values = {key: Measure(11.2345, 100) for key in METRICS}
    text = table_text(Report(100, {"dancer": values, "nearest frame": values, "mean frame": values}))
    assert "…" not in text
    assert text.count("nearest frame") == 2


def test_where_it_loses_has_a_line_per_metric_and_method(report: Report) -> None:
    assert where_it_loses(report, "dancer") == [
        "body LPIPS: dancer loses to nearest frame by 0.0200 (0.0800 to 0.0600)"
    ]
    assert [line.split(":")[0] for line in where_it_loses(report, "nearest frame")] == ["body SSIM", "pose dist. px"]


def test_means_omit_undefined_values() -> None:
    report = Report(2, {"dancer": {"body_ssim": Measure(0.123456, 2), "face_ssim": Measure(float("nan"), 0)}})
    assert means(report) == {"dancer": {"body_ssim": 0.1235}}


def test_a_report_survives_a_round_trip_through_json() -> None:
    report = Report(3, {"a": {"body_ssim": Measure(0.5, 3), "face_ssim": Measure(float("nan"), 0)}})
    again = Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert again.to_dict() == report.to_dict()
    assert np.isnan(again.methods["a"]["face_ssim"].value)
