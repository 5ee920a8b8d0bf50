from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from serving.db.engine import Database


def test_who_comes_while_another_writes_a_new_file_waits(tmp_path: Path) -> None:
    # SQLite itself refuses to begin a log at once then, whatever its busy_timeout.
    path, held, waited_s = tmp_path / "records.db", threading.Event(), 0.3

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE theirs (i)")
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO theirs VALUES (1)")
            held.set()
            time.sleep(waited_s)
            other.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    held.wait()
    began = time.monotonic()
    Database(f"sqlite:///{path}").close()
    writer.join()
    assert time.monotonic() - began > waited_s / 2
