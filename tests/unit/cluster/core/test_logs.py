"""One object of JSON a line, with ids, whatever is logged; and no secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from cluster.core import logs


class Logged:
    """A logger set up as a process of ours, and what it wrote."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log = logging.getLogger("dancedist.test")
        self._patch, self._out = patch, io.StringIO()

    def begin(self, kind: str) -> None:
        self._patch.setattr(logging.getLogger(), "handlers", [])
        self._patch.setattr("sys.stderr", self._out)
        self._patch.setenv("DANCEDIST_LOG", kind)
        logs.begin()

    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()

    def last(self) -> dict[str, object]:
        *_, last = self.lines()
        return dict(json.loads(last))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    return Logged(monkeypatch)


def test_a_line_is_an_object_with_the_ids_that_are_bound(logged: Logged) -> None:
    logged.begin("json")
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


def test_tasks_and_threads_have_the_ids_of_who_started_them_and_no_others(logged: Logged) -> None:
    logged.begin("json")

    async def attempt(render: str) -> None:
        with logs.bound(render=render):
            await asyncio.sleep(0)
            await asyncio.to_thread(logged.log.info, render)

    async def both() -> None:
        await asyncio.gather(attempt("a"), attempt("b"))

    asyncio.run(both())
    assert sorted((told["message"], told["render"]) for told in map(json.loads, logged.lines())) == [
        ("a", "a"),
        ("b", "b"),
    ]


def test_what_another_process_is_sent_can_be_bound_there(logged: Logged) -> None:
    logged.begin("json")
    with logs.bound(target="anna", attempt=1):
        sent = logs.ids()
    with logs.bound(**sent, rank=0):
        logged.log.info("begun")
    told = logged.last()
    assert (told["target"], told["attempt"], told["rank"]) == ("anna", 1, 0)


def test_exceptions_newlines_and_other_alphabets_are_one_line(logged: Logged) -> None:
    logged.begin("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logged.log.exception("Ähre \u2028 und\nZeile %s", "\x1b[31m")
    (line,) = logged.lines()
    told = json.loads(line)
    assert line.isascii() and told["message"] == "Ähre \u2028 und\nZeile \x1b[31m"
    assert told["error"].startswith("Traceback") and told["error"].endswith("ValueError: two\nlines")


SECRETS = [
    "postgresql+psycopg://dance:hunter2@db.example:5432/renders",  # pragma: allowlist secret
    "postgresql://dance:hunter2%40@db/renders",  # pragma: allowlist secret
    "redis://:hunter2@redis:6379",
    "https://s3.example/b/film.mp4?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2&X-Amz-Expires=60",
    "http://s3/b/k?AWSAccessKeyId=hunter2&Signature=hunter2",
]


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.parametrize("secret", SECRETS)
def test_passwords_and_signatures_in_addresses_are_not_logged(logged: Logged, kind: str, secret: str) -> None:
    logged.begin(kind)
    with logs.bound(place=secret):
        try:
            raise RuntimeError(f"cannot reach {secret}")
        except RuntimeError:
            logged.log.exception("cannot reach %s, twice", secret)
    text = "\n".join(logged.lines())
    assert "hunter2" not in text and "twice" in text
    assert "/renders" in text or "6379" in text or "Expires=60" in text or "s3/b/k" in text


def test_people_read_the_message_alone(logged: Logged) -> None:
    logged.begin("text")
    with logs.bound(target="anna"):
        logged.log.info("anna: attempt %d", 1)
    assert logged.lines() == ["anna: attempt 1"]


def test_a_kind_of_log_that_there_is_none_of_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_LOG", "xml")
    with pytest.raises(logs.LogUnknown, match="text or json"):
        logs.begin()
