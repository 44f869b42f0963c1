"""A reply in words that thanks or corrects: one quiet question, for one member, gone soon."""

from __future__ import annotations

from typing import Any

import pytest

from bot.errors import StoreBusy
from bot.feedback_ui import OPTED_OUT, UNKNOWN_REPLY
from cogs.feedback import Feedback
from tests.cogs.rating import a_reply, press, said, votes
from tests.world import World


def questions(world: World, where: Any = "general") -> list[Any]:
    """List the standing questions whether words count as a vote."""
    return [m for m in world.replies(where) if any("encore:words:" in name for name in world.custom_ids(m))]


async def asked(world: World, member: Any, reply: Any, words: str) -> Any:
    await world.say(member, reply.channel_id, words, reply_to=reply)
    return (await world.eventually(lambda: questions(world, reply.channel_id)))[-1]


@pytest.mark.parametrize(
    ("words", "label", "vote"),
    [
        ("谢谢，这个回答很好", "Count this as 👍", 1.0),
        ("thank you!", "Count this as 👍", 1.0),
        ("no, that's wrong", "Count this as 👎", -1.0),
    ],
)
async def test_words_become_a_vote_in_one_click(world: World, words: str, label: str, vote: float) -> None:
    reply = await a_reply(world)
    question = await asked(world, world.bob, reply, words)
    pressed = await world.answered(await world.click(world.bob, question, label=label))
    assert await said(world, pressed) == f"Counted as {label[-1]}; thank you."
    assert await votes(world, reply) == {world.bob.id: ("words", vote)}
    await world.eventually(lambda: not questions(world))


async def test_words_of_who_opted_out_since_are_not_said_to_count(world: World) -> None:
    reply = await a_reply(world)
    question = await asked(world, world.bob, reply, "thanks!")
    await world.store.opt_out(world.bob.id, True)
    pressed = await world.answered(await world.click(world.bob, question, label="Count this as 👍"))
    assert await said(world, pressed) == OPTED_OUT
    assert await votes(world, reply) == {}
    await world.eventually(lambda: not questions(world))


async def test_no_leaves_no_vote_and_removes_the_question(world: World) -> None:
    reply = await a_reply(world)
    question = await asked(world, world.bob, reply, "thanks!")
    await world.click(world.bob, question, label="No")
    await world.eventually(lambda: not questions(world))
    assert await votes(world, reply) == {}


async def test_question_is_for_the_one_who_said_it(world: World) -> None:
    reply = await a_reply(world)
    question = await asked(world, world.bob, reply, "thanks!")
    pressed = await world.answered(await world.click(world.alice, question, label="Count this as 👍"))
    assert "for someone else" in await said(world, pressed)
    assert await votes(world, reply) == {}
    assert questions(world) == [question]


async def test_question_makes_no_sound_and_pings_nobody(world: World) -> None:
    question = await asked(world, world.bob, await a_reply(world), "thanks!")
    assert question.flags & 4096
    assert question.ping_user_ids == []


async def test_question_is_asked_once_a_reply_and_member(world: World) -> None:
    reply = await a_reply(world)
    await world.click(world.bob, await asked(world, world.bob, reply, "thanks!"), label="No")
    await world.eventually(lambda: not questions(world))
    await world.say(world.bob, "general", "thank you!", reply_to=reply)
    await world.quiet(0.3)
    assert questions(world) == []
    assert await asked(world, world.alice, reply, "thank you!")


async def test_newer_question_replaces_the_members_older_one_in_the_channel(world: World) -> None:
    first = await asked(world, world.bob, await a_reply(world, "one"), "thanks!")
    second_reply = await a_reply(world, "two")
    await world.say(world.bob, "general", "thank you!", reply_to=second_reply)
    await world.eventually(lambda: first not in questions(world))
    assert len(await world.eventually(lambda: questions(world))) == 1


async def test_nothing_is_asked_where_the_vote_says_it_already(world: World) -> None:
    reply = await a_reply(world)
    await said(world, await press(world, world.bob, reply, "up"))
    await world.say(world.bob, "general", "thanks!", reply_to=reply)
    await world.quiet(0.3)
    assert questions(world) == []


