from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from serving.db.engine import Database


def test_opening_waits_while_another_process_writes_a_new_file(tmp_path: Path) -> None:
    # In this case SQLite refuses write-ahead logging at once, whatever its busy_timeout.
    path, locked, hold_s = tmp_path / "records.db", threading.Event(), 0.3

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE theirs (i)")
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO theirs VALUES (1)")
            locked.set()
            time.sleep(hold_s)
            other.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    locked.wait()
    started_s = time.monotonic()
    Database(f"sqlite:///{path}").close()
    writer.join()
    assert time.monotonic() - started_s > hold_s / 2
