from __future__ import annotations

from pathlib import Path

from dancedist.demo.outcome import Outcome, read_outcome
from dancedist.errors import Notice
from dancedist.evaluation.report import Measure, Report


def outcome(folder: Path) -> Outcome:
    (folder / "dance.mp4").touch()
    written = Outcome("k", 7, (64, 48), {"film": folder / "dance.mp4"}, {"own": Report(7, {"dancer": {}})})
    written.reports["own"].methods["dancer"]["tlp"] = Measure(float("nan"), 0)
    written.note(Notice("pose-held", "the last pose is held", 3))
    written.write(folder / "report.json", "dancer")
    return written


def test_an_outcome_survives_a_round_trip_through_json(tmp_path: Path) -> None:
    written, again = outcome(tmp_path), read_outcome(tmp_path / "report.json", "k")
    assert again is not None
    again.write(tmp_path / "again.json", "dancer")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "report.json").read_text()
    assert again.notices == written.notices == ["frame 3: the last pose is held"]


def test_another_key_or_a_missing_file_gives_none(tmp_path: Path) -> None:
    assert read_outcome(tmp_path / "report.json", "k") is None
    outcome(tmp_path)
    assert read_outcome(tmp_path / "report.json", "other") is None
    (tmp_path / "dance.mp4").unlink()
    assert read_outcome(tmp_path / "report.json", "k") is None


def test_a_truncated_report_gives_none(tmp_path: Path) -> None:
    outcome(tmp_path)
    report = tmp_path / "report.json"
    report.write_text(report.read_text()[:40])
    assert read_outcome(report, "k") is None
