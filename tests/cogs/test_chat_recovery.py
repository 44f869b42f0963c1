"""The bot's power is cut while it answers; the next start finishes or marks what was left and answers nothing twice."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import discord
import pytest

from bot import ui
from bot.answer import CUT_NOTE
from bot.records import Ask, Outcome, Provenance, ReplyState
from bot.recovery import ANSWER_LATE_SECONDS, INTERRUPTED_NOTE
from bot.streaming import CURSOR, Controls
from tests.world import World, live_world

STORY = " ".join(f"word{number}" for number in range(35))


async def cut_while_streaming(world: World, story: str = STORY) -> Any:
    """Ask for a story and cut the power in the middle of it; return the message that was growing."""
    await world.ask(world.alice, "general", story)
    await world.eventually(lambda: any("word1" in message.content for message in world.replies("general")))
    await world.restart()
    return world.replies("general")[0]


async def settled(world: World) -> None:
    async def nothing_left() -> bool:
        return not await world.store.unfinished_replies()

    await world.eventually(nothing_left)


async def claim(world: World, asked: Any, **changes: Any) -> int:
    ask = Ask(asked.id, world.general.id, world.guild.id, world.alice.id, Provenance.DEMO)
    reply_id = await world.store.claim_reply(replace(ask, **changes))
    assert reply_id is not None
    return reply_id


async def asked_while_nobody_listened(world: World, text: str) -> Any:
    world.backend.subscribers.remove(world.env._gateway_feed)
    asked = await world.ask(world.alice, "general", text)
    world.backend.subscribers.append(world.env._gateway_feed)
    return asked


async def send_unnoted(world: World, asked: Any, content: str, view: discord.ui.View | None) -> Any:
    """Let the bot send a message that its store never hears of, as when it dies right after."""
    channel = world.bot.get_channel(world.general.id)
    reference = discord.MessageReference(message_id=asked.id, channel_id=world.general.id)
    sent = await channel.send(content, reference=reference, view=view)
    return world.backend.get_message(world.general.id, sent.id)


async def test_growing_answer_is_marked_and_kept_as_far_as_it_got(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        shown = await cut_while_streaming(world)
        await settled(world)
        body, _, note = shown.content.partition("\n")
        assert STORY.startswith(body)
        assert "word1" in body
        assert note == f"-# {INTERRUPTED_NOTE}"
        reply = await world.reply_shown_by(shown)
        assert reply.state is ReplyState.INTERRUPTED
        assert reply.outcome is not None
        assert reply.outcome.completion == body
        assert world.replies("general") == [shown]
        assert f"encore:regenerate:{reply.id}" in world.custom_ids(shown)


async def test_code_block_that_was_growing_is_kept_without_the_cursor(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        shown = await cut_while_streaming(world, f"```{STORY}```")
        await settled(world)
        body, closing, note = shown.content.rpartition("\n```\n")
        assert closing and f"```{STORY}```".startswith(body)
        assert note == f"-# {INTERRUPTED_NOTE}"


async def test_interrupted_answer_can_be_regenerated(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.005) as world:
        shown = await cut_while_streaming(world)
        await settled(world)
        await world.click(world.alice, shown, label="Regenerate")
        [_, second] = await world.answered_in("general", 2)
        assert second.content == STORY


async def test_whole_text_that_was_not_shown_yet_is_shown(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        shown = await send_unnoted(world, asked, f"hel{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        await world.store.attach_message(reply_id, shown.id, 0)
        whole = "<think>greet back</think>hello to you too"
        await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, whole, (1, 2), "end"))
        await world.restart()
        await settled(world)
        assert shown.content == "hello to you too"
        reply = await world.reply_shown_by(shown)
        assert reply.state is ReplyState.DONE
        assert reply.outcome is not None
        assert (reply.outcome.completion, reply.outcome.completion_token_ids) == (whole, (1, 2))
        assert f"encore:up:{reply_id}" in world.custom_ids(shown)


@pytest.mark.parametrize("shows", [True, False])
async def test_whole_text_that_was_not_shown_yet_stays_so_in_a_locked_server(tmp_path: Path, shows: bool) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        if shows:
            await send_unnoted(world, asked, f"hel{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, "hello SECRET", (1, 2), "end"))
        await world.bot.cases.lock(world.guild.id, world.moderator.id)
        await world.restart()
        await settled(world)
        await world.bot.cases.unlock(world.guild.id, world.moderator.id)
        await world.restart()
        await world.quiet()
        assert [message.content for message in world.replies("general")] == [f"hel\n-# {INTERRUPTED_NOTE}"] * shows
        reply = await world.store.reply(reply_id)
        assert reply is not None and reply.outcome is not None
        assert (reply.state, reply.outcome.completion) == (ReplyState.INTERRUPTED, "hel" * shows)


async def test_small_print_stands_below_the_code_block_that_a_recovered_answer_was_cut_in(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        shown = await send_unnoted(world, asked, f"So{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, "So:\n```py\nx = 1", (1, 2), "length"))
        await world.restart()
        await settled(world)
        assert shown.content == f"So:\n```py\nx = 1\n```\n-# {CUT_NOTE}"


@pytest.mark.parametrize("shown_before", [True, False])
async def test_interrupted_regeneration_can_be_compared_once_it_is_completed(
    tmp_path: Path, shown_before: bool
) -> None:
    async with live_world(tmp_path) as world:
        asked = await world.ask(world.alice, "general", "hello")
        first = await world.reply_shown_by((await world.answered_in("general"))[0])
        reply_id = await claim(world, asked, variant=1)
        if shown_before:
            await send_unnoted(world, asked, f"hi{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
            await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, "hi there", (1, 2), "end"))
        await world.restart()
        await settled(world)
        [_, second] = world.replies("general")
        assert world.custom_ids(second)[-4:] == [
            f"encore:better:{first.id}:{reply_id}:{choice}" for choice in ("a", "b", "both", "neither")
        ]


async def test_parts_of_a_whole_text_that_are_missing_are_sent(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "sing")
        reply_id = await claim(world, asked)
        shown = await send_unnoted(world, asked, f"verse{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        whole = "\n".join(f"verse {number} of a song" for number in range(150))
        await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, whole, (), "length"))
        await world.restart()
        await settled(world)
        first, second = world.replies("general")
        assert first == shown
        assert second.content.endswith("-# Cut at the length limit; I can continue.")
        assert "verse 149 of a song" in second.content
        assert (await world.reply_shown_by(second)).message_ids == (first.id, second.id)
        assert [bool(world.custom_ids(message)) for message in (first, second)] == [False, True]


async def test_message_that_was_sent_but_not_noted_is_found_by_its_buttons(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        await send_unnoted(world, asked, "-# Shall I count that as 👍?", None)
        shown = await send_unnoted(world, asked, f"hel{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        await world.restart()
        await settled(world)
        assert shown.content == f"hel\n-# {INTERRUPTED_NOTE}"
        reply = await world.reply_shown_by(shown)
        assert (reply.id, reply.state) == (reply_id, ReplyState.INTERRUPTED)
        assert len(world.replies("general")) == 2, "nothing more was sent"


async def test_queue_notice_is_replaced_by_the_mark(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.03, slots=1) as world:
        await world.ask(world.alice, "stage", STORY)
        await world.eventually(lambda: world.replies("stage"))
        await world.ask(world.bob, "general", "hello")
        [waiting] = await world.eventually(lambda: world.replies("general"))
        assert waiting.content == "-# Number 1 in the queue."
        await world.restart()
        await settled(world)
        assert waiting.content == f"-# {INTERRUPTED_NOTE}"
        reply = await world.reply_shown_by(waiting)
        assert reply.outcome is not None
        assert reply.outcome.completion == ""


async def test_claimed_question_that_shows_no_answer_is_answered_now(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.bob, "general", "the password is swordfish")
        asked = await asked_while_nobody_listened(world, "what did Alex say?")
        reply_id = await claim(world, asked)
        world.engine.says = "swordfish"
        await world.restart()
        [shown] = await world.answered_in("general")
        assert shown.content == "swordfish"
        assert shown.reference["message_id"] == str(asked.id)
        reply = await world.reply_shown_by(shown)
        assert (reply.id, reply.state) == (reply_id, ReplyState.DONE)
        assert "the password is swordfish" in await world.prompt_of(shown)


async def test_old_question_is_not_answered_any_more(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        long_ago = discord.utils.utcnow() - timedelta(seconds=ANSWER_LATE_SECONDS + 60)
        reply_id = await claim(world, discord.Object(discord.utils.time_snowflake(long_ago)))
        await world.restart()
        await settled(world)
        assert world.replies("general") == []
        reply = await world.store.reply(reply_id)
        assert reply is not None
        assert reply.state is ReplyState.INTERRUPTED


@pytest.mark.parametrize("obstacle", ["deleted", "paused", "channel gone", "hidden", "muted", "opted out", "filtered"])
async def test_question_that_can_not_be_answered_any_more_is_closed(tmp_path: Path, obstacle: str) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        match obstacle:
            case "deleted":
                await world.delete(world.alice, asked)
            case "paused":
                await world.store.change_server_settings(world.guild.id, world.moderator.id, paused=True)
            case "channel gone":
                await world.delete_channel("general")
            case "hidden":
                await world.set_bot_permissions("general", view_channel=False)
            case "muted":
                await world.store.mute(world.guild.id, world.alice.id, world.moderator.id, None)
            case "opted out":
                await world.store.opt_out(world.alice.id, True)
            case "filtered":
                await world.store.change_server_settings(world.guild.id, world.moderator.id, filter_words=("hello",))
        await world.restart()
        await settled(world)
        reply = await world.store.reply(reply_id)
        assert reply is not None
        assert (reply.state, reply.message_ids) == (ReplyState.INTERRUPTED, ())


async def test_deleted_answer_stays_deleted(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        shown = await send_unnoted(world, asked, f"hel{CURSOR}", ui.reply_view(reply_id, Controls.STREAMING))
        await world.store.attach_message(reply_id, shown.id, 0)
        await world.delete(world.moderator, shown)
        await world.restart()
        await settled(world)
        assert world.replies("general") == []


async def test_unfinished_direct_message_is_answered_now(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        world.backend.subscribers.remove(world.env._gateway_feed)
        asked = await world.dm(world.alice, "psst")
        world.backend.subscribers.append(world.env._gateway_feed)
        dm = world.dm_channel(world.alice)
        await claim(world, asked, channel_id=dm.id, guild_id=None)
        await world.restart()
        [shown] = await world.answered_in(dm)
        assert shown.content == "psst"


async def test_messages_from_while_it_was_offline_are_not_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await asked_while_nobody_listened(world, "are you there?")
        await world.restart()
        await world.quiet()
        assert world.replies("general") == []


async def test_recovery_runs_once_a_process(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        shown = await cut_while_streaming(world)
        await settled(world)
        content = shown.content
        await world.ask(world.bob, "stage", STORY)
        await world.eventually(lambda: world.replies("stage"))
        world.bot.dispatch("ready")  # a new session, not a new process: the story goes on
        [story] = await world.answered_in("stage")
        assert story.content == STORY
        assert shown.content == content


async def test_duplicate_event_after_a_restart_is_not_answered_again(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        payloads: list[Any] = []
        world.backend.subscribers.append(lambda event, payload: payloads.append((event, payload)))
        started = time.monotonic()
        shown = await cut_while_streaming(world)
        await settled(world)
        [message] = [
            p for event, p in payloads if event == "MESSAGE_CREATE" and "author" in p and STORY in p["content"]
        ]
        world.env._gateway_feed("MESSAGE_CREATE", message)
        await world.quiet()
        assert world.replies("general") == [shown]
        assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    ("said", "reason", "note", "state"),
    [
        (
            "So it goes.",
            "hidden:word",
            "The rest is left out: this server's word filter does not allow it.",
            ReplyState.STOPPED,
        ),
        (
            "",
            "hidden:link",
            "This answer is left out: it links to a site that is not allowed here.",
            ReplyState.STOPPED,
        ),
        (
            "You should take 400 mg of ibuprofen.",
            "end",
            "I am a bot, not a doctor: please ask a professional.",
            ReplyState.DONE,
        ),
    ],
)
async def test_whole_text_ends_with_what_the_rules_say_of_it(
    tmp_path: Path, said: str, reason: str, note: str, state: ReplyState
) -> None:
    async with live_world(tmp_path) as world:
        asked = await asked_while_nobody_listened(world, "hello")
        reply_id = await claim(world, asked)
        shown = await send_unnoted(world, asked, "…", ui.reply_view(reply_id, Controls.STREAMING))
        await world.store.attach_message(reply_id, shown.id, 0)
        await world.store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, said, (1, 2), reason))
        await world.restart()
        await settled(world)
        assert shown.content == f"{said}\n-# {note}".strip()
        assert (await world.reply_shown_by(shown)).state is state
