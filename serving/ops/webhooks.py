"""Webhooks: signed calls to allowed hosts when a render has ended, retried until accepted or given up."""

from __future__ import annotations

import hmac
import json
import logging
import time
from hashlib import sha256

import urllib3

from serving.api.schemas import render_view
from serving.db.leases import Leases
from serving.db.models import RenderRow

log = logging.getLogger("dancedist")
# Delays after failed calls: about half an hour in total.
RETRY_DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1200.0)
TIMEOUT_S = 10.0
SIGNATURE = "Dancedist-Signature"


def call_next_webhook(leases: Leases, secret: str) -> bool:
    """Call one webhook that is due, if any. Returns whether there was one."""
    row = leases.next_webhook(RETRY_DELAYS_S)
    if row is None:
        return False
    body = json.dumps({"render": render_view(row, {}).model_dump(mode="json")}).encode()
    if _deliver(row, body, secret):
        leases.webhook_delivered(row.id)
    return True


def signature(secret: str, at_s: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`; the receiver can reject replayed calls by their age."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _deliver(row: RenderRow, body: bytes, secret: str) -> bool:
    assert row.webhook is not None
    headers = {"Content-Type": "application/json", SIGNATURE: signature(secret, int(time.time()), body)}
    try:
        # Redirects are refused: their target is not on the allow-list.
        response = urllib3.request(
            "POST", row.webhook, body=body, headers=headers, timeout=TIMEOUT_S, retries=False, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        log.warning("warning: render %s: its webhook does not answer: %s", row.id, error)
        return False
    if not 200 <= response.status < 300:
        log.warning("warning: render %s: its webhook answered with %d", row.id, response.status)
        return False
    return True
