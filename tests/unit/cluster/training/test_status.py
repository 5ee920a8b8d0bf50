from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from cluster.storage.open import open_storage
from cluster.training.status import State, TargetStatus, exit_code, fleet_table, read_status, write_fleet, write_status

DONE = TargetStatus("anna", "done", 2000, 12.34, 0.1234, 3, 1, bundle="/b", metrics={"body_lpips": 0.1234})
FAILED = TargetStatus("bert", "failed", attempts=3, slug="no-dancer", why="no person is visible")


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    assert read_status(store, "anna/k") is None
    write_status(store, "anna/k", DONE)
    assert read_status(store, "anna/k") == DONE
    write_fleet(store, "fleet", [DONE, FAILED])
    assert [TargetStatus(**row) for row in json.loads((tmp_path / "fleet.json").read_text())] == [DONE, FAILED]


def test_the_table_shows_everything(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=160).print(fleet_table([DONE, FAILED]))
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("anna", "2000", "12.3", "0.1234", "3", "no person is visible [no-dancer]"))


@pytest.mark.parametrize(
    ("states", "code"), [(["done", "found done"], 0), (["done", "failed"], 3), (["failed", "stopped"], 130), ([], 0)]
)
def test_exit_codes(states: list[State], code: int) -> None:
    assert exit_code([TargetStatus(str(i), state) for i, state in enumerate(states)]) == code
