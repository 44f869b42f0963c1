"""Take the README's pictures: the demo with the real bot and model, in headless Chromium, into docs/pictures.

    python -m docs.screenshots [--night DIR]

Run it from the repository's root, with the `dev` extra and a Chromium installed. It uses the embedded model: the file
that ENCORE_TEST_MODEL names, or the one that `encore` keeps (fetched if missing). The questions and the seed are fixed;
the answers are the model's own. The last two pictures are of a real night in the demo, which takes ten minutes
unless DIR is the folder of a demo where one has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Locator, Page, ViewportSize, async_playwright, expect

from bot.client import build_bot
from bot.commands import demo_desk, demo_facts
from bot.composition import NightOptions, services
from bot.demo.server import DemoServer
from bot.demo.world import LiveWorld
from bot.records import Provenance
from bot.settings import load
from bot.store import Store
from models.types import Sampling

PICTURES = Path(__file__).parent / "pictures"
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SEED = 11
SAMPLING = Sampling(temperature=0.4, max_new_tokens=90)
_DESKTOP: ViewportSize = {"width": 1280, "height": 800}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ANSWER_MILLISECONDS = 120_000
_NIGHT_MILLISECONDS = 3_600_000


async def main(night: Path | None) -> None:
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        raise SystemExit("No Chromium was found: install one, then run this again.")
    PICTURES.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        with tempfile.TemporaryDirectory() as folder:
            async with _demo(Path(folder)) as (world, store, url):
                await store.change_server_settings(world.guild.id, world.moderator.id, seed=SEED, sampling=SAMPLING)
                await _take_pictures(browser, world, url)
        with tempfile.TemporaryDirectory() as folder:
            async with _demo(night or Path(folder)) as (_, _, url):
                await _take_learning(browser, url)
        await browser.close()


@asynccontextmanager
async def _demo(folder: Path) -> AsyncIterator[tuple[LiveWorld, Store, str]]:
    """Run the demo on a folder, as the command does; yield its world, its store and the page's address."""
    settings = load(_environment(folder))
    nights = NightOptions(snowflakes=False)
    opening = services(settings, database=folder / "encore.sqlite3", progress=lambda *_: None, nights=nights)
    async with opening as (store, model, learning, screening):
        bot = build_bot(settings, store, model, learning=learning, screening=screening, provenance=Provenance.DEMO)
        async with LiveWorld(bot) as world:
            desk = await demo_desk(store, learning.nightly)(world)
            async with DemoServer(world, demo_facts(store, model), desk=desk) as server:
                yield world, store, server.url
            await desk.aclose()


def _environment(folder: Path) -> dict[str, str]:
    """Return the settings of the pictures; a model file that is given is put where `encore` keeps its own."""
    environment = {"MESSAGE_CONTENT_INTENT": "true", "EDIT_INTERVAL_SECONDS": "0.4", "MODEL": "embedded"}
    if given := os.environ.get("ENCORE_TEST_MODEL"):
        (folder / "models").mkdir(exist_ok=True)
        if not (folder / "models" / MODEL_NAME).exists():
            (folder / "models" / MODEL_NAME).symlink_to(Path(given).resolve())
        environment["DATA_DIR"] = str(folder)
    return environment


async def _take_pictures(browser: Browser, world: LiveWorld, url: str) -> None:
    await world.say(world.alex, "general", "The curtain is up! Anyone got a question for our host?")
    page = await _open(browser, url, device_scale_factor=1.5)
    await page.locator("#box").fill("@Encore Hi! Why is the moon so bright tonight?")
    await page.keyboard.press("Enter")
    first = await _answer(page, 0)
    await first.hover()
    await first.get_by_role("button", name="React with 👍").click()
    await world.react(world.alex, world.replies("general")[0], "🔥")
    await world.say(world.alex, "general", f"{world.mention} Name a good film for a rainy evening.")
    await expect(page.locator(".message.bot").nth(1)).to_contain_text(re.compile(".{90}"), timeout=_ANSWER_MILLISECONDS)
    await page.mouse.move(640, 30)
    await _save(page, "demo", 200)

    second = await _answer(page, 1)
    await world.react(world.troll, world.replies("general")[-1], "👎")
    await page.emulate_media(color_scheme="dark")
    await second.hover()
    await second.get_by_role("button", name="Choose a reaction").click()
    await _save(page, "demo-dark")

    await page.keyboard.press("Escape")
    await page.emulate_media(color_scheme="light")
    await second.locator(".part button", has_text="👎").click()
    await page.get_by_role("dialog").wait_for()
    await _save(page, "demo-correction")
    await page.context.close()

    page = await _open(browser, url)
    await page.get_by_role("radio", name="Sam").click()
    await page.locator("#box").press_sequentially("/encore s")
    await _save(page, "demo-commands")
    await page.context.close()

    page = await _open(browser, url, viewport={"width": 390, "height": 780}, color_scheme="dark", has_touch=True)
    await _save(page, "demo-phone")
    await page.context.close()


async def _take_learning(browser: Browser, url: str) -> None:
    """Let a week pass and a night run, where none has, and show what came of it."""
    page = await browser.new_page(viewport=_DESKTOP, color_scheme="light", locale="en-GB", device_scale_factor=1.5)
    await page.goto(url)
    panel = page.locator("#learning")
    await panel.wait_for()
    if not await panel.locator(".verdict").count():
        await _pass_a_week_and_a_night(panel)
    await page.get_by_role("radio", name="Sam").click()
    await page.locator(".channel", has_text="mod-room").click()
    await page.locator("#box").fill("/training status")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await page.locator(".message .embed").last.wait_for()
    await panel.evaluate("panel => panel.scrollIntoView({block: 'start'})")
    await _save(page, "demo-learning")
    report = await browser.new_page(viewport={"width": 1000, "height": 1100}, color_scheme="light", locale="en-GB")
    await report.goto(f"{url}report")
    await _save(report, "night-report")
    await report.context.close()
    await page.context.close()


async def _pass_a_week_and_a_night(panel: Locator) -> None:
    await panel.get_by_role("button", name="Simulate a week of fans").click()
    night = panel.get_by_role("button", name="Run a night")
    await expect(night).to_be_disabled()
    await expect(night).to_be_enabled(timeout=_NIGHT_MILLISECONDS)
    await night.click()
    await panel.locator(".verdict").wait_for(timeout=_NIGHT_MILLISECONDS)


async def _open(browser: Browser, url: str, **options: Any) -> Page:
    page = await browser.new_page(**{"viewport": _DESKTOP, "color_scheme": "light", "locale": "en-GB", **options})
    await page.goto(url)
    await page.locator(".message").first.wait_for()
    return page


async def _answer(page: Page, index: int) -> Any:
    """Wait until an answer of the bot is complete, which is when it offers to regenerate it."""
    message = page.locator(".message.bot").nth(index)
    await message.get_by_role("button", name="Regenerate").wait_for(timeout=_ANSWER_MILLISECONDS)
    return message


async def _save(page: Page, name: str, settle_milliseconds: int = 1800) -> None:
    await page.wait_for_timeout(settle_milliseconds)  # for the figures' animation to end
    await page.screenshot(path=PICTURES / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take the README's pictures")
    parser.add_argument("--night", type=Path, help="the demo's folder after a night (default: one is run)")
    asyncio.run(main(parser.parse_args().night))
