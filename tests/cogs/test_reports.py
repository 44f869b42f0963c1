"""Reports by members, AutoMod's acts, and what moderators decide on the cases, through Discord."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.case_ui import LOCKED, UNKNOWN_CASE
from bot.cases import REPORTS_AN_HOUR
from bot.privacy.journal import Request
from bot.records import CaseSource, Decision
from cogs.reports import MENU, THANKS, TOO_MANY
from tests.cogs.commands import audit, embed_of, fields, run, words
from tests.cogs.nights import choose_mod_room
from tests.cogs.rating import a_reply, said
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        await choose_mod_room(world)
        yield world


async def report(world: World, message: Any, reason: str = "that is rude", *, by: Any = None) -> str:
    """Report a reply with the command and return what the member is told."""
    return str((await run(world, "report", by=by or world.bob, message=str(message), reason=reason)).content)


async def card(world: World, *, count: int = 1) -> Any:
    """Return the newest card in the moderators' channel."""
    cards = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds][count - 1 :])
    return cards[-1]


async def a_case(world: World) -> Any:
    """Have bob report a reply to alice; return its card."""
    await report(world, (await a_reply(world)).id)
    return await card(world)


async def decide(world: World, shown: Any, action: str, *, by: Any = None) -> str:
    """Press a button of a case and return what the moderator is told."""
    custom_id = next(name for name in world.custom_ids(shown) if name.startswith(f"encore:case:{action}:"))
    result = await world.answered(await world.click(by or world.moderator, shown, custom_id=custom_id))
    return await said(world, result)


async def asked_to_delete(world: World, shown: Any) -> Any:
    """Press a case's "Delete it" and return the question that the moderator is asked."""
    custom_id = next(name for name in world.custom_ids(shown) if name.startswith("encore:case:delete:"))
    result = await world.answered(await world.click(world.moderator, shown, custom_id=custom_id))
    (question,) = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    assert "can't be undone" in question.content
    return question


async def delete_members(world: World, shown: Any) -> str:
    """Delete a case's message of a member, and return what became of it."""
    question = await asked_to_delete(world, shown)
    await world.click(world.moderator, question, label="Delete it")
    await world.eventually(lambda: "undone" not in question.content and question.content != "One moment ...")
    return str(question.content)


async def open_count(world: World) -> int:
    return (await world.store.open_cases(world.guild.id, 1))[1]


# ---------------------------------------------------------------------- reports


async def test_every_member_is_offered_the_report(world: World) -> None:
    for name, kind in (("report", 1), (MENU, 3)):
        command = world.backend.find_command(name, world.guild.id, type=kind)
        assert command["default_member_permissions"] is None
        assert command["contexts"] is None and command["dm_permission"] is not False, "in direct messages, too"
    for told in words(world.backend.find_command("report", world.guild.id, type=1)):
        assert 8 <= len(told) <= 100 and not told.endswith(".")


async def test_report_brings_the_reply_before_the_moderators(world: World) -> None:
    world.engine.says = "You *are* a fool, <@&1>."
    reply = await a_reply(world)
    assert await report(world, reply.id) == THANKS
    shown = await card(world)
    embed = embed_of(shown)
    assert embed.title == "Case 1: A reply was reported"
    assert "You *are* a fool" in (embed.description or "")
    told = fields(shown)
    assert f"<#{reply.channel_id}>" in told["Where"] and f"/{reply.channel_id}/{reply.id})" in told["Where"]
    assert told["Asked by"] == f"<@{world.alice.id}>"
    assert told["Reports: 1"] == f"<@{world.bob.id}>: that is rude"
    assert embed.footer.text == f"Reply {(await world.reply_shown_by(reply)).id}"
    actions = [name.split(":")[2] for name in world.custom_ids(shown)]
    assert actions == ["dismiss", "delete", "mute", "ban", "unlearn", "lock"]