@pytest.mark.parametrize("words", ["tell me more", "why?", "thanks, but why?"])
async def test_other_words_are_no_verdict(world: World, words: str) -> None:
    await world.say(world.bob, "general", words, reply_to=await a_reply(world))
    await world.quiet(0.3)
    assert questions(world) == []


async def test_thanks_to_someone_else_ask_nothing(world: World) -> None:
    await a_reply(world)
    chatter = await world.say(world.alice, "general", "here is a tip")
    await world.say(world.bob, "general", "thank you!", reply_to=chatter)
    await world.quiet(0.3)
    assert questions(world) == []


@pytest.mark.parametrize("query", ["reply_of_message", "server_settings", "votes"])
async def test_words_are_passed_over_while_the_store_is_locked_and_count_later(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    reply = await a_reply(world)
    with monkeypatch.context() as locked:
        locked.setattr(world.store, query, _locked)
        caplog.clear()
        await world.say(world.bob, "general", "thanks!", reply_to=reply)
        [warning] = await world.eventually(lambda: [r for r in caplog.records if "not offered as a vote" in r.message])
        assert (warning.levelname, warning.exc_info) == ("WARNING", None)
        await world.quiet()
    assert world.errors == []
    assert questions(world) == []
    assert await asked(world, world.bob, reply, "thank you!")


async def _locked(*_: Any) -> Any:
    raise StoreBusy("another program holds the lock")


async def test_question_goes_when_its_time_is_over(world: World) -> None:
    reply = await a_reply(world)
    await world.bot.remove_cog("Feedback")
    await world.bot.add_cog(Feedback(world.bot, question_seconds=1.0))
    await asked(world, world.bob, reply, "thanks!")
    await world.eventually(lambda: not questions(world))
    assert await votes(world, reply) == {}


async def test_open_questions_go_when_the_bot_ends_in_order(world: World) -> None:
    await asked(world, world.bob, await a_reply(world), "thanks!")
    await world.bot.remove_cog("Feedback")
    assert questions(world) == []


async def test_question_still_works_after_a_crash(world: World) -> None:
    reply = await a_reply(world)
    question = await asked(world, world.bob, reply, "thanks!")
    await world.restart()
    await said(world, await world.click(world.bob, question, label="Count this as 👍"))
    assert await votes(world, reply) == {world.bob.id: ("words", 1.0)}
    await world.eventually(lambda: not questions(world))


async def test_channel_where_the_bot_may_not_write_is_left_alone(world: World) -> None:
    reply = await a_reply(world)
    await world.set_bot_permissions("general", send_messages=False)
    await world.say(world.bob, "general", "thanks!", reply_to=reply)
    await world.quiet(0.3)
    assert questions(world) == []


async def test_paused_bot_asks_nothing(world: World) -> None:
    reply = await a_reply(world)
    await world.store.change_server_settings(world.guild.id, world.moderator.id, paused=True)
    await world.say(world.bob, "general", "thanks!", reply_to=reply)
    await world.quiet(0.3)
    assert questions(world) == []


async def test_question_about_a_reply_that_had_the_id_before_counts_for_nobody(world: World) -> None:
    question = await asked(world, world.bob, await a_reply(world), "thanks!")
    newer = await a_reply(world, "newer")
    newer_id = (await world.reply_shown_by(newer)).id
    [row] = question.components
    row["components"][0]["custom_id"] = f"encore:words:up:{newer_id}:{world.bob.id}"
    pressed = await world.answered(await world.click(world.bob, question, label="Count this as 👍"))
    assert await said(world, pressed) == UNKNOWN_REPLY
    assert await votes(world, newer) == {}


@pytest.mark.parametrize("why", ["opted out", "muted"])
async def test_who_is_not_heard_is_not_asked_either(world: World, why: str) -> None:
    await world.ask(world.bob, "general", "hello")
    [shown] = await world.answered_in("general")
    if why == "muted":
        await world.store.mute(world.guild.id, world.alice.id, world.moderator.id, None)
    else:
        await world.store.opt_out(world.alice.id, True)
    await world.say(world.alice, "general", "thanks, that was great", reply_to=shown)
    await world.quiet()
    assert len(world.replies("general")) == 1
