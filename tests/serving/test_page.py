"""The service's page in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.serving.conftest import write_dance
from tests.support.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
SECONDS = 1.0
# Without these Chromium contacts its vendor's servers.
_OFFLINE = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
OPTIONS = [*_OFFLINE.split(), "--no-sandbox", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
DONE_MS = 180_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "dance.mp4"
    write_dance(path, SECONDS / 2)
    return path


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, served: Served) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    failures: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=OPTIONS)
        opened = browser.new_page(color_scheme=request.param)
        opened.on("pageerror", lambda error: failures.append(str(error)))
        opened.goto(f"http://127.0.0.1:{served.port}/")
        yield opened
        browser.close()
    assert failures == []


def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition. Playwright's own wait evaluates strings in the page, which its CSP forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {condition}")


def test_a_dance_is_uploaded_rendered_and_played(page: Page, film: Path) -> None:
    """By keyboard alone, except for the file dialog, which belongs to the system."""
    expect(page.locator(".dancer")).to_have_count(1)
    expect(page.locator("#go")).to_be_disabled()
    page.set_input_files("#source", film)
    expect(page.locator("#source-name")).to_have_text("dance.mp4")
    page.locator("#source").focus()
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "go":
            break
    assert page.evaluate("document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    expect(page.locator("#work")).to_be_visible()
    expect(page.locator("#done")).to_be_visible(timeout=DONE_MS)
    for video in ("film", "source-film"):
        until(page, f"document.getElementById('{video}').readyState >= 2")
        assert page.evaluate(f"document.getElementById('{video}').duration") == pytest.approx(SECONDS, abs=0.05)
    page.locator("#play").press("Enter")
    until(page, "document.getElementById('film').currentTime > 0.3")
    until(page, "document.getElementById('film').ended")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename.endswith(".mp4")
    text, background = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
    )
    assert _contrast(text, background) > 7


def test_a_file_that_is_not_a_video_shows_an_error(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.mp4").write_text("no video")
    page.set_input_files("#source", tmp_path / "letter.mp4")
    expect(page.locator(".dancer")).to_have_count(1)
    page.locator("#go").click()
    expect(page.locator("#problem")).to_contain_text("video unreadable")
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#go")).to_be_enabled()


def _contrast(text: str, background: str) -> float:
    """WCAG 2's contrast ratio of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(text), luminance(background)))
    return (high + 0.05) / (low + 0.05)
