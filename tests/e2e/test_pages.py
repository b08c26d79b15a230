"""The pages in a real browser: the one-time link, the list, one message, on a desk and on a phone."""

from __future__ import annotations

import re
import shutil
import smtplib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from peers.service import Service
from tests.e2e.conftest import wait_for_state

CHROMIUM = shutil.which("chromium") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is missing: apt-get install chromium")
OFFLINE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield running
        running.close()


def signed_in(browser: Browser, service: Service, width: int, scheme: str) -> tuple[Page, list[str]]:
    """A page of that width that came in by a new link, and what its console complained about."""
    owner = service.json("user", "list")[0]["username"]
    link = service.json("user", "link", owner)["link"]
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(link)
    with page.expect_navigation():
        page.get_by_role("button").click()
    return page, complaints


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_it_shows_a_newcomer_what_became_of_the_mail(
    browser: Browser, service: Service, width: int, scheme: str
) -> None:
    recipient = f"page{width}@example.com"
    with smtplib.SMTP("127.0.0.1", service.smtp) as client:
        client.sendmail(
            "ann@example.org",
            [recipient],
            "From: ann@example.org\r\nSubject: <b>Report</b> ä\r\n\r\nx\r\n".encode(),
        )
    wait_for_state(service, recipient, "captured")
    page, complaints = signed_in(browser, service, width, scheme)
    assert page.get_by_text(recipient).is_visible()
    assert page.get_by_text(re.compile("captured", re.IGNORECASE)).first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name=re.compile("Report")).first.click()
    page.wait_for_url("**/messages/*")
    assert page.get_by_text("<b>Report</b> ä").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not complaints
