from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from cluster.storage.base import open_storage
from cluster.training.status import Row, State, exit_code, fleet_table, read_row, write_fleet, write_row

DONE = Row("anna", "done", 2000, 12.34, 0.1234, 3, 1, bundle="/b", metrics={"body_lpips": 0.1234})
FAILED = Row("bert", "failed", attempts=3, slug="no-dancer", why="nobody is seen")


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    assert read_row(store, "anna/k") is None
    write_row(store, "anna/k", DONE)
    assert read_row(store, "anna/k") == DONE
    write_fleet(store, "fleet", [DONE, FAILED])
    assert [Row(**row) for row in json.loads((tmp_path / "fleet.json").read_text())] == [DONE, FAILED]


def test_the_table_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=160).print(fleet_table([DONE, FAILED]))
    told = capsys.readouterr().out
    assert all(word in told for word in ("anna", "2000", "12.3", "0.1234", "3", "nobody is seen [no-dancer]"))


@pytest.mark.parametrize(
    ("states", "code"), [(["done", "found done"], 0), (["done", "failed"], 3), (["failed", "stopped"], 130), ([], 0)]
)
def test_exit_codes(states: list[State], code: int) -> None:
    assert exit_code([Row(str(i), state) for i, state in enumerate(states)]) == code
