"""Moderators in control: /mod queue, mute, unmute, muted, purge, audit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.checks import NotModerator
from bot.records import CaseSource
from cogs.moderation import Moderation
from tests.cogs.commands import (
    assert_hidden,
    assert_refused,
    audit,
    embed_of,
    leaves,
    run,
    show_to_members,
    words,
)
from tests.cogs.moderating import told, unanswered
from tests.cogs.nights import FakeNightly
from tests.cogs.rating import a_reply, press, said
from tests.world import World, live_world

COMMANDS = ("mod", "lock", "unlock")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=FakeNightly(tmp_path)) as world:
        yield world


# ---------------------------------------------------------------------- who may


async def test_there_are_these_commands(world: World) -> None:
    assert list(leaves(world.backend.find_command("mod", world.guild.id, type=1))) == [
        "mod queue", "mod mute", "mod unmute", "mod muted", "mod purge", "mod consent", "mod audit",
        "mod filter add", "mod filter remove", "mod filter list", "mod filter test", "mod filter action",
        "mod filter age", "mod filter threshold", "mod quota show", "mod quota set",
    ]  # fmt: skip


async def test_mod_is_no_longer_than_discord_takes_a_command(world: World) -> None:
    shown = texts(world.backend.find_command("mod", world.guild.id, type=1))
    assert 1000 < sum(map(len, shown)) <= 8000


def texts(command: dict[str, Any]) -> Iterator[str]:
    """Yield what Discord counts of a command: names, descriptions and the values of choices."""
    yield from (command["name"], command.get("description", ""), str(command.get("value", "")))
    for part in (*command.get("options", ()), *command.get("choices", ())):
        yield from texts(part)


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
        ("mod mute", {"whom": True}),
        ("mod unmute", {"whom": True}),
        ("mod muted", {}),
        ("mod purge", {"count": 1}),
        ("mod consent", {}),
        ("mod audit", {}),
        ("lock", {}),
        ("unlock", {}),
    ],
)
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str, options: dict[str, Any]) -> None:
    show_to_members(world, command.split()[0])
    given = {**options, "whom": world.bob} if "whom" in options else options
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
    assert sum(len(embed) for embed in shown.embeds) <= 6000
    result = await world.answered(await world.click(world.moderator, shown, label="4: Mute member for me"))
    assert "don't answer this member" in await said(world, result)
    assert await world.store.is_muted(world.guild.id, world.bob.id)
    again = await world.answered(await world.click(world.moderator, shown, label="4: Dismiss"))
    assert (await said(world, again)).startswith("This case is closed already.")
    rest = await run(world, "mod queue")
    assert rest.content == "5 cases are open."
    assert [embed.title for embed in rest.embeds][-1] == "Case 1: A reply was reported"
    assert f"/{reply.id})" in str(rest.embeds[-1].to_dict())


async def test_queue_stands_however_long_members_reports_are(world: World) -> None:
    world.engine.says = "Nice words about stars. " * 30
    for number in range(5):
        reply = await a_reply(world, f"hello {number}")
        for member in (world.alice, world.bob, world.moderator):
            await run(world, "report", by=member, message=str(reply.id), reason="r" * 300)
    shown = await run(world, "mod queue")
    assert sum(len(embed) for embed in shown.embeds) <= 6000
    for embed in shown.embeds:
        assert (embed.description or "").startswith("> Nice words")
        (reports,) = (field.value for field in embed.fields if field.name == "Reports: 3")
        assert f"<@{world.alice.id}>: rrr" in str(reports)


async def test_queue_is_the_servers_own(world: World) -> None:
    await world.store.open_case(world.guild.id + 1, CaseSource.AUTOMOD, 1, None, world.bob.id, "elsewhere")
    assert await told(world, "mod queue") == "No case is open."


# ---------------------------------------------------------------------- mutes


async def test_muted_member_is_not_answered_until_unmuted(world: World) -> None:
    assert "until /mod unmute" in await told(world, "mod mute", whom=world.alice)
    await unanswered(world, world.alice)
    await world.ask(world.bob, "general", "and me?")
    await world.answered_in("general", 1)
    await world.restart()
    await unanswered(world, world.alice)
    assert "again" in await told(world, "mod unmute", whom=world.alice)
    assert "isn't muted" in await told(world, "mod unmute", whom=world.alice)
    await world.ask(world.alice, "general", "thanks")
    await world.answered_in("general", 2)
    assert [action for _, action, _ in await audit(world)] == ["mod unmute", "mod mute"]


async def test_unmute_says_who_stays_unanswered_and_why(world: World) -> None:
    world.store.ban(frozenset({world.alice.id}))
    for _ in range(2):
        assert "whoever runs me bans them everywhere" in await told(world, "mod unmute", whom=world.alice)
        await run(world, "mod mute", whom=world.alice)
    world.store.ban(frozenset())
    assert await told(world, "mod unmute", whom=world.alice) == f"I answer <@{world.alice.id}> again."
    role = with_role(world, world.bob)
    await run(world, "mod mute", whom=role)
    assert "they have a muted role" in await told(world, "mod unmute", whom=world.bob)
    assert await told(world, "mod unmute", whom=role) == f"I answer <@&{role.id}> again."


async def test_mute_lasts_as_long_as_it_was_given(world: World) -> None:
    assert "for an hour" in await told(world, "mod mute", whom=world.alice, minutes=60)
    assert "for 61 minutes" in await told(world, "mod mute", whom=world.alice, minutes=61)
    [(until,)] = await world.store._database.read("SELECT until FROM mutes")
    [entry, _] = await world.store.audit(world.guild.id, 10)
    assert until - entry.created_at == pytest.approx(3660, abs=5)


async def test_lengths_are_offered_to_moderators(world: World) -> None:
    offered = await world.autocomplete(world.moderator, "general", "mod mute", "minutes", "", whom=world.alice)
    assert [choice["value"] for choice in offered] == [10, 60, 1440, 10_080]
    offered = await world.autocomplete(world.moderator, "general", "mod mute", "minutes", "45", whom=world.alice)
    assert [choice["name"] for choice in offered] == ["45 minutes"]
    show_to_members(world, "mod")
    assert await world.autocomplete(world.alice, "general", "mod mute", "minutes", "", whom=world.bob) == []


async def test_muted_member_makes_no_other_version_with_a_button(world: World) -> None:
    reply = await a_reply(world)
    await run(world, "mod mute", whom=world.alice)
    result = await press(world, world.alice, reply, "regenerate")
    [answer] = await world.eventually(lambda: result.followups)
    assert answer.content.startswith("A moderator, or whoever runs me, has muted you") and answer.ephemeral
    assert len(world.replies("general")) == 1


def with_role(world: World, member: Any, name: str = "Loud") -> Any:
    """Give a member a new role and return it."""
    role = world.guild.create_role(name)
    world.backend.add_member_role(world.guild.id, member.id, role.id)
    return role


async def test_members_with_a_muted_role_are_not_answered_until_it_is_lifted(world: World) -> None:
    role = with_role(world, world.alice)
    assert await told(world, "mod mute", whom=role) == (
        f"I don't answer members with <@&{role.id}> here until /mod unmute."
    )
    await unanswered(world, world.alice)
    assert await world.store._database.read("SELECT 1 FROM replies") == []
    await world.ask(world.bob, "general", "and me?")
    await world.answered_in("general", 1)
    await world.restart()
    await unanswered(world, world.alice)
    assert await told(world, "mod unmute", whom=role) == f"I answer <@&{role.id}> again."
    assert "isn't muted" in await told(world, "mod unmute", whom=role)
    await world.ask(world.alice, "general", "thanks")
    await world.answered_in("general", 2)
    assert await audit(world) == [
        (world.moderator.id, "mod unmute", {"role_id": role.id}),
        (world.moderator.id, "mod mute", {"role_id": role.id, "minutes": None}),
    ]


async def test_who_loses_a_muted_role_is_answered(world: World) -> None:
    role = with_role(world, world.alice)
    await run(world, "mod mute", whom=role)
    world.backend.remove_member_role(world.guild.id, world.alice.id, role.id)
    await a_reply(world)


async def test_everybody_is_not_muted_as_a_role(world: World) -> None:
    everyone = world.guild.roles["@everyone"]
    assert "That is everybody" in await told(world, "mod mute", whom=everyone)
    await a_reply(world)


async def test_member_with_a_muted_role_presses_no_button(world: World) -> None:
    reply = await a_reply(world)
    await run(world, "mod mute", whom=with_role(world, world.alice))
    result = await press(world, world.alice, reply, "regenerate")
    [answer] = await world.eventually(lambda: result.followups)
    assert answer.content.startswith("A moderator, or whoever runs me, has muted you") and answer.ephemeral


async def test_muted_members_and_roles_are_listed_with_their_ends(world: World) -> None:
    assert embed_of(await run(world, "mod muted")).description == "Nobody is muted here."
    role = with_role(world, world.alice)
    await run(world, "mod mute", whom=role)
    await run(world, "mod mute", whom=world.bob, minutes=60)
    [(until,)] = await world.store._database.read("SELECT until FROM mutes")
    assert embed_of(await run(world, "mod muted")).description == (
        f"Members with <@&{role.id}>: until /mod unmute\n"
        f"<@{world.bob.id}>: until <t:{int(until)}:f> (<t:{int(until)}:R>)"
    )
    assert f"role id: <@&{role.id}>" in str(embed_of(await run(world, "mod audit")).description)


async def test_reply_under_way_is_stopped_when_its_asker_is_muted(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.1) as world:
        for member in (world.alice, world.bob):
            await world.ask(member, "general", "tell me a story")
        await world.eventually(lambda: len(world.replies("general")) == 2)
        await run(world, "mod mute", whom=world.alice)
        shown = await world.answered_in("general", 2)
        stopped = {(await world.reply_shown_by(reply)).ask.member_id: "Stopped." in reply.content for reply in shown}
        assert stopped == {world.alice.id: True, world.bob.id: False}


async def test_reply_under_way_is_stopped_when_a_role_of_its_asker_is_muted(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.1) as world:
        role = with_role(world, world.alice)
        for member in (world.alice, world.bob):
            await world.ask(member, "general", "tell me a story")
        await world.eventually(lambda: len(world.replies("general")) == 2)
        await run(world, "mod mute", whom=role)
        shown = await world.answered_in("general", 2)
        stopped = {(await world.reply_shown_by(reply)).ask.member_id: "Stopped." in reply.content for reply in shown}
        assert stopped == {world.alice.id: True, world.bob.id: False}


async def test_message_whose_history_is_read_while_its_author_is_muted_is_not_answered(
    world: World, monkeypatch: Any
) -> None:
    histories = world.bot.get_cog("Chat")._histories
    until = histories.until

    async def muted_meanwhile(message: Any) -> Any:
        await world.bot.cases.mute(world.guild.id, world.alice.id, world.moderator.id, None)
        return await until(message)

    monkeypatch.setattr(histories, "until", muted_meanwhile)
    await unanswered(world, world.alice)


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
    await run(world, "mod mute", whom=world.alice, minutes=10)
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
