from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.privacy.forget import DancerInTraining, Report, forget
from cluster.privacy.mlflow_purge import find_known
from cluster.storage.base import NameInvalid
from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.outbox import Spool
from cluster.tracking.tracker import spool_folder
from jobs import forget_dancer as job
from tests.support.trained import everything, leave_fleet, write_footage


@pytest.mark.parametrize(
    ("options", "code"), [([], job.NOT_REMOVED), (["--dry-run"], 0), (["--yes"], 0), (["--yes", "--dry-run"], 2)]
)
def test_nothing_goes_without_yes(options: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def found(name: str, *_: object, remove: bool, stopped: bool) -> Report:
        asked.append(remove)
        return Report(name, remove, {"poses": ["a", "b", "c", "d"]}, {"x": "why"}, ["restart it"])

    monkeypatch.setattr(job, "forget", found)
    app = typer.Typer()
    app.command()(job.forget_dancer)
    done = CliRunner().invoke(app, ["anna", *options])
    assert done.exit_code == code, done.output
    if code != 2:
        assert asked == ["--yes" in options]
        verb = "removed" if "--yes" in options else "found"
        assert f"{verb}: poses (4): a, b, c and 1 more\nkept: x: why\nleft to do: restart it\n" in done.output


@pytest.mark.parametrize("name", ["poses", "Renders", "../anna", "a b", ""])
def test_what_is_no_targets_name_removes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(NameInvalid):
        forget(name, str(tmp_path), remove=True)


def test_who_was_never_here_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DANCEDIST_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    told = forget("anna", str(tmp_path / "runs"), remove=True)
    assert "nothing is known of anna" in [*told.lines()] and not (tmp_path / "runs").exists()


def test_while_a_fleet_reports_nobody_is_forgotten(tmp_path: Path) -> None:
    driver = Spool(spool_folder(str(tmp_path)))
    with pytest.raises(DancerInTraining, match="Ctrl-C"):
        forget("anna", str(tmp_path), remove=True)
    driver.close()


@pytest.mark.slow
def test_on_one_machine_nothing_stays_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DANCEDIST_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    storage = str(tmp_path / "runs")
    footage = {name: [f"{storage}/footage/{name}1.mp4"] for name in ("anna", "ben")}
    for shade, (uri,) in enumerate(footage.values()):
        write_footage(uri, 10 * shade, tmp_path)
    leave_fleet(storage, footage, tmp_path)
    assert forget("anna", storage, remove=True).removed
    assert [name for name, data in everything(storage).items() if b"anna" in data or "anna" in name] == []
    assert not list(Path(storage).rglob("*anna*"))
    assert find_known(tracking_uri(storage), "anna").deleted == []
    assert forget("ben", storage, remove=False).found["versions"] == ["dancer-ben, version 1"]
