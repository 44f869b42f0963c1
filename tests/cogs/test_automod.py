"""What Discord's AutoMod and the server's filter bring before the moderators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.records import CaseSource
from cogs.reports import THANKS
from tests.cogs.cases import asked_to_delete, card, decide, delete_members, open_count, report
from tests.cogs.commands import audit, embed_of, fields
from tests.cogs.nights import choose_mod_room
from tests.cogs.privacy import delete_data
from tests.cogs.rating import a_reply
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        await choose_mod_room(world)
        yield world


async def acted(
    world: World, content: str, *, by: Any = None, message: Any = None, kinds: tuple[int, ...] = (1,)
) -> None:
    """Have AutoMod act on what alice, or another, wrote in #general, as Discord's gateway tells it."""
    for kind in kinds:
        payload = {
            "guild_id": str(world.guild.id),
            "action": {"type": kind, "metadata": {"channel_id": str(world.mod_room.id), "duration_seconds": 60}},
            "rule_id": "77",
            "rule_trigger_type": 1,
            "user_id": str((by or world.alice).id),
            "channel_id": str(world.channel("general").id),
            "content": content,
            "matched_keyword": "fool",
            "matched_content": "fool",
        }
        if message is not None:
            payload["message_id"] = str(message.id)
        world.backend.emit("AUTO_MODERATION_ACTION_EXECUTION", payload)
    await world.quiet()


async def test_blocked_mention_of_the_bot_is_a_case_once(world: World) -> None:
    await acted(world, f"{world.mention} you fool", kinds=(1, 2, 3))
    shown = await card(world)
    assert embed_of(shown).title == "Case 1: AutoMod acted on a message to me"
    assert "you fool" in (embed_of(shown).description or "")
    assert fields(shown)["Written by"] == f"<@{world.alice.id}>"
    assert [name.split(":")[2] for name in world.custom_ids(shown)] == ["dismiss", "mute", "ban", "lock"]
    assert fields(shown)["Message"].startswith("Discord stopped it before it was posted: there is nothing to delete")
    assert await open_count(world) == 1
    await decide(world, shown, "mute")
    assert await world.store.is_muted(world.guild.id, world.alice.id)


async def test_flagged_reply_to_the_bot_is_a_case_and_talk_among_members_is_none(world: World) -> None:
    reply = await a_reply(world)
    answer = await world.say(world.alice, "general", "what a fool", reply_to=reply)
    await acted(world, "what a fool", message=answer, kinds=(2,))
    shown = await card(world)
    assert f"/{answer.id})" in fields(shown)["Where"] and "Message" not in fields(shown)
    actions = [name.split(":")[2] for name in world.custom_ids(shown)]
    assert actions == ["dismiss", "delete", "mute", "ban", "unlearn", "lock"]
    await acted(world, "bob is a fool")
    await acted(world, "bob is a fool", message=await world.say(world.alice, "general", "bob is a fool"))
    assert await open_count(world) == 1


async def test_member_whom_automod_stops_again_and_again_is_one_case_in_a_while(world: World) -> None:
    for number in range(3):
        await acted(world, f"{world.mention} you fool {number}")
    assert await open_count(world) == 1
    await acted(world, f"{world.mention} you fool", by=world.bob)
    assert await open_count(world) == 2


async def test_words_of_who_opted_out_are_not_kept(world: World) -> None:
    await world.store.opt_out(world.alice.id, True)
    await acted(world, f"{world.mention} SECRET")
    shown = await card(world)
    assert "SECRET" not in str(embed_of(shown).to_dict()) and "Written by" not in fields(shown)
    (case,), _ = await world.store.open_cases(world.guild.id, 1)
    assert (case.source, case.subject_id, case.quote) == (CaseSource.AUTOMOD, None, "")


async def flagged(world: World) -> tuple[Any, Any]:
    """Have alice ask what AutoMod flags and the bot answers; return her message and its case's card."""
    asked = await world.ask(world.alice, "general", "you fool")
    await world.answered_in("general", 1)
    await acted(world, f"{world.mention} you fool", message=asked, kinds=(2,))
    return asked, await card(world)


async def test_members_message_is_deleted_where_i_may(world: World) -> None:
    asked, shown = await flagged(world)
    await world.set_bot_permissions("general", manage_messages=False)
    told = await delete_members(world, shown)
    general = world.channel("general").id
    assert told.startswith(f"I lack Manage Messages in <#{general}>") and "delete it by its link" in told
    assert await open_count(world) == 1 and asked.id in [message.id for message in world.messages("general")]
    await world.set_bot_permissions("general", manage_messages=True)
    assert await delete_members(world, shown) == "It is deleted, and no night to come learns from it."
    assert asked.id not in [message.id for message in world.messages("general")]
    assert (await audit(world))[0][1:] == ("case delete", {"case": 1, "message_id": asked.id})


