"""Gold labels, by command and by a message's menu."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.collect import collect
from bot.feedback_ui import OPTED_OUT
from bot.records import Provenance
from cogs.raters import MENU
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply
from tests.cogs.commands import assert_hidden, assert_refused, audit, run, show_to_members
from tests.cogs.rating import a_reply, said
from tests.world import World, live_world

MESSAGE_MENU = 3  # Discord's type of a message command


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        yield world


async def gold(world: World, message: Any) -> bool | None:
    """Return the gold label of the reply that a message shows."""
    known = await world.store.gold((await world.reply_shown_by(message)).id)
    return known.good if known else None


async def label(world: World, message: Any, label: str, *, by: Any = None) -> str:
    """Label a reply with the command and return what the moderator is told."""
    return str((await run(world, "raters gold", by=by, message=str(message), label=label)).content)


def link(world: World, message: Any, *, guild: Any = None, host: str = "discord.com") -> str:
    return f"https://{host}/channels/{guild or world.guild.id}/{message.channel_id}/{message.id}"


# ---------------------------------------------------------------------- who may


async def test_menu_is_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, MENU, kind=MESSAGE_MENU)


async def test_member_who_was_shown_the_command_is_refused(world: World) -> None:
    reply = await a_reply(world)
    show_to_members(world, "raters")
    await assert_refused(
        world, await world.slash(world.alice, "general", "raters gold", message=str(reply.id), label="good")
    )
    assert await gold(world, reply) is None


async def test_member_who_was_shown_the_menu_is_refused(world: World) -> None:
    reply = await a_reply(world)
    show_to_members(world, MENU, kind=MESSAGE_MENU)
    await assert_refused(world, await world.context_menu(world.alice, MENU, reply))


async def test_who_is_no_moderator_any_more_cannot_send_the_form(world: World) -> None:
    reply = await a_reply(world)
    shown = await world.answered(await world.context_menu(world.moderator, MENU, reply))
    world.backend.remove_member_role(world.guild.id, world.moderator.id, world.guild.roles["Moderator"].id)
    sent = await world.submit_modal(world.moderator, shown, {"label": ["good"]})
    assert await said(world, sent) == "Only members who may manage this server can use this command."
    assert await gold(world, reply) is None


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(("value", "good"), [("good", True), ("bad", False)])
async def test_label_is_kept_told_and_audited(world: World, value: str, good: bool) -> None:
    reply = await a_reply(world)
    told = await label(world, reply.id, value)
    assert told == f"This reply is now known to be {value}; votes that say otherwise lose weight at night."
    assert await gold(world, reply) is good
    stored = await world.reply_shown_by(reply)
    detail = {"reply_id": stored.id, "message_id": reply.id, "label": value}
    assert await audit(world) == [(world.moderator.id, "raters gold", detail)]


async def test_label_of_a_moderator_who_opted_out_is_not_kept_and_said_so(world: World) -> None:
    reply = await a_reply(world)
    await world.store.opt_out(world.moderator.id, True)
    assert await label(world, reply.id, "good") == OPTED_OUT
    assert await audit(world) == []


async def test_label_can_be_changed_and_taken_back(world: World) -> None:
    reply = await a_reply(world)
    await label(world, reply.id, "good")
    await label(world, reply.id, "bad")
    assert await gold(world, reply) is False
    assert await label(world, reply.id, "none") == "This reply has no gold label any more."
    assert await gold(world, reply) is None
    assert [detail["label"] for _, _, detail in await audit(world)] == ["none", "bad", "good"]


async def test_label_that_changes_nothing_is_said_and_not_audited(world: World) -> None:
    reply = await a_reply(world)
    assert await label(world, reply.id, "none") == "This reply has no gold label."
    await label(world, reply.id, "good")
    assert await label(world, reply.id, "good") == "This reply is known to be good already."
    assert len(await audit(world)) == 1


@pytest.mark.parametrize("host", ["discord.com", "ptb.discord.com", "canary.discord.com", "discordapp.com"])
async def test_message_is_named_by_its_link(world: World, host: str) -> None:
    reply = await a_reply(world)
    await label(world, f" <{link(world, reply, host=host)}> ", "good")
    assert await gold(world, reply) is True


async def test_message_is_named_by_the_id_that_is_copied_with_shift_held(world: World) -> None:
    reply = await a_reply(world)
    await label(world, f"{reply.channel_id}-{reply.id}", "good")
    assert await gold(world, reply) is True


@pytest.mark.parametrize("given", ["that one", "12", "https://example.org/channels/1/2/3", "9" * 40])
async def test_what_is_no_message_is_refused(world: World, given: str) -> None:
    await a_reply(world)
    assert await label(world, given, "good") == (
        "That is no message; copy its link (right-click it, Copy Message Link) or its id."
    )


async def test_link_into_another_server_is_refused(world: World) -> None:
    reply = await a_reply(world)
    assert (await label(world, link(world, reply, guild=123456789012345678), "good")).startswith("That is no message")
    assert await gold(world, reply) is None


async def test_reply_of_another_server_is_not_known_here(world: World) -> None:
    """Its id is guessed, or known from there: labels of one server are its own moderators' to give."""
    owner = world.env.create_user("other-owner")
    other = world.env.create_guild("Elsewhere", owner=owner)
    there = other.create_text_channel("there")
    member = other.add_member(world.env.create_user("zed"))
    await world.ask(member, there, "hello")
    (reply,) = await world.eventually(lambda: world.finished(there))
    assert (await label(world, reply.id, "good")).startswith("This is no reply of mine that I know in this server")
    assert await gold(world, reply) is None


