from __future__ import annotations

from pathlib import Path

from dancedist.demo.outcome import Outcome, read_outcome
from dancedist.errors import Notice
from dancedist.evaluation.report import Measure, Report


def outcome(folder: Path) -> Outcome:
    (folder / "dance.mp4").touch()
    made = Outcome("k", 7, (64, 48), {"film": folder / "dance.mp4"}, {"own": Report(7, {"dancer": {}})})
    made.reports["own"].methods["dancer"]["tlp"] = Measure(float("nan"), 0)
    made.note(Notice("pose-held", "the last pose is held", 3))
    made.write(folder / "report.json", "dancer")
    return made


def test_what_was_done_is_read_back(tmp_path: Path) -> None:
    made, again = outcome(tmp_path), read_outcome(tmp_path / "report.json", "k")
    assert again is not None
    again.write(tmp_path / "again.json", "dancer")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "report.json").read_text()
    assert again.notices == made.notices == ["frame 3: the last pose is held"]


def test_another_key_or_a_missing_file_is_not_done(tmp_path: Path) -> None:
    assert read_outcome(tmp_path / "report.json", "k") is None
    outcome(tmp_path)
    assert read_outcome(tmp_path / "report.json", "other") is None
    (tmp_path / "dance.mp4").unlink()
    assert read_outcome(tmp_path / "report.json", "k") is None


def test_a_report_cut_short_is_not_done(tmp_path: Path) -> None:
    outcome(tmp_path)
    report = tmp_path / "report.json"
    report.write_text(report.read_text()[:40])
    assert read_outcome(report, "k") is None
