"""A running world with its server, and a browser for each module of tests that drive the page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.bot.demo.door import Door
from tests.bot.demo.toy import ToyBot

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One for a whole module: to start it takes seconds."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=_QUIET)
        yield browser
        await browser.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door(ToyBot()) as door:
        yield door
