"""The demo's page in a browser, for the tests that drive it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from bot.demo.desk import Desk
from bot.demo.server import DemoServer, FactsOf
from bot.demo.world import LiveWorld


class Demo:
    """The page of a running world, by what a person does and looks at there."""

    def __init__(self, page: Page, world: LiveWorld, server: DemoServer) -> None:
        self.page, self.world, self.server = page, world, server
        self.box = page.locator("#box")

    async def open(self) -> None:
        await self.page.goto(self.server.url)
        await expect(self.box).to_be_visible()

    def message(self, text: str | re.Pattern[str]) -> Locator:
        return self.page.locator(".message").filter(has_text=text).last

    async def say(self, text: str) -> None:
        await self.box.fill(text)
        await self.box.press("Enter")

    async def become(self, name: str) -> None:
        await self.page.get_by_role("radio", name=name).click()
        await expect(self.page.get_by_role("radio", name=name)).to_be_checked()

    async def go(self, channel: str) -> None:
        await self.page.locator(".channel", has_text=channel).click()
        await expect(self.page.locator("#title")).to_contain_text(channel)

    def fact(self, name: str) -> Locator:
        return self.page.locator(f"[data-fact={name}] dd")


@asynccontextmanager
async def page_of(
    browser: Browser, world: LiveWorld, facts: FactsOf, *, desk: Desk | None = None, **options: Any
) -> AsyncIterator[Demo]:
    """Serve an entered world and open its page; fails when the page complained or asked anyone else for anything."""
    troubles: list[str] = []
    async with DemoServer(world, facts, desk=desk) as server:
        page = await browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda request: troubles.append(request.url) if "127.0.0.1" not in request.url else None)
        demo = Demo(page, world, server)
        await demo.open()
        try:
            yield demo
        finally:
            await page.context.close()
    assert troubles == []
