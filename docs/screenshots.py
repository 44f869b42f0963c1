"""Take the README's pictures: the demo with the real bot and model, in headless Chromium, into docs/pictures.

    python -m docs.screenshots

Run it from the repository's root, with the `dev` extra and a Chromium installed. It uses the embedded model: the file
that ENCORE_TEST_MODEL names, or the one that `encore` keeps (fetched if missing). The questions and the seed are fixed;
the answers are the model's own. The last two pictures are of a real night, so all takes a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from bot.client import build_bot
from bot.commands import demo_desk, demo_facts
from bot.composition import NightOptions, services
from bot.demo.server import DemoServer
from bot.demo.world import LiveWorld
from bot.records import Provenance
from bot.settings import load
from models.types import Sampling

PICTURES = Path(__file__).parent / "pictures"
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SEED = 11
SAMPLING = Sampling(temperature=0.4, max_new_tokens=90)
_DESKTOP = {"width": 1280, "height": 800}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ANSWER_MILLISECONDS = 120_000
_NIGHT_MILLISECONDS = 3_600_000


async def main() -> None:
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        raise SystemExit("No Chromium was found: install one, then run this again.")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = load(_environment(Path(folder)))
        opening = services(
            settings,
            database=Path(folder) / "encore.sqlite3",
            progress=lambda *_: None,
            nights=NightOptions(snowflakes=False),
        )
        async with opening as (store, model, learning):
            bot = build_bot(
                settings, store, model, nightly=learning.nightly, arms=learning.arms, provenance=Provenance.DEMO
            )
            async with LiveWorld(bot) as world:
                desk = await demo_desk(store, learning.nightly)(world)
                facts = demo_facts(store, model)
                async with DemoServer(world, facts, desk=desk) as server, async_playwright() as playwright:
                    await store.change_server_settings(world.guild.id, world.moderator.id, seed=SEED, sampling=SAMPLING)
                    browser = await playwright.chromium.launch(
                        executable_path=executable,
                        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
                    )
                    await _take_pictures(browser, world, server.url)
                    await store.change_server_settings(
                        world.guild.id, world.moderator.id, seed=None, sampling=Sampling()
                    )
                    await _take_learning(browser, server.url)
                    await browser.close()
                await desk.aclose()


def _environment(folder: Path) -> dict[str, str]:
    """Return the settings of the pictures; a model file that is given is put where `encore` keeps its own."""
    environment = {"MESSAGE_CONTENT_INTENT": "true", "EDIT_INTERVAL_SECONDS": "0.4", "MODEL": "embedded"}
    if given := os.environ.get("ENCORE_TEST_MODEL"):
        (folder / "models").mkdir()
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
    """Let a week pass and a night run, which takes some ten minutes, and show what came of it."""
    page = await _open(browser, url)
    panel = page.locator("#learning")
    await panel.get_by_role("button", name="Simulate a week of fans").click()
    night = panel.get_by_role("button", name="Run a night")
    await expect(night).to_be_disabled()
    await expect(night).to_be_enabled(timeout=_NIGHT_MILLISECONDS)
    await night.click()
    await panel.locator(".verdict").wait_for(timeout=_NIGHT_MILLISECONDS)
    await page.get_by_role("radio", name="Sam").click()
    await page.locator(".channel", has_text="mod-room").click()
    await panel.evaluate("panel => panel.scrollIntoView({block: 'start'})")
    await _save(page, "demo-learning")
    report = await browser.new_page(viewport={"width": 1000, "height": 1100}, color_scheme="light", locale="en-GB")
    await report.goto(f"{url}report")
    await _save(report, "night-report")
    await report.context.close()
    await page.context.close()


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
    asyncio.run(main())
