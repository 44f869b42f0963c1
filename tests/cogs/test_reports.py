"""Reports by members, and what moderators decide on the cases, through Discord."""

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
from bot.records import Decision, Provenance
from cogs.reports import MENU, THANKS, TOO_MANY
from models.prompt import PROMPT_VERSION
from tests.cogs.cases import a_case, card, decide, open_count, report
from tests.cogs.commands import audit, embed_of, fields, run, words
from tests.cogs.nights import choose_mod_room
from tests.cogs.rating import a_reply, press, said
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        await choose_mod_room(world)
        yield world


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
    assert r"You \*are\* a fool" in (embed.description or "")
    told = fields(shown)
    assert f"<#{reply.channel_id}>" in told["Where"] and f"/{reply.channel_id}/{reply.id})" in told["Where"]
    assert told["Asked by"] == f"<@{world.alice.id}>"
    assert told["Reports: 1"] == f"<@{world.bob.id}>: that is rude"
    assert embed.footer.text == f"Reply {(await world.reply_shown_by(reply)).id}"
    actions = [name.split(":")[2] for name in world.custom_ids(shown)]
    assert actions == ["dismiss", "delete", "mute", "ban", "unlearn", "lock"]


async def test_words_of_members_show_as_typed_and_put_no_link_under_others(world: World) -> None:
    await world.store.change_server_settings(world.guild.id, world.moderator.id, filter_words=["darn"])
    bait = "**Encore security:** [verify](https://evil.example/login)"
    shown = r"\*\*Encore security:\*\* \[verify\]\(https://evil.example/login\)"
    await world.ask(world.alice, "general", f"darn {bait}")
    assert shown in (embed_of(await card(world)).description or "")
    await report(world, (await a_reply(world)).id, bait)
    assert shown in fields(await card(world, count=2))["Reports: 1"]
    queue = await run(world, "mod queue")
    assert all("[verify]" not in str(embed.to_dict()) for embed in queue.embeds) and len(queue.embeds) == 2


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
    left = [name.split(":")[2] for name in world.custom_ids(shown)]
    assert (
        left
        == {
            "dismiss": [],
            "delete": ["mute", "ban"],
            "mute": ["delete", "ban", "unlearn"],
            "ban": ["delete", "mute", "unlearn"],
            "unlearn": ["delete", "mute", "ban"],
        }[action]
    )
    [(actor, told, detail), *_] = await audit(world)
    assert (actor, told) == (world.moderator.id, f"case {action}")
    assert (detail["case"], detail["reply_id"]) == (1, stored.id)
    assert (reply in world.messages("general")) is (action != "delete")
    assert await world.store.is_muted(world.guild.id, world.alice.id) is (action == "mute")
    rater = await world.store.rater(world.guild.id, world.alice.id)
    assert (rater is not None and rater.banned) is (action == "ban")
    marked = await world.store._database.read("SELECT reply_id FROM never_learn")
    assert marked == ([(stored.id,)] if action in ("unlearn", "delete") else [])


async def test_case_that_is_decided_leaves_what_else_may_be_done_about_it(world: World) -> None:
    shown = await a_case(world)
    (reply,) = world.replies("general")
    await decide(world, shown, "unlearn")
    assert await open_count(world) == 0
    await decide(world, shown, "delete")
    await world.restart()
    assert "don't answer this member" in await decide(world, shown, "mute")
    assert reply not in world.messages("general")
    assert await world.store.is_muted(world.guild.id, world.alice.id)
    by = f"Never learned from; decided by <@{world.moderator.id}>."
    assert fields(shown)["Decided"] == f"{by} Since then: Deleted. Since then: I don't answer the member any more."
    assert [name.split(":")[2] for name in world.custom_ids(shown)] == ["ban"]
    assert [action for _, action, _ in await audit(world)][:3] == ["case mute", "case delete", "case unlearn"]


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


async def test_never_learn_binds_what_carries_the_reply_on_and_what_reads_it(world: World) -> None:
    world.engine.says = "the SLUR sits here"
    reply = await a_reply(world)
    await press(world, world.alice, reply, "continue")
    (carried_on,) = (await world.answered_in("general", 2))[1:]
    await report(world, reply.id)
    await decide(world, await card(world), "unlearn")
    await press(world, world.alice, carried_on, "continue")
    await world.answered_in("general", 3)
    await world.ask(world.bob, "general", "what was that?", reply_to=reply)
    answers = await world.answered_in("general", 4)
    aside = world.guild.create_text_channel("aside")
    await world.ask(world.bob, aside, "elsewhere")
    answers += await world.answered_in("aside")
    stored = [await world.reply_shown_by(answer) for answer in answers]
    for each in stored:
        await world.store.cast_vote(each.id, world.bob.id, "button", 1.0)
    assert stored[0].generation is not None
    found = await world.store.learnable(
        list(Provenance), model_sha256=stored[0].generation.model_sha256, prompt_version=PROMPT_VERSION
    )
    assert [each.reply_id for each in found] == [stored[-1].id]


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
