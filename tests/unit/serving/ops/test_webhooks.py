from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.db.leases import Claims
from serving.db.records import Records
from serving.ops import webhooks
from serving.ops.webhooks import SIGNATURE, call_next, signature
from tests.unit.serving.conftest import asked


class Hook(HTTPServer):
    """It answers with `statuses`, one after another, and keeps what it heard."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.heard: list[tuple[bytes, str]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.heard.append((body, self.headers[SIGNATURE]))
                self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ended(records: Records, claims: Claims, address: str | None) -> str:
    render_id = records.add(replace(asked(), webhook=address), 9, 9)[0].id
    taken = claims.claim(60)
    assert taken is not None
    claims.fail(taken[0], {"type": "t", "title": "t", "status": 422, "detail": "d"})
    return render_id


def test_it_is_called_once_and_signed(records: Records, claims: Claims, hook: Hook) -> None:
    waiting = records.add(replace(asked(), webhook=hook.address), 9, 9)[0].id
    assert not call_next(claims, "secret")
    records.cancel(waiting)
    assert call_next(claims, "secret") and not call_next(claims, "secret")
    body, signed = hook.heard[0]
    assert json.loads(body)["render"]["id"] == waiting
    at_s = int(signed.partition(",")[0].removeprefix("t="))
    assert signed == signature("secret", at_s, body) != signature("other", at_s, body)
    ended(records, claims, None)
    assert not call_next(claims, "secret") and len(hook.heard) == 1


def test_it_is_called_again_until_it_is_heard(
    records: Records, claims: Claims, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS_S", (0.0, 0.0, 0.0))
    hook.statuses = [500, 307, 200]
    ended(records, claims, hook.address)
    while call_next(claims, "secret"):
        pass
    assert len(hook.heard) == 3
    hook.statuses = [500] * 9
    ended(records, claims, hook.address)
    while call_next(claims, "secret"):
        pass
    assert len(hook.heard) == 3 + 4


def test_one_that_is_not_there_is_borne(records: Records, claims: Claims) -> None:
    ended(records, claims, "http://127.0.0.1:1/hook")
    assert call_next(claims, "secret") and not call_next(claims, "secret")
