from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.tracking.outbox import Outbox


def contents(outbox: Outbox) -> list[object]:
    return [record.content["n"] for record in outbox.head(1000)]


def test_records_are_read_in_order_and_removed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    numbers = [outbox.append({"n": n}) for n in range(12)]
    assert contents(outbox) == list(range(12))
    assert contents(outbox)[:1] == [outbox.head()[0].content["n"]] == [0]
    outbox.remove(numbers[0])
    assert contents(outbox) == list(range(1, 12))
    assert len(outbox) == 11


def test_the_next_process_finds_remaining_records(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"n": 0})
    outbox.append({"n": 1}, {"a/x.txt": "text"})
    outbox.remove(1)
    outbox.close()
    again = Outbox(tmp_path)
    assert contents(again) == [1]
    assert (again.head()[0].files / "a" / "x.txt").read_text() == "text"
    again.append({"n": 2})
    assert contents(again) == [1, 2]


def test_files_keep_the_content_they_had_when_appended(tmp_path: Path) -> None:
    file, outbox = tmp_path / "sample.png", Outbox(tmp_path / "spool")
    file.write_text("first")
    number = outbox.append({"n": 0}, {"samples/1.png": file})
    new = tmp_path / "new"
    new.write_text("second")
    os.replace(new, file)
    (record,) = outbox.head()
    assert (record.files / "samples" / "1.png").read_text() == "first"
    file.unlink()
    assert (record.files / "samples" / "1.png").read_text() == "first"
    outbox.remove(number)
    assert not record.files.exists()


def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with pytest.raises(BlockingIOError):
        Outbox(tmp_path)
    outbox.close()
    Outbox(tmp_path).close()


def test_a_refused_record_does_not_block_the_next(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    number = outbox.append({"n": 0}, {"x": "text"})
    outbox.append({"n": 1})
    aside = outbox.set_aside(number)
    assert contents(outbox) == [1]
    assert aside.is_file()
    assert (aside.with_suffix(".files") / "x").read_text() == "text"


def test_a_record_that_lost_its_content_keeps_its_place(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"n": 0})
    outbox.append({"n": 1})
    (tmp_path / "queue" / "000000000001.json").write_bytes(b"")
    assert [record.content for record in outbox.head(2)] == [{}, {"n": 1}]


WRITER = """
import sys
from pathlib import Path
from cluster.tracking.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for n in range(100000):
    outbox.append({"n": n}, {"a": str(n), "b/c": "x" * 2000} if n % 2 else None)
    print(n, flush=True)
"""


def test_a_kill_at_any_instant_leaves_complete_records(tmp_path: Path) -> None:
    for kill_after in (3, 40, 101):
        folder = tmp_path / str(kill_after)
        with subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            printed = -1
            for line in process.stdout:
                printed = int(line)
                if printed == kill_after:
                    process.send_signal(signal.SIGKILL)
        outbox = Outbox(folder)
        records = outbox.head(100000)
        # All printed records, and at most the one that was being appended.
        assert [r.content["n"] for r in records] in (list(range(printed + 1)), list(range(printed + 2)))
        for record in records[1::2]:
            assert (record.files / "a").read_text() == str(record.content["n"])
            assert (record.files / "b" / "c").read_text() == "x" * 2000
        # Nothing else remains of the interrupted append.
        assert len(list((folder / "queue").iterdir())) == len(records) + len(records) // 2
        outbox.close()