async def test_reply_is_named_by_its_link_and_by_the_menu(world: World) -> None:
    reply = await a_reply(world)
    assert await report(world, f"https://discord.com/channels/{world.guild.id}/{reply.channel_id}/{reply.id}") == THANKS
    shown = await world.answered(await world.context_menu(world.alice, MENU, reply))
    assert shown.modal["title"] == MENU
    sent = await world.submit_modal(world.alice, shown, {"reason": "I never asked\nfor that"})
    assert await said(world, sent) == THANKS

    async def both() -> bool:
        told = fields(await card(world)).get("Reports: 2", "")
        return f"<@{world.bob.id}>: that is rude" in told and f"<@{world.alice.id}>: I never asked" in told

    await world.eventually(both)
    assert len(world.replies("mod-room")) == 1 and await open_count(world) == 1


async def test_reports_that_come_at_once_make_one_card(world: World) -> None:
    reply = await a_reply(world)
    told = await asyncio.gather(*(report(world, reply.id, by=member) for member in (world.alice, world.bob)))
    assert told == [THANKS, THANKS]

    async def counted() -> bool:
        return "Reports: 2" in fields(await card(world))

    await world.eventually(counted)
    assert len(world.replies("mod-room")) == 1


@pytest.mark.parametrize("given", ["that one", "12", "https://example.org/channels/1/2/3"])
async def test_what_is_no_message_is_refused(world: World, given: str) -> None:
    assert (await report(world, given)).startswith("That is no message; copy its link")


async def test_message_of_a_member_is_no_reply(world: World) -> None:
    message = await world.say(world.alice, "general", "I am no reply")
    assert (await report(world, message.id)).startswith("This is no reply of mine")
    result = await world.answered(await world.context_menu(world.bob, MENU, message))
    assert result.modal is None
    assert (await said(world, result)).startswith("This is no reply of mine")
    assert await open_count(world) == 0


async def test_member_reports_a_few_replies_an_hour(world: World) -> None:
    reply = await a_reply(world)
    told = [await report(world, reply.id) for _ in range(REPORTS_AN_HOUR + 1)]
    assert told == [THANKS] * REPORTS_AN_HOUR + [TOO_MANY]
    assert await report(world, reply.id, by=world.alice) == THANKS
    (case,), _ = await world.store.open_cases(world.guild.id, 1)
    assert case.report_count == 2


async def test_report_without_a_moderators_channel_waits_in_the_queue(world: World) -> None:
    await world.store.change_server_settings(world.guild.id, 1, moderators_channel_id=None)
    assert await report(world, (await a_reply(world)).id) == THANKS
    assert await open_count(world) == 1 and world.replies("mod-room") == []


# ---------------------------------------------------------------------- decisions


async def test_member_who_sees_the_card_cannot_decide(world: World) -> None:
    general = world.channel("general").id
    await world.store.change_server_settings(world.guild.id, 1, moderators_channel_id=general)
    await report(world, (await a_reply(world)).id)
    (shown,) = await world.eventually(lambda: [m for m in world.replies("general") if m.embeds])
    for action in ("mute", "lock"):
        told = await decide(world, shown, action, by=world.alice)
        assert told == "Only members who may manage this server can use this command."
    assert await open_count(world) == 1
    assert not (await world.store.server_settings(world.guild.id)).locked


@pytest.mark.parametrize("action", [decision.value for decision in Decision])
async def test_decision_is_done_audited_and_shown_on_the_card(world: World, action: str) -> None:
    shown = await a_case(world)
    (reply,) = world.replies("general")
    stored = await world.reply_shown_by(reply)
    await decide(world, shown, action)
    assert f"decided by <@{world.moderator.id}>" in fields(shown)["Decided"]
    assert world.custom_ids(shown) == []
    [(actor, told, detail), *_] = await audit(world)
    assert (actor, told) == (world.moderator.id, f"case {action}")
    assert (detail["case"], detail["reply_id"]) == (1, stored.id)
    assert (reply in world.messages("general")) is (action != "delete")
    assert await world.store.is_muted(world.guild.id, world.alice.id) is (action == "mute")
    rater = await world.store.rater(world.guild.id, world.alice.id)
    assert (rater is not None and rater.banned) is (action == "ban")
    marked = await world.store._database.read("SELECT reply_id FROM never_learn")
    assert marked == ([(stored.id,)] if action == "unlearn" else [])