async def test_members_message_stays_unless_that_is_confirmed(world: World) -> None:
    asked, shown = await flagged(world)
    question = await asked_to_delete(world, shown)
    await world.answered(await world.click(world.moderator, question, label="Keep it"))
    assert await open_count(world) == 1 and asked.id in [message.id for message in world.messages("general")]
    question = await asked_to_delete(world, shown)
    await decide(world, shown, "dismiss")  # by another moderator, meanwhile
    await world.click(world.moderator, question, label="Delete it")
    await world.eventually(lambda: question.content.startswith("This case is closed already."))
    assert asked.id in [message.id for message in world.messages("general")]


async def test_replies_that_read_a_members_message_are_never_learned_from(world: World) -> None:
    asked, shown = await flagged(world)
    await a_reply(world, "and then?")  # reads it as history
    await world.ask(world.bob, world.guild.create_text_channel("aside"), "elsewhere")
    await world.eventually(lambda: not world.responder.running)
    assert (await decide(world, shown, "unlearn")).endswith("that answers this message or reads it.")
    marked = await world.store._database.read("SELECT asked_message_id FROM never_learn JOIN replies ON id = reply_id")
    assert len(marked) == 2 and (asked.id,) in marked


# ---------------------------------------------------------------------- deleted data


async def test_late_case_of_a_members_message_has_nothing_of_who_had_their_data_deleted_since(world: World) -> None:
    asked = await world.ask(world.alice, "general", "you fool, SECRET")
    await world.answered_in("general")
    await delete_data(world.store, world.alice)
    await acted(world, asked.content, message=asked, kinds=(2,))
    shown = await card(world)
    assert "SECRET" not in str(embed_of(shown).to_dict()) and "Written by" not in fields(shown)
    (case,), _ = await world.store.open_cases(world.guild.id, 1)
    assert (case.subject_id, case.quote) == (None, "")
    await delete_data(world.store, world.bob)
    await acted(
        world,
        f"{world.mention} I am back, you fool",
        by=world.bob,
        message=await world.say(world.bob, "general", "I am back, you fool"),
    )
    (case, _), _ = await world.store.open_cases(world.guild.id, 2)
    assert case.subject_id == world.bob.id and "I am back" in case.quote


@pytest.mark.parametrize("by", ["alice", "bob"], ids=["who asked", "whose words were read"])
async def test_filters_case_quotes_no_answer_that_read_who_had_their_data_deleted_meanwhile(
    tmp_path: Path, by: str
) -> None:
    async with live_world(tmp_path, seconds_per_token=0.05) as world:
        await choose_mod_room(world)
        world.engine.says = "Bob said SECRET, so write to kim.lee@mail-host.com."
        await world.say(world.bob, "general", "SECRET")
        await world.ask(world.alice, "general", "what did he say?")
        await world.eventually(lambda: world.replies("general"))
        await delete_data(world.store, getattr(world, by))
        shown = await card(world)
        assert embed_of(shown).title == "Case 1: This server's filter found something"
        assert "SECRET" not in str(embed_of(shown).to_dict())
        assert ("Asked by" in fields(shown)) is (by == "bob")
        (case,), _ = await world.store.open_cases(world.guild.id, 1)
        assert (case.quote, case.subject_id) == ("", world.alice.id if by == "bob" else None)


async def test_report_after_the_deletion_shows_nothing_of_the_answer(world: World) -> None:
    await world.say(world.bob, "general", "SECRET")
    world.engine.says = "Bob said SECRET."
    reply = await a_reply(world)
    await delete_data(world.store, world.bob)
    assert await report(world, reply.id, by=world.alice) == THANKS
    shown = await card(world)
    assert fields(shown)["Reports: 1"] and "SECRET" not in str(embed_of(shown).to_dict())


# ---------------------------------------------------------------------- the filter


async def test_case_of_an_answer_that_was_hidden_is_the_replys(world: World) -> None:
    world.engine.says = "Well then, write to kim.lee@mail-host.com."
    reply = await a_reply(world)
    shown = await card(world)
    stored = await world.reply_shown_by(reply)
    embed = embed_of(shown)
    assert embed.title == "Case 1: This server's filter found something"
    assert "Found in my answer to them: personal" in str(embed.description) and "kim.lee" in str(embed.description)
    assert embed.footer.text == f"Reply {stored.id}"
    assert await report(world, reply.id) == THANKS  # joins the open case
    assert await open_count(world) == 1
    assert await decide(world, shown, "delete") == "It is deleted, and no night to come learns from it."
    assert reply not in world.messages("general")
    assert (await audit(world))[0][2]["reply_id"] == stored.id


async def test_filters_case_of_a_reply_that_has_an_open_one_is_of_its_message(world: World) -> None:
    reply = await a_reply(world)
    await report(world, reply.id)
    stored = await world.reply_shown_by(reply)
    again = await world.store.open_case(
        world.guild.id, CaseSource.FILTER, stored.ask.channel_id, reply.id, world.alice.id, "more", stored.id
    )
    case = await world.store.case(again)
    assert case is not None and (case.reply_id, case.message_id) == (None, reply.id)
