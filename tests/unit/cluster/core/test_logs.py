"""Logs: one JSON object per line with correlation ids, and no secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from cluster.core import logs


class Logged:
    """A logger configured by `logs.configure`, and its output."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log = logging.getLogger("dancedist.test")
        self._patch, self._out = patch, io.StringIO()

    def configure(self, log_format: str) -> None:
        self._patch.setattr(logging.getLogger(), "handlers", [])
        self._patch.setattr("sys.stderr", self._out)
        self._patch.setenv("DANCEDIST_LOG", log_format)
        logs.configure()

    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()

    def last(self) -> dict[str, object]:
        *_, last = self.lines()
        return dict(json.loads(last))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    return Logged(monkeypatch)


def test_each_line_is_an_object_with_the_bound_ids(logged: Logged) -> None:
    logged.configure("json")
    with logs.bound(render="abc", attempt=2):
        with logs.bound(chunk=3):
            logged.log.info("%d frames", 7)
        inner = logged.last()
        logged.log.info("and then")
    assert (inner["message"], inner["level"], inner["logger"]) == ("7 frames", "info", "dancedist.test")
    assert (inner["render"], inner["attempt"], inner["chunk"]) == ("abc", 2, 3)
    assert logged.last().keys() & {"render", "attempt", "chunk"} == {"render", "attempt"}
    logged.log.info("outside")
    assert not logged.last().keys() & {"render", "attempt", "chunk"}


def test_tasks_and_threads_have_only_the_ids_of_their_starter(logged: Logged) -> None:
    logged.configure("json")

    async def attempt(render: str) -> None:
        with logs.bound(render=render):
            await asyncio.sleep(0)
            await asyncio.to_thread(logged.log.info, render)

    async def both() -> None:
        await asyncio.gather(attempt("a"), attempt("b"))

    asyncio.run(both())
    assert sorted((record["message"], record["render"]) for record in map(json.loads, logged.lines())) == [
        ("a", "a"),
        ("b", "b"),
    ]


def test_ids_can_be_sent_to_another_process_and_bound_there(logged: Logged) -> None:
    logged.configure("json")
    with logs.bound(target="anna", attempt=1):
        sent = logs.ids()
    with logs.bound(**sent, rank=0):
        logged.log.info("started")
    record = logged.last()
    assert (record["target"], record["attempt"], record["rank"]) == ("anna", 1, 0)


def test_exceptions_newlines_and_non_ascii_text_stay_on_one_line(logged: Logged) -> None:
    logged.configure("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logged.log.exception("Ähre \u2028 und\nZeile %s", "\x1b[31m")
    (line,) = logged.lines()
    record = json.loads(line)
    assert line.isascii() and record["message"] == "Ähre \u2028 und\nZeile \x1b[31m"
    assert record["error"].startswith("Traceback") and record["error"].endswith("ValueError: two\nlines")


SECRETS = [
    "postgresql+psycopg://dance:hunter2@db.example:5432/renders",  # pragma: allowlist secret
    "postgresql://dance:hunter2%40@db/renders",  # pragma: allowlist secret
    "redis://:hunter2@redis:6379",
    "https://s3.example/b/film.mp4?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2&X-Amz-Expires=60",
    "http://s3/b/k?AWSAccessKeyId=hunter2&Signature=hunter2",
]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("secret", SECRETS)
def test_passwords_and_signatures_in_urls_are_not_logged(logged: Logged, log_format: str, secret: str) -> None:
    logged.configure(log_format)
    with logs.bound(place=secret):
        try:
            raise RuntimeError(f"cannot reach {secret}")
        except RuntimeError:
            logged.log.exception("cannot reach %s, twice", secret)
    text = "\n".join(logged.lines())
    assert "hunter2" not in text and "twice" in text
    assert "/renders" in text or "6379" in text or "Expires=60" in text or "s3/b/k" in text


def test_the_text_format_has_the_message_alone(logged: Logged) -> None:
    logged.configure("text")
    with logs.bound(target="anna"):
        logged.log.info("anna: attempt %d", 1)
    assert logged.lines() == ["anna: attempt 1"]


def test_an_unknown_log_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_LOG", "xml")
    with pytest.raises(logs.LogFormatInvalid, match="text or json"):
        logs.configure()
