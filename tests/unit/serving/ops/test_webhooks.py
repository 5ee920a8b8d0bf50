from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.db.leases import Leases
from serving.db.records import Records
from serving.ops import webhooks
from serving.ops.webhooks import SIGNATURE, call_next_webhook, signature
from tests.unit.serving.conftest import new_render


class Hook(HTTPServer):
    """A receiver of webhooks: answers with `statuses` in turn, then 200, and records the calls."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[bytes, str]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.calls.append((body, self.headers[SIGNATURE]))
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


def add_ended_render(records: Records, leases: Leases, address: str | None) -> str:
    render_id = records.add(replace(new_render(), webhook=address), 9, 9)[0].id
    acquired = leases.acquire(60)
    assert acquired is not None
    leases.fail(acquired[0], {"type": "t", "title": "t", "status": 422, "detail": "d"})
    return render_id


def test_a_webhook_is_called_once_and_signed(records: Records, leases: Leases, hook: Hook) -> None:
    waiting = records.add(replace(new_render(), webhook=hook.address), 9, 9)[0].id
    assert not call_next_webhook(leases, "secret")
    records.cancel(waiting)
    assert call_next_webhook(leases, "secret") and not call_next_webhook(leases, "secret")
    body, signed = hook.calls[0]
    assert json.loads(body)["render"]["id"] == waiting
    at_s = int(signed.partition(",")[0].removeprefix("t="))
    assert signed == signature("secret", at_s, body) != signature("other", at_s, body)
    add_ended_render(records, leases, None)
    assert not call_next_webhook(leases, "secret") and len(hook.calls) == 1


def test_a_webhook_is_retried_until_it_is_accepted(
    records: Records, leases: Leases, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    hook.statuses = [500, 307, 200]
    add_ended_render(records, leases, hook.address)
    while call_next_webhook(leases, "secret"):
        pass
    assert len(hook.calls) == 3
    hook.statuses = [500] * 9
    add_ended_render(records, leases, hook.address)
    while call_next_webhook(leases, "secret"):
        pass
    assert len(hook.calls) == 3 + 4


def test_an_unreachable_webhook_is_skipped(records: Records, leases: Leases) -> None:
    add_ended_render(records, leases, "http://127.0.0.1:1/hook")
    assert call_next_webhook(leases, "secret") and not call_next_webhook(leases, "secret")
