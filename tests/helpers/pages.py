"""Pages that are tested in a real browser."""

import shutil
import time
from contextlib import contextmanager

import pytest

# What keeps a test from waiting for ever. It says nothing of how fast a page is: on a machine
# with other work a browser may need a minute for what it else does in one second.
TIMEOUT_S = 240
_CHROMIUM = shutil.which("chromium")
_ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


@contextmanager
def chromium():
    """A browser; a test that asks for it where there is none is skipped."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if _CHROMIUM is None:
        pytest.skip("needs chromium on the path")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=_CHROMIUM, args=_ARGUMENTS.split(), timeout=1000 * TIMEOUT_S
        )
        yield browser
        browser.close()


def opened(browser, url, *, height=1000):
    """A page, that notes its errors and what it asked for in `errors` and `requested`."""
    page = browser.new_page(viewport={"width": 1280, "height": height})
    page.set_default_timeout(1000 * TIMEOUT_S)
    page.errors, page.requested = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(url)
    return page


def until(page, holds):
    """Wait until something holds: the parts of a page change one after the other."""
    end = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < end
        page.wait_for_timeout(50)
