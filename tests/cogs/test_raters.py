"""Who rates: what is noted of them, whom moderators trust and ban."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.collect import collect
from bot.errors import StoreError
from bot.feedback_ui import RATE
from bot.moderation.limits import day_of
from bot.records import Provenance
from cogs.raters import Raters
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.cogs.commands import assert_hidden, assert_refused, audit, embed_of, leaves, run, show_to_members, words
from tests.cogs.privacy import delete_data
from tests.cogs.rating import a_reply, press
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        yield world


# ---------------------------------------------------------------------- who may


async def test_there_are_these_commands(world: World) -> None:
    assert list(leaves(world.backend.find_command("raters", world.guild.id, type=1))) == [
        "raters gold", "raters trust", "raters distrust", "raters explain", "raters ban", "raters unban", "raters list",
    ]  # fmt: skip


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, "raters")


async def test_descriptions_are_short_sentences_without_a_full_stop(world: World) -> None:
    for told in words(world.backend.find_command("raters", world.guild.id, type=1)):
        assert 8 <= len(told) <= 100
        assert not told.endswith(".")


# ---------------------------------------------------------------------- who rates


async def trusted(world: World) -> dict[int, bool | None]:
    return {rater.member_id: rater.trusted for rater in await world.store.raters()}


async def test_raters_are_noted_with_whether_they_moderate(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await press(world, world.moderator, reply, "up")

    async def both() -> dict[int, bool | None] | None:
        found = await trusted(world)
        return found if len(found) == 2 else None

    assert await world.eventually(both) == {world.alice.id: False, world.moderator.id: True}


async def test_rater_whose_facts_were_removed_is_noted_again_the_next_day(world: World, monkeypatch: Any) -> None:
    reply = await a_reply(world)

    async def noted() -> bool:
        return await trusted(world) == {world.moderator.id: True}

    await press(world, world.moderator, reply, "up")
    await world.eventually(noted)
    await delete_data(world.store, world.moderator)
    assert await trusted(world) == {}
    monkeypatch.setattr("cogs.raters.day_of", lambda now: day_of(now) + 1)
    await press(world, world.moderator, reply, "up")
    await world.eventually(noted)


async def test_moderator_who_only_reacts_is_trusted_too(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.moderator, reply, "👎")

    async def noted() -> bool:
        return await trusted(world) == {world.moderator.id: True}

    await world.eventually(noted)


@pytest.mark.parametrize("leaves_server", [False, True])
async def test_a_role_that_was_taken_unseen_is_noticed(world: World, leaves_server: bool) -> None:
    await press(world, world.moderator, await a_reply(world), "up")

    async def noted() -> bool:
        return await trusted(world) == {world.moderator.id: True}

    await world.eventually(noted)
    if leaves_server:
        world.backend.remove_member(world.guild.id, world.moderator.id)
    else:
        world.backend.remove_member_role(world.guild.id, world.moderator.id, world.guild.roles["Moderator"].id)
    raters = world.bot.get_cog("Raters")
    assert isinstance(raters, Raters)
    await raters.check_moderators()
    assert await trusted(world) == {world.moderator.id: False}


async def test_who_moderates_no_more_is_trusted_no_more(world: World) -> None:
    reply = await a_reply(world)
    await press(world, world.moderator, reply, "up")
    world.backend.remove_member_role(world.guild.id, world.moderator.id, world.guild.roles["Moderator"].id)
    await press(world, world.moderator, reply, "down")

    async def noted() -> bool:
        return await trusted(world) == {world.moderator.id: False}

    await world.eventually(noted)


async def test_reactions_on_members_messages_note_nobody(world: World) -> None:
    message = await world.say(world.alice, "general", "look at this")
    await world.react(world.bob, message, "👍")
    await world.quiet(0.05)
    assert await trusted(world) == {}


async def test_rater_that_could_not_be_noted_is_noted_with_the_next_vote(world: World, monkeypatch: Any) -> None:
    reply = await a_reply(world)
    note, failures = world.store.note_rater, [StoreError("the disk is full")]

    async def failing(*args: Any, **options: Any) -> None:
        if failures:
            raise failures.pop()
        await note(*args, **options)

    monkeypatch.setattr(world.store, "note_rater", failing)
    await world.react(world.alice, reply, "👍")
    await world.eventually(lambda: not failures)
    assert await trusted(world) == {}
    await world.react(world.alice, reply, "👎")

    async def noted() -> bool:
        return await trusted(world) == {world.alice.id: False}

    await world.eventually(noted)


async def test_who_rates_by_a_messages_menu_is_noted(world: World) -> None:
    reply = await a_reply(world)
    shown = await world.answered(await world.context_menu(world.bob, RATE, reply))
    await world.answered(await world.submit_modal(world.bob, shown, {"verdict": ["good"]}))

    async def noted() -> bool:
        return await trusted(world) == {world.bob.id: False}

    await world.eventually(noted)


async def test_moderator_who_reacted_while_the_bot_was_away_is_trusted(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.moderator, reply, "👎")
    await world.react(world.alice, reply, "👍")
    await world.quiet(0.05)
    await world.store._database.write("DELETE FROM raters")
    world.bot.get_cog("Raters")._noted.clear()
    world.bot.dispatch("ready")

    async def noted() -> bool:
        return await trusted(world) == {world.alice.id: False, world.moderator.id: True}

    await world.eventually(noted)


# ---------------------------------------------------------------------- bans


async def banned(world: World) -> set[int]:
    return {rater.member_id for rater in await world.store.raters() if rater.banned}


async def test_banned_rater_counts_for_nothing_until_unbanned(world: World) -> None:
    told = await run(world, "raters ban", member=world.bob)
    assert "count for nothing" in told.content and "/raters unban" in told.content
    assert await banned(world) == {world.bob.id}
    reply = await world.reply_shown_by(await a_reply(world))
    await world.store.cast_vote(reply.id, world.bob.id, "button", 1.0)
    facts = (await collect(world.store, model_sha256="", prompt_version=PROMPT_VERSION, now=0.0)).snapshot.facts
    assert facts[world.bob.id].banned
    assert "banned from voting already" in (await run(world, "raters ban", member=world.bob)).content
    assert "count again" in (await run(world, "raters unban", member=world.bob)).content
    assert await banned(world) == set()
    assert "isn't banned" in (await run(world, "raters unban", member=world.bob)).content
    assert sorted(entry[1:] for entry in await audit(world)) == [
        ("raters ban", {"member_id": world.bob.id}),
        ("raters unban", {"member_id": world.bob.id}),
    ]


async def test_member_cannot_ban_raters(world: World) -> None:
    show_to_members(world, "raters")
    await assert_refused(world, await world.slash(world.alice, "general", "raters ban", member=world.bob))
    assert await banned(world) == set()


async def test_who_is_banned_from_the_server_is_no_rater_there(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.bob, reply, "👍")
    world.backend.apply_ban(world.guild.id, world.bob.id, "spam")

    async def noted() -> bool:
        return await banned(world) == {world.bob.id}

    await world.eventually(noted)
    assert [entry[1] for entry in await audit(world)] == ["raters ban"]


async def test_list_shows_who_is_banned_and_trusted_and_how_much_they_rated(world: World) -> None:
    assert "Nobody has rated" in embed_of(await run(world, "raters list")).description
    first, second = await a_reply(world), await a_reply(world)
    for reply in (first, second):
        await world.react(world.alice, reply, "👍")
    await press(world, world.moderator, first, "up")
    await run(world, "raters ban", member=world.bob)
    await world.quiet(0.05)
    await world.bot.ratings.drain()
    assert embed_of(await run(world, "raters list")).description.splitlines() == [
        f"<@{world.bob.id}>: 0 votes, banned",
        f"<@{world.moderator.id}>: 1 vote, trusted as a moderator",
        f"<@{world.alice.id}>: 2 votes",
    ]


# ---------------------------------------------------------------------- trust


async def trusted_at_night(world: World) -> set[int]:
    """Return whose votes the next night would trust."""
    found = await collect(world.store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION, now=0.0)
    return {rater for rater, fact in found.snapshot.facts.items() if fact.trusted}


async def all_vote(world: World) -> None:
    """Have alice, bob and the moderator vote, the last noted as one."""
    reply_id = await ended_reply(world.store, guild_id=world.guild.id)
    for member in (world.alice, world.bob, world.moderator):
        await vote(world.store, reply_id, member.id)
        await world.store.note_rater(world.guild.id, member.id, trusted=member is world.moderator)


async def test_trusted_member_votes_as_a_moderator_does_until_distrusted(world: World) -> None:
    await all_vote(world)
    assert await trusted_at_night(world) == {world.moderator.id}
    told = (await run(world, "raters trust", member=world.bob)).content
    assert told == f"<@{world.bob.id}> is trusted, until /raters distrust."
    assert await trusted_at_night(world) == {world.moderator.id, world.bob.id}
    assert "is trusted already" in (await run(world, "raters trust", member=world.bob)).content
    assert "is no longer trusted" in (await run(world, "raters distrust", member=world.bob)).content
    assert await trusted_at_night(world) == {world.moderator.id}
    assert await audit(world) == [
        (world.moderator.id, "raters distrust", {"member_id": world.bob.id}),
        (world.moderator.id, "raters trust", {"member_id": world.bob.id}),
    ]


async def test_distrusted_moderator_votes_as_any_member_however_often_they_rate(world: World) -> None:
    await all_vote(world)
    await run(world, "raters distrust", member=world.moderator)
    await press(world, world.moderator, await a_reply(world), "up")
    await world.quiet(0.05)
    assert await trusted_at_night(world) == set()
    assert "is already not trusted" in (await run(world, "raters distrust", member=world.moderator)).content
    await run(world, "raters trust", member=world.moderator)
    assert await trusted_at_night(world) == {world.moderator.id}


async def test_trust_holds_in_its_own_server_alone(world: World) -> None:
    await all_vote(world)
    await run(world, "raters trust", member=world.bob)
    elsewhere = await ended_reply(world.store, guild_id=8)
    await vote(world.store, elsewhere, world.bob.id)
    assert await trusted_at_night(world) == {world.moderator.id}


async def test_trusting_who_is_banned_says_that_the_ban_goes_first(world: World) -> None:
    await run(world, "raters ban", member=world.bob)
    assert (
        "nothing of theirs counts before /raters unban" in (await run(world, "raters trust", member=world.bob)).content
    )
    assert f"<@{world.bob.id}>: 0 votes, banned" in embed_of(await run(world, "raters list")).description


async def test_who_wants_nothing_kept_is_not_trusted_and_comes_back_as_distrusted(world: World) -> None:
    await world.store.opt_out(world.bob.id, True)
    assert "I keep nothing of" in (await run(world, "raters trust", member=world.bob)).content
    assert await audit(world) == []
    await run(world, "raters distrust", member=world.bob)
    await world.store.opt_out(world.bob.id, False)
    await world.store.note_rater(world.guild.id, world.bob.id, trusted=True)
    rater = await world.store.rater(world.guild.id, world.bob.id)
    assert rater is not None and not rater.trusted


async def test_bots_and_members_requests_change_no_trust(world: World) -> None:
    robot = world.guild.add_member(world.env.create_user("robot", bot=True))
    for command in ("raters trust", "raters distrust"):
        assert (await run(world, command, member=robot)).content == "Bots' ratings never count."
    show_to_members(world, "raters")
    for command in ("raters trust", "raters distrust", "raters explain"):
        await assert_refused(world, await world.slash(world.alice, "general", command, member=world.alice))
    assert await world.store.raters() == []


async def test_list_shows_what_moderators_said_of_trust(world: World) -> None:
    await all_vote(world)
    await run(world, "raters trust", member=world.bob)
    await run(world, "raters distrust", member=world.moderator)
    assert embed_of(await run(world, "raters list")).description.splitlines() == [
        f"<@{world.bob.id}>: 1 vote, trusted by moderators",
        *sorted(
            [f"<@{world.alice.id}>: 1 vote", f"<@{world.moderator.id}>: 1 vote, distrusted: counts as any member"],
            key=lambda line: int(line[2:].split(">")[0]),
        ),
    ]


# ---------------------------------------------------------------------- who has to agree


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[World]:
    """A server of Discord's: its members have to agree."""
    async with live_world(tmp_path, provenance=Provenance.DISCORD) as world:
        yield world


async def test_list_calls_no_moderator_trusted_who_has_not_agreed(server: World) -> None:
    await server.store.note_rater(server.guild.id, server.moderator.id, trusted=True)
    listed = f"<@{server.moderator.id}>: 0 votes, "
    told = embed_of(await run(server, "raters list")).description
    assert told == listed + "a moderator who hasn't agreed: trusted after /consent give"
    await server.store.give_consent(server.moderator.id)
    assert embed_of(await run(server, "raters list")).description == listed + "trusted as a moderator"


async def test_trusting_who_has_not_agreed_says_so(server: World) -> None:
    told = (await run(server, "raters trust", member=server.bob)).content
    assert told.endswith("Their ratings teach me once they agree: /consent give.")
    listed = embed_of(await run(server, "raters list")).description
    assert listed.endswith("trusted by moderators, but who hasn't agreed: trusted after /consent give")
