from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.privacy.eraser import RendersUnreached
from cluster.privacy.forget import DancerInTraining, Report, forget
from cluster.privacy.mlflow_purge import find_in_mlflow
from cluster.storage.base import NameInvalid
from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.outbox import Outbox
from cluster.tracking.tracker import outbox_folder
from jobs import forget_dancer as job
from tests.support.trained import everything, leave_fleet, write_footage


@pytest.mark.parametrize(
    ("options", "code"), [([], job.NOT_REMOVED), (["--dry-run"], 0), (["--yes"], 0), (["--yes", "--dry-run"], 2)]
)
def test_nothing_is_deleted_without_yes(options: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    removals: list[bool] = []

    def fake_forget(name: str, *_: object, remove: bool, stopped: bool) -> Report:
        removals.append(remove)
        return Report(name, remove, {"poses": ["a", "b", "c", "d"]}, {"x": "why"}, ["restart it"])

    monkeypatch.setattr(job, "forget", fake_forget)
    app = typer.Typer()
    app.command()(job.forget_dancer)
    done = CliRunner().invoke(app, ["anna", *options])
    assert done.exit_code == code, done.output
    if code != 2:
        assert removals == ["--yes" in options]
        verb = "removed" if "--yes" in options else "found"
        assert f"{verb}: poses (4): a, b, c and 1 more\nkept: x: why\nleft to do: restart it\n" in done.output


@pytest.mark.parametrize("name", ["poses", "Renders", "../anna", "a b", ""])
def test_an_invalid_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NameInvalid):
        forget(name, str(tmp_path), remove=True)


def test_an_unknown_dancer_creates_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DANCEDIST_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    report = forget("anna", str(tmp_path / "runs"), remove=True)
    assert "no data of anna was found" in [*report.lines()] and not (tmp_path / "runs").exists()


def test_nobody_is_deleted_while_a_fleet_runs(tmp_path: Path) -> None:
    driver = Outbox(outbox_folder(str(tmp_path)))
    with pytest.raises(DancerInTraining, match="Ctrl-C"):
        forget("anna", str(tmp_path), remove=True)
    driver.close()


class FakeEraser:
    """Stores data of a dancer until it is erased, and records what else exists at that time."""

    def __init__(self, storage: str, *, fails: bool = False) -> None:
        self._storage, self._fails = storage, fails
        self.stored = {"songs": ["la.mp3"]}
        self.existing: list[tuple[bool, bool, bool]] = []

    def find(self, dancer: str) -> dict[str, list[str]]:
        assert dancer == "anna"
        return self.stored

    def erase(self, dancer: str) -> None:
        known = find_in_mlflow(tracking_uri(self._storage), dancer)
        self.existing.append((known.model, bool(known.runs), (Path(self._storage) / "anna").exists()))
        if self._fails:
            raise RendersUnreached("does not answer", file=dancer)
        self.stored = {}


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage in which the dancer anna was trained."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("cluster.privacy.forget.gc_runs", lambda *_: None)
    uri = str(tmp_path / "runs")
    write_footage(f"{uri}/footage/anna1.mp4", 10, tmp_path)
    leave_fleet(uri, {"anna": [f"{uri}/footage/anna1.mp4"]}, tmp_path)
    return uri


def test_erasers_run_after_the_model_and_before_everything_else(storage: str) -> None:
    eraser = FakeEraser(storage)
    found = forget("anna", storage, (), [eraser], remove=False).found
    assert found["songs"] == ["la.mp3"] and "versions" in found and eraser.existing == []
    assert forget("anna", storage, (), [eraser], remove=True).found == found
    assert eraser.existing == [(False, True, True)]
    assert not (Path(storage) / "anna").exists()


def test_an_eraser_that_fails_stops_everything(storage: str) -> None:
    failing, next_eraser = FakeEraser(storage, fails=True), FakeEraser(storage)
    with pytest.raises(RendersUnreached):
        forget("anna", storage, (), [failing, next_eraser], remove=True)
    assert failing.existing == [(False, True, True)] and next_eraser.existing == []
    assert (Path(storage) / "anna").exists() and (Path(storage) / "footage" / "anna1.mp4").exists()
    known = find_in_mlflow(tracking_uri(storage), "anna")
    assert known.runs and not known.model
    # The next run deletes everything.
    assert forget("anna", storage, (), [next_eraser], remove=True).removed
    assert forget("anna", storage, (), [next_eraser], remove=False).found == {}


def test_data_that_only_erasers_know_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    eraser, other = FakeEraser(str(tmp_path)), FakeEraser(str(tmp_path))
    other.stored = {"songs": ["lo.mp3"]}
    assert forget("anna", str(tmp_path), (), [eraser, other], remove=True).found == {"songs": ["la.mp3", "lo.mp3"]}
    assert len(eraser.existing) == len(other.existing) == 1


@pytest.mark.slow
def test_without_a_server_no_file_keeps_any_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert find_in_mlflow(tracking_uri(storage), "anna").deleted == []
    assert forget("ben", storage, remove=False).found["versions"] == ["dancer-ben, version 1"]
