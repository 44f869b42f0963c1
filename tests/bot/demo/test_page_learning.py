"""The page's learning panel: fans rate by taste, a night runs, the page says what came of it and takes it back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from bot.commands import demo_desk, demo_facts
from bot.errors import NightRefused
from bot.learning_records import Cause, NightOutcome, NightState
from models.adapters import Canary, Serving
from tests.bot.demo.pages import Demo, page_of
from tests.cogs.nights import FakeNightly, night
from tests.world import World, live_world

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all: starting it takes seconds


@asynccontextmanager
async def learning(browser: Browser, folder: Path, **options: Any) -> AsyncIterator[tuple[Demo, World, FakeNightly]]:
    nightly = FakeNightly(folder)
    nightly.serving = Serving()  # type: ignore[assignment]  # the real one here
    async with live_world(folder, nightly=nightly, **options) as world:
        desk = await demo_desk(world.store, nightly)(world)  # type: ignore[arg-type]  # a fake
        try:
            async with page_of(browser, world, demo_facts(world.store, world.model), desk=desk) as demo:
                yield demo, world, nightly
        finally:
            await desk.aclose()


async def test_week_of_fans_is_labelled_as_simulated_and_lands_in_the_store(browser: Browser, tmp_path: Path) -> None:
    async with learning(browser, tmp_path) as (demo, world, _):
        panel = demo.page.locator("#learning")
        await expect(panel).to_contain_text("Simulated: 30 fans who like it when Encore")
        await panel.get_by_role("button", name="Simulate a week of fans").click()
        await expect(panel.locator("#doing")).to_contain_text("Day ")
        await expect(panel.locator("#heard")).to_contain_text(":")
        await expect(panel.get_by_role("button", name="Run a night")).to_be_disabled()
        await expect(panel.get_by_role("button", name="Run a night")).to_be_enabled(timeout=60_000)
        await expect(demo.fact("rated_replies")).to_have_text("336")
        counts = await world.store.counts(world.guild.id)
        assert (counts.replies, counts.votes_up + counts.votes_down) == (336, 3 * 336)
        await expect(demo.page.locator("#steps .done")).to_have_count(0)  # it was not you who rated


async def test_night_shows_its_progress_and_its_verdict_and_can_be_taken_back(browser: Browser, tmp_path: Path) -> None:
    async with learning(browser, tmp_path) as (demo, world, nightly):
        panel = demo.page.locator("#learning")
        await expect(panel.locator("#serving")).to_contain_text("the base model")
        await expect(panel.get_by_role("button", name="Roll back")).to_have_count(0)
        await panel.get_by_role("button", name="Run a night").click()
        await world.eventually(lambda: nightly.is_running)
        nightly.tell("Training kto: step 3 of 30, loss 0.498.", 3, 30)
        await expect(panel.locator("#doing")).to_have_text("Training kto: step 3 of 30, loss 0.498.")
        assert await panel.locator("#how-far").evaluate("bar => [bar.value, bar.max]") == [3, 30]
        ended = night(sentences=("It ranks good replies higher.", "Without its top raters too.", "<b>hostile</b>"))
        nightly.serving = Serving(None, Canary("2026-11-24-kto", 0.5, 0.0))
        folder = nightly.folder(ended)
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("<h1>What was decided</h1><script>document.title = 'run'</script>")
        nightly.end(ended)
        verdict = panel.locator(".verdict")
        await expect(verdict).to_contain_text("Proven better")
        await expect(verdict).to_contain_text("It ranks good replies higher.")
        await verdict.get_by_text("The evidence").click()
        await expect(verdict.locator("li")).to_have_text(["Without its top raters too.", "<b>hostile</b>"])
        await expect(panel.locator("#serving")).to_contain_text("2026-11-24-kto in 50% of the conversations")
        async with demo.page.expect_popup() as opened:
            await verdict.get_by_role("link", name="Open the report").click()
        report = await opened.value
        await expect(report.locator("h1")).to_have_text("What was decided")
        assert await report.title() != "run", "a script of the report ran"
        await report.close()
        await panel.get_by_role("button", name="Roll back to the base model").click()
        await world.eventually(lambda: nightly.rolled_back)
        assert nightly.begun == [(Cause.DEMO, None)]
        await world.eventually(lambda: world.replies("mod-room"))  # the morning card, as on Discord


@pytest.mark.parametrize(
    ("outcome", "title"),
    [(NightOutcome.INSUFFICIENT, "Not enough evidence"), (NightOutcome.REJECTED, "Not better"), (None, "failed")],
)
async def test_night_that_promotes_nothing_says_why(
    browser: Browser, tmp_path: Path, outcome: NightOutcome | None, title: str
) -> None:
    async with learning(browser, tmp_path) as (demo, world, nightly):
        await demo.page.get_by_role("button", name="Run a night").click()
        await world.eventually(lambda: nightly.is_running)
        state = NightState.FINISHED if outcome else NightState.FAILED
        ended = night(outcome=outcome, state=state, adapter=None, more_ratings_needed=1234 if outcome else None)
        nightly.end(replace(ended, sentences=("Only 12 replies are rated.",)))
        verdict = demo.page.locator(".verdict")
        await expect(verdict).to_contain_text(title)
        await expect(verdict).to_contain_text("Only 12 replies are rated.")
        await expect(verdict.get_by_role("link")).to_have_count(0)
        if outcome:
            await expect(verdict).to_contain_text("It takes at least 1,234 more ratings to begin.")


async def test_refusal_is_told_in_its_sentence(browser: Browser, tmp_path: Path) -> None:
    async with learning(browser, tmp_path) as (demo, _, nightly):
        nightly.refusal = NightRefused("The model echo can't learn; set MODEL=embedded or a GGUF file.")
        await demo.page.get_by_role("button", name="Run a night").click()
        await expect(demo.page.locator("#doing")).to_have_text(str(nightly.refusal))
        await expect(demo.page.get_by_role("button", name="Run a night")).to_be_enabled()
