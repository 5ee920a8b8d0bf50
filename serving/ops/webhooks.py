"""Calls back when a render has ended: signed, to hosts that are allowed, until it is heard."""

from __future__ import annotations

import hmac
import json
import logging
import time
from hashlib import sha256

import urllib3

from serving.api.schemas import render_view
from serving.db.leases import Claims
from serving.db.models import RenderRow

log = logging.getLogger("dancedist")
# After a call that was not heard: half an hour in all.
WAITS_S = (5.0, 30.0, 120.0, 600.0, 1200.0)
TIMEOUT_S = 10.0
SIGNATURE = "Dancedist-Signature"


def call_next(claims: Claims, secret: str) -> bool:
    """Call one webhook that is due, if any; whether there was one."""
    row = claims.next_call(WAITS_S)
    if row is None:
        return False
    body = json.dumps({"render": render_view(row, {}).model_dump(mode="json")}).encode()
    if _heard(row, body, secret):
        claims.called(row.id)
    return True


def signature(secret: str, at_s: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`, so that an old call cannot be sent again."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _heard(row: RenderRow, body: bytes, secret: str) -> bool:
    assert row.webhook is not None
    headers = {"Content-Type": "application/json", SIGNATURE: signature(secret, int(time.time()), body)}
    try:
        # Where it would be sent on to, nobody has allowed.
        answer = urllib3.request(
            "POST", row.webhook, body=body, headers=headers, timeout=TIMEOUT_S, retries=False, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        log.warning("warning: render %s: its webhook does not answer: %s", row.id, error)
        return False
    if not 200 <= answer.status < 300:
        log.warning("warning: render %s: its webhook says %d", row.id, answer.status)
        return False
    return True