async def test_message_of_a_member_is_no_reply(world: World) -> None:
    message = await world.say(world.alice, "general", "I am no reply")
    assert (await label(world, message.id, "good")).startswith("This is no reply of mine")


async def test_labels_reach_what_nights_learn_from(world: World) -> None:
    reply = await a_reply(world)
    await label(world, reply.id, "bad")
    stored = await world.reply_shown_by(reply)
    assert stored.generation is not None
    assert stored.prompt is not None
    learnable = await world.store.learnable(
        {stored.ask.provenance},
        model_sha256=stored.generation.model_sha256,
        prompt_version=stored.prompt.prompt_version,
    )
    assert [(found.reply_id, found.gold) for found in learnable] == [(stored.id, False)]


# ---------------------------------------------------------------------- the menu


async def test_menu_opens_a_form_that_labels_the_message(world: World) -> None:
    reply = await a_reply(world)
    shown = await world.answered(await world.context_menu(world.moderator, MENU, reply))
    assert shown.modal["title"] == MENU
    assert "none: take the label back" not in str(shown.modal)
    sent = await world.submit_modal(world.moderator, shown, {"label": ["bad"]})
    assert (await said(world, sent)).startswith("This reply is now known to be bad")
    assert await gold(world, reply) is False


async def test_form_shows_the_label_that_is_there_and_takes_it_back(world: World) -> None:
    reply = await a_reply(world)
    await label(world, reply.id, "bad")
    shown = await world.answered(await world.context_menu(world.moderator, MENU, reply))
    options = shown.modal["components"][0]["component"]["options"]
    assert [(option["value"], bool(option.get("default"))) for option in options] == [
        ("good", False),
        ("bad", True),
        ("none", False),
    ]
    await said(world, await world.submit_modal(world.moderator, shown, {"label": ["none"]}))
    assert await gold(world, reply) is None


async def test_menu_on_a_message_that_is_no_reply_says_so(world: World) -> None:
    message = await world.say(world.alice, "general", "I am no reply")
    result = await world.answered(await world.context_menu(world.moderator, MENU, message))
    assert result.modal is None
    assert (await said(world, result)).startswith("This is no reply of mine")


# ---------------------------------------------------------------------- who has to agree


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[World]:
    """A server of Discord's: its members have to agree."""
    async with live_world(tmp_path, provenance=Provenance.DISCORD) as world:
        yield world


async def room_reply(world: World) -> tuple[int, int]:
    """Show a reply of a rating room; return its id and its message's."""
    reply_id = await ended_reply(world.store, provenance=Provenance.OPERATOR, guild_id=world.guild.id, author_id=0)
    message_id = 1_400_000_000_000_004_242
    await world.store.attach_message(reply_id, message_id, 0)
    return reply_id, message_id


async def labels_at_night(world: World) -> dict[int, bool]:
    found = await collect(world.store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION, now=0.0)
    return dict(found.snapshot.gold)


async def test_moderator_who_has_not_agreed_is_told_that_a_label_counts_once_they_do(server: World) -> None:
    reply_id, message_id = await room_reply(server)
    told = "it counts at night once you agree: /consent give."
    assert await label(server, message_id, "good") == f"This reply is now known to be good; {told}"
    assert await label(server, message_id, "good") == f"This reply is known to be good already; {told}"
    assert await labels_at_night(server) == {}
    await server.store.give_consent(server.moderator.id)
    assert await label(server, message_id, "good") == "This reply is known to be good already."
    assert await labels_at_night(server) == {reply_id: True}


async def test_label_of_a_moderator_who_agreed_replaces_the_same_of_one_who_did_not(server: World) -> None:
    reply_id, message_id = await room_reply(server)
    await server.store.label_gold(reply_id, True, server.alice.id)
    await server.store.give_consent(server.moderator.id)
    await label(server, message_id, "good")
    assert await labels_at_night(server) == {reply_id: True}


async def test_label_of_what_may_not_teach_says_so(server: World) -> None:
    reply = await a_reply(server)
    await server.store.give_consent(server.moderator.id)
    assert "doesn't count at night (/privacy says why)" in await label(server, reply.id, "good")
