from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_MISSING = "no Chromium on this machine; Debian and Ubuntu: apt-get install chromium, then it is found on PATH"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program. Without one these tests are skipped, but never where they are to decide what lands."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    if os.environ.get("CI") == "true":
        pytest.fail(_MISSING)
    pytest.skip(_MISSING)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A real Chromium, for which every name that ends in ``.test`` is this machine.

    One for each module: Playwright keeps an event loop in this thread for as long as it runs, beside which the tests
    of other folders could have none.
    """
    arguments = [
        "--no-sandbox",
        "--no-proxy-server",
        "--host-resolver-rules=MAP *.test 127.0.0.1",
        # Newer browsers ask their user before a page from elsewhere may call this machine. Ours must hold in all.
        "--disable-features=LocalNetworkAccessChecks",
    ]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield opened
        finally:
            opened.close()
