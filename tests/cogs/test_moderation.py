"""Moderators in control: /mod queue, mute, unmute, purge, audit; /lock and /unlock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.case_ui import LOCKED
from bot.checks import NotModerator
from bot.records import CaseSource
from bot.room import Rooms
from cogs.moderation import Moderation
from tests.cogs.commands import (
    assert_hidden,
    assert_refused,
    audit,
    embed_of,
    fields,
    leaves,
    run,
    show_to_members,
    words,
)
from tests.cogs.nights import FakeNightly, choose_mod_room
from tests.cogs.rating import a_reply, press, said
from tests.world import World, live_world

COMMANDS = ("mod", "lock", "unlock")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=FakeNightly(tmp_path)) as world:
        yield world


async def told(world: World, command: str, **options: Any) -> str:
    return str((await run(world, command, **options)).content)


async def unanswered(world: World, member: Any, text: str = "hello?") -> None:
    """Have a member talk to the bot, and see that nothing comes of it."""
    before = len(world.replies("general"))
    await world.ask(member, "general", text)
    await world.quiet()
    assert len(world.replies("general")) == before


# ---------------------------------------------------------------------- who may


async def test_there_are_these_commands(world: World) -> None:
    assert list(leaves(world.backend.find_command("mod", world.guild.id, type=1))) == [
        "mod queue", "mod mute", "mod unmute", "mod purge", "mod audit",
    ]  # fmt: skip


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    for name in COMMANDS:
        assert_hidden(world, name)


async def test_descriptions_are_short_sentences_without_a_full_stop(world: World) -> None:
    for name in COMMANDS:
        for word in words(world.backend.find_command(name, world.guild.id, type=1)):
            assert 8 <= len(word) <= 100 and not word.endswith(".")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("mod queue", {}),
        ("mod mute", {"member": True}),
        ("mod unmute", {"member": True}),
        ("mod purge", {"count": 1}),
        ("mod audit", {}),
        ("lock", {}),
        ("unlock", {}),
    ],
)
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str, options: dict[str, Any]) -> None:
    show_to_members(world, command.split()[0])
    given = {**options, "member": world.bob} if "member" in options else options
    await assert_refused(world, await world.slash(world.alice, "general", command, **given))
    assert not (await world.store.server_settings(world.guild.id)).locked


# ---------------------------------------------------------------------- the queue


async def test_empty_queue_says_so(world: World) -> None:
    assert await told(world, "mod queue") == "No case is open."


async def test_queue_shows_the_newest_cases_whose_buttons_work(world: World) -> None:
    reply = await a_reply(world)
    await run(world, "report", by=world.bob, message=str(reply.id), reason="rude")
    for number in range(5):
        await world.store.open_case(world.guild.id, CaseSource.AUTOMOD, 1, None, world.bob.id, f"fool {number} " * 400)
    shown = await run(world, "mod queue")
    assert shown.content == "6 cases are open; these are the newest 5."
    titles = [embed.title for embed in shown.embeds]
    assert titles == [f"Case {number}: AutoMod acted on a message to me" for number in (6, 5, 4, 3, 2)]
    assert sum(len(embed) for embed in shown.embeds) < 6000
    result = await world.answered(await world.click(world.moderator, shown, label="4: Mute member for me"))
    assert "don't answer this member" in await said(world, result)
    assert await world.store.is_muted(world.guild.id, world.bob.id)
    again = await world.answered(await world.click(world.moderator, shown, label="4: Dismiss"))
    assert (await said(world, again)).startswith("This case is closed already.")
    rest = await run(world, "mod queue")
    assert rest.content == "5 cases are open."
    assert [embed.title for embed in rest.embeds][-1] == "Case 1: A reply was reported"
    assert f"/{reply.id})" in str(rest.embeds[-1].to_dict())


async def test_queue_is_the_servers_own(world: World) -> None:
    await world.store.open_case(world.guild.id + 1, CaseSource.AUTOMOD, 1, None, world.bob.id, "elsewhere")
    assert await told(world, "mod queue") == "No case is open."


# ---------------------------------------------------------------------- mutes


async def test_muted_member_is_not_answered_until_unmuted(world: World) -> None:
    assert "until /mod unmute" in await told(world, "mod mute", member=world.alice)
    await unanswered(world, world.alice)
    await world.ask(world.bob, "general", "and me?")
    await world.answered_in("general", 1)
    await world.restart()
    await unanswered(world, world.alice)
    assert "again" in await told(world, "mod unmute", member=world.alice)
    assert "isn't muted" in await told(world, "mod unmute", member=world.alice)
    await world.ask(world.alice, "general", "thanks")
    await world.answered_in("general", 2)
    assert [action for _, action, _ in await audit(world)] == ["mod unmute", "mod mute"]


async def test_mute_lasts_as_long_as_it_was_given(world: World) -> None:
    assert "for an hour" in await told(world, "mod mute", member=world.alice, minutes=60)
    assert "for 61 minutes" in await told(world, "mod mute", member=world.alice, minutes=61)
    [(until,)] = await world.store._database.read("SELECT until FROM mutes")
    [entry, _] = await world.store.audit(world.guild.id, 10)
    assert until - entry.created_at == pytest.approx(3660, abs=5)


async def test_lengths_are_offered_to_moderators(world: World) -> None:
    offered = await world.autocomplete(world.moderator, "general", "mod mute", "minutes", "", member=world.alice)
    assert [choice["value"] for choice in offered] == [10, 60, 1440, 10_080]
    offered = await world.autocomplete(world.moderator, "general", "mod mute", "minutes", "45", member=world.alice)
    assert [choice["name"] for choice in offered] == ["45 minutes"]
    show_to_members(world, "mod")
    assert await world.autocomplete(world.alice, "general", "mod mute", "minutes", "", member=world.bob) == []


async def test_muted_member_makes_no_other_version_with_a_button(world: World) -> None:
    reply = await a_reply(world)
    await run(world, "mod mute", member=world.alice)
    result = await press(world, world.alice, reply, "regenerate")
    [answer] = await world.eventually(lambda: result.followups)
    assert answer.content.startswith("A moderator has muted you") and answer.ephemeral
    assert len(world.replies("general")) == 1


# ---------------------------------------------------------------------- purge


async def test_purge_asks_first_and_deletes_the_bots_newest_messages(world: World) -> None:
    first = await a_reply(world, "one")
    for text in ("two", "three"):
        await a_reply(world, text)
    kept = await world.say(world.alice, "general", "mine stays")
    question = await run(world, "mod purge", count=2)
    assert "can't be undone" in question.content and len(world.replies("general")) == 3
    await world.click(world.moderator, question, label="Delete them")
    await world.eventually(lambda: question.content == "I deleted 2 of my messages.")
    assert [message.id for message in world.replies("general")] == [first.id]
    assert kept.id in [message.id for message in world.messages("general")]
    detail = {"channel_id": world.channel("general").id, "messages": 2}
    assert await audit(world) == [(world.moderator.id, "mod purge", detail)]


async def test_purge_passes_over_what_is_gone_already(world: World, monkeypatch: Any) -> None:
    for text in ("one", "two"):
        await a_reply(world, text)
    delete, gone = discord.Message.delete, [discord.NotFound(_Gone(), "Unknown Message")]  # type: ignore[arg-type]

    async def raced(message: discord.Message) -> None:
        if gone:
            raise gone.pop()
        await delete(message)

    monkeypatch.setattr(discord.Message, "delete", raced)
    question = await run(world, "mod purge", count=1)
    await world.click(world.moderator, question, label="Delete them")
    await world.eventually(lambda: question.content == "I deleted 1 message.")


class _Gone:
    status, reason = 404, "Not Found"


async def test_purge_can_be_thought_over(world: World) -> None:
    await a_reply(world)
    question = await run(world, "mod purge", count=1)
    await world.answered(await world.click(world.moderator, question, label="Keep them"))
    assert len(world.replies("general")) == 1 and await audit(world) == []


async def test_question_without_an_answer_deletes_nothing(world: World) -> None:
    await a_reply(world)
    await world.bot.remove_cog("Moderation")
    await world.bot.add_cog(Moderation(world.bot, confirm_seconds=0.05))
    question = await run(world, "mod purge", count=1)
    await world.eventually(lambda: "nobody confirmed it" in question.content)
    assert len(world.replies("general")) == 1


async def test_who_no_longer_moderates_cannot_confirm(world: World) -> None:
    await a_reply(world)
    question = await run(world, "mod purge", count=1)
    world.backend.remove_member_role(world.guild.id, world.moderator.id, world.guild.roles["Moderator"].id)
    result = await world.answered(await world.click(world.moderator, question, label="Delete them"))
    assert await said(world, result) == "Only members who may manage this server can use this command."
    assert [type(error) for error in world.errors] == [NotModerator]
    world.env._errors.clear()  # SimCord keeps refusals among what handlers raised
    assert len(world.replies("general")) == 1


# ---------------------------------------------------------------------- audit


async def test_audit_reads_as_who_did_what(world: World) -> None:
    assert embed_of(await run(world, "mod audit")).description == "Nothing was changed here yet."
    await run(world, "mod mute", member=world.alice, minutes=10)
    await run(world, "encore pause")
    await run(world, "encore channels add", channel=world.channel("general"))
    lines = (embed_of(await run(world, "mod audit")).description or "").splitlines()
    assert [line.split("> ", 1)[1] for line in lines] == [
        f"<@{world.moderator.id}> **channels add** channel id: <#{world.channel('general').id}>",
        f"<@{world.moderator.id}> **settings** paused: no → yes",
        f"<@{world.moderator.id}> **mod mute** member id: <@{world.alice.id}>; minutes: 10",
    ]
    assert len((embed_of(await run(world, "mod audit", count=1)).description or "").splitlines()) == 1


async def test_long_audit_is_cut_to_what_a_message_holds(world: World) -> None:
    for number in range(50):
        await world.store.add_audit(world.guild.id, 1, "settings", {"system_prompt": [f"{number} " * 900, "new"]})
    embed = embed_of(await run(world, "mod audit", count=50))
    assert len(embed.description or "") <= 4096
    assert "the others don't fit" in str(embed.footer.text)


# ---------------------------------------------------------------------- the lock


async def test_lock_silences_the_server_and_freezes_learning_until_unlock(world: World) -> None:
    await run(world, "encore channels add", channel=world.channel("general"))
    assert await told(world, "lock") == LOCKED
    await unanswered(world, world.alice)
    assert await world.store.learning_frozen()
    assert "Locked: I answer and post nothing" in str(embed_of(await run(world, "encore status")).description)
    await world.restart()
    await unanswered(world, world.alice)
    assert await told(world, "encore resume") == "This server is locked; /unlock lets me answer again."
    await unanswered(world, world.alice)
    assert await told(world, "unlock") == "Unlocked: I answer and post here again. I learn at night again."
    assert not await world.store.learning_frozen()
    await world.ask(world.alice, "general", "and now?")
    await world.answered_in("general", 1)
    assert await told(world, "unlock") == "This server isn't locked."
    settings = [detail for _, action, detail in await audit(world) if action == "settings"]
    assert settings == [
        {"paused": [True, False], "locked": [True, False]},
        {"paused": [False, True], "locked": [False, True]},
    ]


async def test_freeze_that_was_there_before_stays_after_unlock(world: World) -> None:
    await world.store.freeze_learning(True, world.moderator.id)
    await run(world, "lock")
    assert "/training unfreeze" in await told(world, "unlock")
    assert await world.store.learning_frozen()


async def test_learning_waits_for_the_last_server_to_unlock(world: World) -> None:
    await run(world, "lock")
    await world.bot.cases.lock(world.guild.id + 1, 1)
    await run(world, "unlock")
    assert await world.store.learning_frozen()
    await world.bot.cases.unlock(world.guild.id + 1, 1)
    assert not await world.store.learning_frozen()


async def test_reports_still_reach_the_moderators_while_locked(world: World) -> None:
    await choose_mod_room(world)
    reply = await a_reply(world)
    await run(world, "lock")
    await run(world, "report", by=world.bob, message=str(reply.id), reason="rude")
    (shown,) = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds])
    assert "Reports: 1" in fields(shown)


async def test_rating_room_posts_nothing_while_locked(world: World) -> None:
    await Rooms(world.store).start(world.guild.id, world.channel("general").id, 4, world.moderator.id)
    await world.store.add_prompts([("Tell me of the sea.", "en")])
    assert len(await Rooms(world.store).due()) == 1
    await run(world, "lock")
    assert await Rooms(world.store).due() == []


async def test_reply_under_way_is_stopped_by_the_lock(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.05) as world:
        await world.ask(world.alice, "general", "tell me a long story " * 30)
        await world.eventually(lambda: world.replies("general"))
        await run(world, "lock")
        (reply,) = await world.answered_in("general", 1)
        assert str(reply.content).endswith("-# Stopped.")


async def test_reply_under_way_is_stopped_when_its_asker_is_muted(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.1) as world:
        for member in (world.alice, world.bob):
            await world.ask(member, "general", "tell me a story")
        await world.eventually(lambda: len(world.replies("general")) == 2)
        await run(world, "mod mute", member=world.alice)
        shown = await world.answered_in("general", 2)
        stopped = {(await world.reply_shown_by(reply)).ask.member_id: "Stopped." in reply.content for reply in shown}
        assert stopped == {world.alice.id: True, world.bob.id: False}


async def test_reply_that_waits_posts_nothing_once_locked(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.5) as world:
        await world.ask(world.alice, "general", "hello")
        await world.eventually(lambda: world.responder.running)
        await run(world, "lock")
        await world.eventually(lambda: not world.responder.running)
        assert world.replies("general") == []


async def test_reply_that_is_claimed_while_the_lock_comes_posts_nothing(world: World, monkeypatch: Any) -> None:
    claim = world.store.claim_reply

    async def locked_meanwhile(ask: Any) -> int | None:
        claimed = await claim(ask)
        await world.bot.cases.lock(world.guild.id, world.moderator.id)
        return claimed

    monkeypatch.setattr(world.store, "claim_reply", locked_meanwhile)
    await unanswered(world, world.alice)
    await world.eventually(lambda: not world.responder.running)
