"""The page before the real bot and its store: what is done by mouse is in the store, and the page shows it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, expect

from bot.commands import demo_facts
from bot.records import Reply, ReplyState
from tests.bot.demo.pages import Demo, page_of
from tests.cogs.nights import FakeNightly
from tests.world import World, live_world

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all: starting it takes seconds

STORY = "Once there was " + " ".join(f"word{number}" for number in range(30))  # within the length limit


@asynccontextmanager
async def encore(browser: Browser, folder: Path, **model_options: Any) -> AsyncIterator[tuple[Demo, World]]:
    """Open the page before Encore, which answers everything with STORY; `model_options` go to the echo engine."""
    async with live_world(folder, **model_options) as world:
        world.engine.says = STORY
        async with page_of(browser, world, demo_facts(world.store, world.model)) as demo:
            yield demo, world


async def answered(demo: Demo, world: World) -> tuple[Locator, Reply]:
    """Ask as Mei; return the finished answer on the page and its reply in the store."""
    await demo.say("@Encore tell me a story")
    answer = demo.message(STORY)
    await expect(answer.get_by_role("button", name="Regenerate")).to_be_visible()
    [shown] = await world.answered_in("general")
    return answer, await world.reply_shown_by(shown)


async def test_answer_to_mei_streams_and_is_kept_as_hers(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path, seconds_per_token=0.01) as (demo, world):
        await demo.say("@Encore tell me a story")
        answer = demo.message("Once there was")
        await expect(answer).to_contain_text("word3")
        await expect(answer).not_to_contain_text("word29")
        await expect(answer.get_by_role("button", name="Stop")).to_be_visible()
        await expect(answer).to_contain_text("word29")
        await expect(answer.locator(".context")).to_contain_text("tell me a story")
        [shown] = await world.answered_in("general")
        reply = await world.reply_shown_by(shown)
        assert (reply.ask.member_id, reply.state) == (world.mei.id, ReplyState.DONE)
        assert reply.outcome is not None
        assert reply.outcome.completion == STORY
        await expect(demo.fact("replies")).to_have_text("1")
        await expect(demo.page.get_by_text(world.model.engine.info.model, exact=True)).to_be_visible()


async def test_reaction_on_the_page_is_a_vote_and_is_counted(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path) as (demo, world):
        answer, reply = await answered(demo, world)
        await answer.hover()
        await answer.get_by_role("button", name="React with 👍").click()
        await expect(demo.fact("votes_up")).to_have_text("1")
        [vote] = await world.store.votes(reply.id)
        assert (vote.member_id, vote.source, vote.value) == (world.mei.id, "reaction:👍", 1.0)
        await expect(demo.fact("rated_replies")).to_have_text("1")
        await answer.locator(".reaction").click()
        await expect(demo.fact("votes_up")).to_have_text("0")
        assert await world.store.votes(reply.id) == []


async def test_thumb_down_asks_why_and_keeps_the_correction(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path) as (demo, world):
        answer, reply = await answered(demo, world)
        await answer.get_by_role("button", name="👎", exact=True).click()
        dialog = demo.page.get_by_role("dialog", name="What was wrong?")
        await dialog.get_by_label("Boring or repetitive").check()
        await dialog.get_by_label("What should I have said?").fill("从前有一座山。\nThe end.")
        await dialog.get_by_label("Anything else?").fill("太长了")
        await dialog.get_by_role("button", name="Submit").click()
        await expect(dialog).to_be_hidden()
        await expect(demo.message("what you wrote is kept with it")).to_contain_text("Only you can see this.")
        [vote] = await world.store.votes(reply.id)
        assert (vote.member_id, vote.source, vote.value) == (world.mei.id, "button", -1.0)
        [correction] = await world.store.corrections(reply.id)
        assert correction.member_id == world.mei.id
        assert correction.reasons == ("boring",)
        assert correction.should_have_said == "从前有一座山。\nThe end."
        assert correction.comment == "太长了"
        await expect(demo.fact("votes_down")).to_have_text("1")
        await expect(demo.fact("corrections")).to_have_text("1")


async def test_status_answers_the_moderator_alone(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path) as (demo, world):
        await demo.box.fill("/encore status")
        await expect(demo.page.locator(".suggestions")).to_contain_text("No command here fits.")
        await demo.become("Sam")
        # The box hides its suggestions a moment after it lost the focus, new ones too.
        await expect(demo.page.locator(".suggestions")).to_be_hidden()
        await expect(demo.page.get_by_role("button", name="mod-room")).to_be_visible()
        await demo.box.fill("/encore status")
        await expect(demo.page.get_by_role("option", name="/encore status")).to_have_attribute("aria-selected", "true")
        await demo.box.press("Enter")
        await demo.page.get_by_role("button", name="Run", exact=True).click()
        status = demo.message("Encore's status")
        await expect(status).to_contain_text("Only you can see this.")
        await expect(status).to_contain_text(world.model.engine.info.model)
        await expect(status).to_contain_text("0 of 4 replies under way")
        await demo.become("Mei")
        await expect(demo.message("Encore's status")).to_have_count(0)


async def test_regenerate_shows_and_keeps_both_versions_to_compare(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path) as (demo, world):
        answer, first = await answered(demo, world)
        world.engine.says = "Another story altogether."
        await answer.get_by_role("button", name="Regenerate").click()
        other = demo.message("Another story altogether.")
        await expect(other.get_by_role("button", name="B (this one)")).to_be_visible()
        await expect(demo.message(STORY)).to_be_visible()
        [_, shown] = await world.answered_in("general", 2)
        second = await world.reply_shown_by(shown)
        assert (first.ask.variant, second.ask.variant) == (0, 1)
        assert first.ask.asked_message_id == second.ask.asked_message_id
        completions = [kept.outcome.completion for kept in (first, second) if kept.outcome is not None]
        assert completions == [STORY, "Another story altogether."]
        await other.get_by_role("button", name="B (this one)").click()
        await expect(demo.fact("comparisons")).to_have_text("1")
        assert await world.store.preferences(first.id, second.id) == {world.mei.id: "b"}


async def test_stop_ends_the_answer_where_it_is(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path, seconds_per_token=0.02) as (demo, world):
        await demo.say("@Encore tell me a story")
        answer = demo.message(re.compile("Once there was .*word1 "))
        await answer.get_by_role("button", name="Stop").click()
        await expect(answer.get_by_role("button", name="Regenerate")).to_be_visible()
        await expect(answer).not_to_contain_text("▍")
        [shown] = await world.answered_in("general")
        reply = await world.reply_shown_by(shown)
        assert reply.state is ReplyState.STOPPED
        assert reply.outcome is not None
        assert STORY.startswith(reply.outcome.completion)
        assert "word1 " in reply.outcome.completion != STORY
        await expect(answer).to_contain_text(reply.outcome.completion.strip())


async def test_notice_of_privacy_has_its_paragraphs_apart_and_its_list_marked(browser: Browser, tmp_path: Path) -> None:
    async with encore(browser, tmp_path, nightly=FakeNightly(tmp_path)) as (demo, _):
        await demo.say("/privacy")
        await demo.page.get_by_role("button", name="Run", exact=True).click()
        card = demo.page.locator(".embed")
        await expect(card.locator("p", has_text="What I read:")).to_have_css("margin-top", "8px")
        await expect(card.locator("ul", has_text="/mydata delete")).to_have_css("list-style-type", "disc")
