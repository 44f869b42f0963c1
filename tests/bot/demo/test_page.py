"""The page in headless Chromium: what a person does there, by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from bot.demo.server import Facts
from bot.demo.world import LiveWorld
from models.spec import EMBEDDED_LANGUAGES
from tests.bot.demo.pages import Demo, page_of
from tests.bot.demo.toy import ToyBot

_CONTROLS = {"button", "textbox", "combobox", "radio", "checkbox", "option", "link", "menuitem", "listbox"}

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all: starting it takes seconds


@asynccontextmanager
async def opened(browser: Browser, bot: ToyBot, **options: Any) -> AsyncIterator[Demo]:
    async def facts(_: int) -> Facts:
        standing = [emoji for kind, _, emoji in bot.reactions if kind == "add"]
        gone = [emoji for kind, _, emoji in bot.reactions if kind == "remove"]
        counted = {emoji: standing.count(emoji) - gone.count(emoji) for emoji in "👍👎"}
        return replace(
            Facts(model="Toy", languages=EMBEDDED_LANGUAGES), votes_up=counted["👍"], votes_down=counted["👎"]
        )

    async with LiveWorld(bot) as world, page_of(browser, world, facts, **options) as demo:
        yield demo


@pytest_asyncio.fixture(loop_scope="module")
async def demo(browser: Browser) -> AsyncIterator[Demo]:
    async with opened(browser, ToyBot()) as demo:
        yield demo


async def accessible(demo: Demo) -> list[tuple[str, str]]:
    """Return role and name of what Chromium tells a screen reader of the page."""
    session = await demo.page.context.new_cdp_session(demo.page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    return [
        (node.get("role", {}).get("value", ""), node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]


async def test_talking_shows_the_answer_as_it_streams(browser: Browser) -> None:
    async with opened(browser, ToyBot(words=40, pace_seconds=0.03)) as demo:
        await demo.say("@Encore 你好")
        answer = demo.message("You said")
        await expect(answer).to_contain_text("word3")
        await expect(answer).not_to_contain_text("word39")
        await answer.evaluate("node => { window.sameNode = node }")
        await expect(answer).to_contain_text("word39")
        await expect(answer.locator(".tag")).to_have_text("AI")
        await expect(answer.locator(".content strong")).to_have_text("You said")
        assert await answer.evaluate("node => window.sameNode === node"), "the message was rebuilt while it streamed"
        at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 60"
        assert await demo.page.locator("#log").evaluate(at_end)


async def test_streaming_neither_scrolls_a_reader_away_nor_is_read_aloud_piece_by_piece(browser: Browser) -> None:
    async with opened(browser, ToyBot(words=40, pace_seconds=0.03)) as demo:
        for number in range(30):
            await demo.world.say(demo.world.alex, "general", f"line {number}")
        await expect(demo.message("line 29")).to_be_visible()
        await demo.page.evaluate(
            "() => { window.said = []; new MutationObserver(() => said.push(announcer.textContent))"
            ".observe(announcer, {childList: true}) }"
        )
        await demo.world.say(demo.world.alex, "general", f"{demo.world.mention} a story")
        await expect(demo.message("You said")).to_contain_text("word3")
        await demo.page.locator("#log").evaluate("log => { log.scrollTop = 0 }")
        await expect(demo.message("You said")).to_contain_text("word39")
        assert await demo.page.locator("#log").evaluate("log => log.scrollTop") == 0
        await expect(demo.page.locator("#announcer")).to_contain_text("word39")
        said = await demo.page.evaluate("window.said")
        assert len([text for text in said if "word" in text]) == 1


async def test_reaction_lands_in_the_store_and_is_taken_back(demo: Demo) -> None:
    await expect(demo.fact("votes_up")).to_have_text("0")
    await demo.say("@Encore hi")
    answer = demo.message("You said")
    await expect(answer).to_contain_text("done")
    await answer.hover()
    await answer.get_by_role("button", name="React with 👍").click()
    chip = answer.locator(".reaction")
    await expect(chip).to_have_attribute("aria-pressed", "true")
    await expect(demo.fact("votes_up")).to_have_text("1")
    await expect(demo.page.locator("#facts-said")).to_have_text("In the store: 1 up, 0 down.")
    await expect(demo.page.locator("#steps li").nth(1)).to_have_class("done")
    await chip.click()
    await expect(chip).to_have_count(0)
    await expect(demo.fact("votes_up")).to_have_text("0")


async def test_reaction_is_picked_with_the_keyboard_alone(demo: Demo) -> None:
    await demo.world.say(demo.world.alex, "general", "keyboards rule")
    await expect(demo.message("keyboards rule")).to_be_visible()
    await demo.box.focus()
    await demo.page.keyboard.press("ArrowUp")
    await expect(demo.message("keyboards rule")).to_be_focused()
    picker = demo.page.get_by_role("button", name="Choose a reaction")
    for _ in range(3):
        await demo.page.keyboard.press("Tab")
    await expect(picker).to_be_focused()
    await demo.page.keyboard.press("Enter")
    await demo.page.keyboard.press("ArrowRight")
    await demo.page.keyboard.press("Escape")
    await expect(picker).to_be_focused()
    await demo.page.keyboard.press("Enter")
    await demo.page.keyboard.press("ArrowRight")
    await demo.page.keyboard.press("Enter")
    await expect(demo.message("keyboards rule").locator(".reaction")).to_contain_text("❤️")


async def test_stop_button_works_while_the_answer_streams(browser: Browser) -> None:
    async with opened(browser, ToyBot(words=200, pace_seconds=0.03)) as demo:
        await demo.say("@Encore a long story")
        answer = demo.message("You said")
        await expect(answer).to_contain_text("word3")
        await answer.get_by_role("button", name="Stop").click()
        await expect(answer).to_contain_text("(stopped)")
        await expect(demo.message("Stopped.")).to_contain_text("Only you can see this.")


async def test_slash_command_is_picked_filled_in_and_run(demo: Demo) -> None:
    await demo.box.fill("/pa")
    await expect(demo.page.get_by_role("option", name="/paint")).to_have_attribute("aria-selected", "true")
    await demo.box.press("Enter")
    form = demo.page.get_by_role("form", name="Command paint")
    await form.get_by_role("combobox", name="colour").fill("青")
    await form.get_by_role("option", name="青色").click()
    await form.get_by_label("times").fill("3")
    await form.get_by_label("whom").select_option("Alex")
    await form.get_by_label("loud").select_option("True")
    await form.get_by_role("button", name="Run").click()
    answer = demo.message("PAINTED 3X 青色 FOR ALEX")
    await expect(answer).to_contain_text("Mei 小美 used /paint")
    await expect(demo.box).to_be_focused()


async def test_escape_leaves_a_slash_command(demo: Demo) -> None:
    await demo.box.fill("/secret")
    await demo.box.press("Enter")
    await expect(demo.page.get_by_role("form", name="Command secret")).to_be_visible()
    await demo.page.keyboard.press("Escape")
    await expect(demo.box).to_be_focused()


async def test_modal_is_filled_in_after_a_button(demo: Demo) -> None:
    await demo.say("@Encore hi")
    await demo.message("You said").get_by_role("button", name="Why").click()
    dialog = demo.page.get_by_role("dialog", name="What was wrong?")
    await expect(dialog.get_by_label("Why")).to_be_focused()
    await dialog.get_by_label("Why").fill("太短了")
    await dialog.get_by_label("What should it have said").fill("More.\nMuch more.")
    await dialog.get_by_role("button", name="Submit").click()
    await expect(dialog).to_be_hidden()
    await expect(demo.message("Thanks: 太短了")).to_be_visible()


async def test_select_and_message_command_answer(demo: Demo) -> None:
    await demo.say("@Encore hi")
    answer = demo.message("You said")
    await expect(answer).to_contain_text("done")
    await answer.get_by_role("combobox").select_option("blue")
    await expect(demo.message("Mood: blue")).to_be_visible()
    await answer.hover()
    await answer.get_by_role("button", name="More").click()
    await demo.page.get_by_role("menuitem", name="Quote this").click()
    await expect(demo.message("Quote this").locator("blockquote")).to_contain_text("You said")


async def test_reply_names_the_message_that_it_answers(demo: Demo) -> None:
    await demo.world.say(demo.world.alex, "general", "what do you think?")
    asked = demo.message("what do you think?")
    await asked.hover()
    await asked.get_by_role("button", name="Reply").click()
    await demo.say("I agree")
    await expect(demo.message("I agree").locator(".context")).to_contain_text("Alex")


async def test_actions_follow_the_mouse_from_message_to_message(demo: Demo) -> None:
    for number in range(2):
        await demo.world.say(demo.world.alex, "general", f"line {number}")
    for number in range(2):
        await demo.message(f"line {number}").hover()
        await demo.message(f"line {number}").get_by_role("button", name="React with 👎").click()
        await expect(demo.message(f"line {number}").locator(".reaction")).to_contain_text("👎")


async def test_own_message_is_deleted(demo: Demo) -> None:
    await demo.say("oops")
    await demo.message("oops").hover()
    await demo.page.get_by_role("button", name="More").click()
    await demo.page.get_by_role("menuitem", name="Delete").click()
    await expect(demo.page.locator(".message")).to_have_count(0)


async def test_thread_starts_from_a_message(demo: Demo) -> None:
    await demo.say("a topic of its own")
    await demo.message("a topic of its own").hover()
    await demo.page.get_by_role("button", name="More").click()
    await demo.page.get_by_role("menuitem", name="Start a thread").click()
    await demo.page.get_by_label("Name").fill("Weather talk")
    await demo.page.keyboard.press("Enter")
    await expect(demo.page.locator("#title")).to_have_text("#Weather talk")
    await demo.say("@Encore in here?")
    await expect(demo.message("You said")).to_contain_text("in here?")
    await demo.go("general")
    await expect(demo.message("a topic of its own").locator(".thread-link")).to_contain_text("2 messages")


async def test_direct_message_needs_no_mention(demo: Demo) -> None:
    await demo.go("Encore")
    await demo.say("just us")
    await expect(demo.message("You said")).to_contain_text("just us")


async def test_switching_who_you_are_changes_what_you_see(demo: Demo) -> None:
    await demo.box.fill("/secret")
    await demo.box.press("Enter")
    await demo.page.get_by_role("button", name="Run", exact=True).click()
    await expect(demo.message("The secret is 42.")).to_be_visible()
    await expect(demo.page.get_by_role("button", name="mod-room")).to_have_count(0)
    await demo.become("Sam")
    await expect(demo.page.get_by_role("button", name="mod-room")).to_be_visible()
    await expect(demo.message("The secret is 42.")).to_have_count(0)
    await demo.page.get_by_role("radio", name="Sam").press("ArrowUp")
    await expect(demo.page.get_by_role("radio", name="Grub")).to_be_focused()
    await expect(demo.page.get_by_role("button", name="mod-room")).to_have_count(0)


async def test_missing_permission_is_a_toast_and_loses_no_text(demo: Demo) -> None:
    await demo.go("announcements")
    await demo.say("me too")
    await expect(demo.page.get_by_role("alert")).to_have_text("You don't have the permission to do that here.")
    await expect(demo.box).to_have_value("me too")


async def test_page_comes_back_by_itself_with_what_it_missed(demo: Demo) -> None:
    await demo.say("before")
    await expect(demo.message("before")).to_be_visible()
    for socket in list(demo.server._sockets):
        await socket.close()
    await demo.world.say(demo.world.alex, "general", "while you were out")
    await expect(demo.message("while you were out")).to_be_visible()
    await expect(demo.page.locator("#offline")).to_be_hidden()
    await expect(demo.message("before")).to_have_count(1)


async def test_reload_keeps_who_you_are_and_where(demo: Demo) -> None:
    await demo.become("Alex")
    await demo.go("stage")
    await demo.page.reload()
    await expect(demo.page.get_by_role("radio", name="Alex")).to_be_checked()
    await expect(demo.page.locator("#title")).to_have_text("#stage")


async def test_hostile_text_stays_text(demo: Demo) -> None:
    await demo.world.say(
        demo.world.troll, "general", "<img src=x onerror=window.broken=1> [x](javascript:window.broken=1)"
    )
    await demo.world.say(demo.world.troll, "general", "Z̷̢̛͕a̸̡l̷g̶o̵ \u202ereversed\u0000 " + "W" * 1900)
    await expect(demo.message("WWWW")).to_be_visible()
    assert await demo.page.evaluate("window.broken") is None
    assert await demo.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await demo.page.locator("#log img, #log a").count() == 0


async def test_composed_chinese_input_is_not_sent_by_its_enter(demo: Demo) -> None:
    await demo.box.fill("ni hao")
    await demo.box.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "keyCode": 229})
    await expect(demo.box).to_have_value("ni hao")


async def test_phone_has_its_panels_in_drawers(browser: Browser) -> None:
    async with opened(browser, ToyBot(), viewport={"width": 380, "height": 740}, has_touch=True) as demo:
        side = demo.page.locator("#side")
        await expect(side).to_be_hidden()
        await demo.page.get_by_role("button", name="Channels and people").tap()
        await demo.page.get_by_role("button", name="stage").tap()
        await expect(side).to_be_hidden()
        await expect(demo.page.locator("#title")).to_have_text("#stage")
        await demo.page.get_by_role("button", name="What to try, and ratings").tap()
        await expect(demo.fact("votes_up")).to_be_visible()
        await demo.page.keyboard.press("Escape")
        await expect(demo.fact("votes_up")).to_be_hidden()
        assert await demo.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_colours_follow_the_system_until_chosen(browser: Browser) -> None:
    async with opened(browser, ToyBot(), color_scheme="dark") as demo:
        background = "getComputedStyle(document.body).backgroundColor"
        dark = await demo.page.evaluate(background)
        await demo.page.get_by_role("button", name="Light colours").click()
        light = await demo.page.evaluate(background)
        await demo.page.reload()
        await expect(demo.box).to_be_visible()
        assert await demo.page.evaluate(background) == light != dark


async def test_embedded_model_is_said_to_speak_english_only_and_another_named(browser: Browser) -> None:
    async with opened(browser, ToyBot()) as demo:
        line = demo.page.locator("#model .dim")
        await expect(line).to_contain_text("English only")
        await expect(line).to_contain_text("MODEL=Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf")
        assert await line.evaluate("line => line.scrollWidth <= line.clientWidth"), "it runs out of its panel"


async def test_character_by_webhook_shows_under_its_own_name(demo: Demo) -> None:
    await demo.say("@Encore hi")
    async with demo.world.lock:
        hook = demo.world.guild.create_webhook(demo.world.general, "Characters")
        await hook.send("The curtain rises.", username="Aria")
    said = demo.message("The curtain rises.")
    await expect(said.locator(".line .name")).to_have_text("Aria")
    await expect(said.locator(".tag")).to_have_text("AI")


async def test_log_and_every_control_have_a_name_for_screen_readers(demo: Demo) -> None:
    await demo.say("@Encore hi")
    answer = demo.message("You said")
    await expect(answer).to_contain_text("done")
    await answer.hover()
    await expect(answer.get_by_role("button", name="React with 👍")).to_be_visible()
    found = await accessible(demo)
    assert ("log", "Messages") in found
    roles = {role for role, _ in found}
    assert roles >= {"button", "combobox", "radio"}
    assert [node for node in found if node[0] in _CONTROLS and not node[1].strip()] == []


async def test_controls_of_forms_and_commands_have_a_name_for_screen_readers(demo: Demo) -> None:
    await demo.say("@Encore hi")
    await demo.message("You said").get_by_role("button", name="Why").click()
    await expect(demo.page.get_by_role("dialog")).to_be_visible()
    found = await accessible(demo)
    assert len([role for role, _ in found if role == "textbox"]) >= 2
    assert [node for node in found if node[0] in _CONTROLS and not node[1].strip()] == []