async def test_second_press_says_what_was_decided(world: World) -> None:
    shown = await a_case(world)
    custom_ids = world.custom_ids(shown)
    case = await world.store.case(1)
    assert case is not None
    await world.bot.cases.decide(case, Decision.DISMISS, world.moderator.id)
    result = await world.answered(await world.click(world.moderator, shown, custom_id=custom_ids[2]))
    told = await said(world, result)
    assert told == f"This case is closed already. Dismissed; decided by <@{world.moderator.id}>."
    assert not await world.store.is_muted(world.guild.id, world.alice.id)


async def test_buttons_work_after_a_restart(world: World) -> None:
    shown = await a_case(world)
    await world.restart()
    assert "don't answer this member" in await decide(world, shown, "mute")
    await world.ask(world.alice, "general", "still there?")
    await world.quiet()
    assert len(world.replies("general")) == 1


async def test_never_learn_says_what_stays_learned(world: World) -> None:
    told = await decide(world, await a_case(world), "unlearn")
    assert "No night to come learns from this reply" in told and "What earlier nights learned" in told


async def test_lock_button_locks_and_leaves_the_case_open(world: World) -> None:
    shown = await a_case(world)
    assert await decide(world, shown, "lock") == LOCKED
    assert (await world.store.server_settings(world.guild.id)).locked
    assert await open_count(world) == 1


async def test_case_of_a_forgotten_member_is_taken_off_its_card(world: World) -> None:
    world.engine.says = "SECRET of alice"
    shown = await a_case(world)
    await world.store.erase(Request("d1", world.alice.id, 1.0))
    assert await decide(world, shown, "dismiss") == UNKNOWN_CASE
    embed = embed_of(shown)
    assert embed.title == "This case is gone" and "SECRET" not in str(embed.to_dict())
    assert world.custom_ids(shown) == []


async def test_card_from_before_a_restored_backup_decides_on_no_other_case(world: World) -> None:
    shown = await a_case(world)
    await world.store._database.write("UPDATE cases SET opened_at = opened_at + 60")
    assert await decide(world, shown, "mute") == UNKNOWN_CASE
    assert await open_count(world) == 1 and not await world.store.is_muted(world.guild.id, world.alice.id)


async def test_card_that_is_pressed_before_its_place_is_known_is_the_one_that_changes(world: World) -> None:
    shown = await a_case(world)
    await world.quiet(0.05)
    await world.store._database.write("UPDATE cases SET card_message_id = NULL")
    await decide(world, shown, "dismiss")
    assert "Dismissed" in fields(shown)["Decided"] and len(world.replies("mod-room")) == 1


async def test_reply_that_discord_does_not_let_go_stays_a_case(world: World, monkeypatch: Any) -> None:
    shown = await a_case(world)

    async def refuse(*_: Any, **__: Any) -> None:
        raise discord.HTTPException(_Unavailable(), "unavailable")  # type: ignore[arg-type]

    monkeypatch.setattr(discord.PartialMessage, "delete", refuse)
    assert (await decide(world, shown, "delete")).startswith("Discord didn't let me delete all of it")
    assert await open_count(world) == 1


class _Unavailable:
    status, reason = 503, "Service Unavailable"


# ---------------------------------------------------------------------- AutoMod


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
    assert await delete_members(world, shown) == "It is deleted."
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
    assert await decide(world, shown, "delete") == "It is deleted."
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
