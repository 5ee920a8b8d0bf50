from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.tracking.outbox import Spool


def contents(spool: Spool) -> list[object]:
    return [record.content["n"] for record in spool.head(1000)]


def test_records_come_out_in_order_and_go_when_they_are_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    numbers = [spool.append({"n": n}) for n in range(12)]
    assert contents(spool) == list(range(12))
    assert contents(spool)[:1] == [spool.head()[0].content["n"]] == [0]
    spool.remove(numbers[0])
    assert contents(spool) == list(range(1, 12))
    assert len(spool) == 11


def test_the_next_process_finds_what_was_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    spool.append({"n": 1}, {"a/x.txt": "text"})
    spool.remove(1)
    spool.close()
    again = Spool(tmp_path)
    assert contents(again) == [1]
    assert (again.head()[0].files / "a" / "x.txt").read_text() == "text"
    again.append({"n": 2})
    assert contents(again) == [1, 2]


def test_files_stay_as_they_were_handed_over(tmp_path: Path) -> None:
    file, spool = tmp_path / "sample.png", Spool(tmp_path / "spool")
    file.write_text("first")
    number = spool.append({"n": 0}, {"samples/1.png": file})
    new = tmp_path / "new"
    new.write_text("second")
    os.replace(new, file)
    (record,) = spool.head()
    assert (record.files / "samples" / "1.png").read_text() == "first"
    file.unlink()
    assert (record.files / "samples" / "1.png").read_text() == "first"
    spool.remove(number)
    assert not record.files.exists()


def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(BlockingIOError):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_what_is_set_aside_does_not_stand_in_the_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    number = spool.append({"n": 0}, {"x": "text"})
    spool.append({"n": 1})
    aside = spool.set_aside(number)
    assert contents(spool) == [1]
    assert aside.is_file()
    assert (aside.with_suffix(".files") / "x").read_text() == "text"


def test_a_record_that_lost_its_content_is_still_in_its_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    spool.append({"n": 1})
    (tmp_path / "queue" / "000000000001.json").write_bytes(b"")
    assert [record.content for record in spool.head(2)] == [{}, {"n": 1}]


WRITER = """
import sys
from pathlib import Path
from cluster.tracking.outbox import Spool
spool = Spool(Path(sys.argv[1]))
for n in range(100000):
    spool.append({"n": n}, {"a": str(n), "b/c": "x" * 2000} if n % 2 else None)
    print(n, flush=True)
"""


def test_a_kill_at_any_instant_leaves_whole_records(tmp_path: Path) -> None:
    for kill_after in (3, 40, 101):
        folder = tmp_path / str(kill_after)
        with subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = -1
            for line in process.stdout:
                told = int(line)
                if told == kill_after:
                    process.send_signal(signal.SIGKILL)
        spool = Spool(folder)
        records = spool.head(100000)
        # All that were told of, and at most the one that was on its way.
        assert [r.content["n"] for r in records] in (list(range(told + 1)), list(range(told + 2)))
        for record in records[1::2]:
            assert (record.files / "a").read_text() == str(record.content["n"])
            assert (record.files / "b" / "c").read_text() == "x" * 2000
        # Nothing else is left of what the kill broke off.
        assert len(list((folder / "queue").iterdir())) == len(records) + len(records) // 2
        spool.close()
