"""The form behind 👎, which a message's menu opens too."""

from __future__ import annotations

import time
from typing import Any

import discord

from bot.errors import StoreBusy
from bot.feedback_ui import NO_REPLY, OPTED_OUT, RATE, UNKNOWN_REPLY
from bot.records import Correction
from tests.cogs.rating import a_reply, press, said, votes, votes_become
from tests.world import World


async def test_thumb_down_counts_even_when_its_form_is_never_sent(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    assert shown.modal["title"] == "What was wrong?"
    await votes_become(world, reply, {world.bob.id: ("button", -1.0)})


async def test_form_keeps_reasons_comment_and_what_should_have_been_said(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    sent = await world.submit_modal(
        world.bob,
        shown,
        {"reasons": ["wrong", "too-long"], "should_have_said": "  今天下雨。\n", "comment": "it ra\u200bins"},
    )
    assert await said(world, sent) == "Thank you; your 👎 is counted and what you wrote is kept with it."
    stored = await world.reply_shown_by(reply)
    assert await world.store.corrections(stored.id) == [
        Correction(stored.id, world.bob.id, ("wrong", "too-long"), "it rains", "今天下雨。")
    ]
    assert await votes(world, reply) == {world.bob.id: ("button", -1.0)}


async def test_empty_form_keeps_no_correction(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    assert await said(world, await world.submit_modal(world.bob, shown, {})) == "Your 👎 is counted."
    assert (await world.store.counts(world.guild.id)).corrections == 0


async def test_thumb_down_again_retracts_without_a_form(world: World) -> None:
    reply = await a_reply(world)
    await press(world, world.bob, reply, "down")
    await world.eventually(lambda: votes(world, reply))
    again = await press(world, world.bob, reply, "down")
    assert again.modal is None
    assert await said(world, again) == "Your 👎 is taken back."
    assert await votes(world, reply) == {}


async def test_thumb_down_taken_back_takes_its_correction_back(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    await said(world, await world.submit_modal(world.bob, shown, {"should_have_said": "It rains."}))
    assert (await world.store.counts(world.guild.id)).corrections == 1
    await said(world, await press(world, world.bob, reply, "down"))
    assert (await world.store.counts(world.guild.id)).corrections == 0
    assert await votes(world, reply) == {}


async def test_form_of_a_reply_that_was_deleted_meanwhile_claims_no_vote(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    await world.eventually(lambda: votes(world, reply))
    await world.store.prune_replies(before=time.time() + 1)
    assert await said(world, await world.submit_modal(world.bob, shown, {"comment": "dull"})) == UNKNOWN_REPLY


async def test_form_sent_after_its_member_opted_out_claims_no_vote(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    await world.eventually(lambda: votes(world, reply))
    await world.store.opt_out(world.bob.id, True)
    assert await said(world, await world.submit_modal(world.bob, shown, {"comment": "dull"})) == OPTED_OUT
    assert (await world.store.counts(world.guild.id)).corrections == 0


async def test_form_sent_after_its_vote_was_lost_counts_it(world: World, monkeypatch: Any) -> None:
    reply = await a_reply(world)
    with monkeypatch.context() as failing:

        async def locked(*_: Any) -> bool:
            raise StoreBusy("encore.db is locked by another process")

        failing.setattr(world.store, "cast_vote", locked)
        shown = await press(world, world.bob, reply, "down")
        await world.eventually(lambda: shown.followups)
    assert await votes(world, reply) == {}
    assert await said(world, await world.submit_modal(world.bob, shown, {})) == "Your 👎 is counted."
    assert await votes(world, reply) == {world.bob.id: ("button", -1.0)}


async def test_message_command_corrects_a_reply(world: World) -> None:
    reply = await a_reply(world)
    shown = await world.answered(await world.context_menu(world.bob, RATE, reply))
    assert shown.modal["title"] == RATE
    assert await votes(world, reply) == {}, "an opened form is no vote"
    values = {"verdict": ["bad"], "reasons": ["boring"], "should_have_said": "hello, Alex"}
    sent = await world.submit_modal(world.bob, shown, values)
    assert "kept with it" in await said(world, sent)
    assert await votes(world, reply) == {world.bob.id: ("button", -1.0)}
    stored = await world.reply_shown_by(reply)
    assert await world.store.corrections(stored.id) == [
        Correction(stored.id, world.bob.id, ("boring",), "", "hello, Alex")
    ]


async def test_message_command_praises_a_reply_and_keeps_no_correction(world: World) -> None:
    reply = await a_reply(world)
    shown = await world.answered(await world.context_menu(world.bob, RATE, reply))
    sent = await world.submit_modal(world.bob, shown, {"verdict": ["good"], "comment": "nice"})
    assert "Counted as 👍" in await said(world, sent)
    assert await votes(world, reply) == {world.bob.id: ("button", 1.0)}
    assert (await world.store.counts(world.guild.id)).corrections == 0


async def test_message_command_on_what_is_no_reply_says_so(world: World) -> None:
    chatter = await world.say(world.alice, "general", "just talking")
    result = await world.answered(await world.context_menu(world.bob, RATE, chatter))
    assert result.modal is None
    assert await said(world, result) == NO_REPLY


async def test_message_command_opens_no_form_for_who_opted_out(world: World) -> None:
    reply = await a_reply(world)
    await world.store.opt_out(world.bob.id, True)
    result = await world.answered(await world.context_menu(world.bob, RATE, reply))
    assert result.modal is None
    assert await said(world, result) == OPTED_OUT


async def test_message_command_goes_with_the_cog(world: World) -> None:
    assert world.bot.tree.get_command(RATE, type=discord.AppCommandType.message) is not None
    await world.bot.remove_cog("Feedback")
    assert world.bot.tree.get_command(RATE, type=discord.AppCommandType.message) is None
