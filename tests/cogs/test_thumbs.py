"""The thumbs below a reply, and what their presser is told."""

from __future__ import annotations

from typing import Any

import pytest

from bot import ui
from bot.errors import StoreBusy
from bot.feedback_ui import OPTED_OUT, UNKNOWN_REPLY
from bot.streaming import Controls
from tests.cogs.rating import a_reply, press, said, votes, votes_become
from tests.world import World


async def test_thumb_up_counts_and_says_so_to_the_presser_alone(world: World) -> None:
    reply = await a_reply(world)
    result = await press(world, world.bob, reply, "up")
    assert await said(world, result) == "Counted as 👍; press it again to take it back."
    assert await votes(world, reply) == {world.bob.id: ("button", 1.0)}


async def test_same_thumb_again_retracts_the_vote(world: World) -> None:
    reply = await a_reply(world)
    await said(world, await press(world, world.bob, reply, "up"))
    assert await said(world, await press(world, world.bob, reply, "up")) == "Your 👍 is taken back."
    assert await votes(world, reply) == {}


async def test_thumb_taken_back_leaves_an_earlier_reaction(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.bob, reply, "👎")
    assert await votes(world, reply) == {world.bob.id: ("reaction:👎", -1.0)}
    await said(world, await press(world, world.bob, reply, "up"))
    told = await said(world, await press(world, world.bob, reply, "up"))
    assert told == "Your 👍 is taken back; your earlier 👎 counts again."
    assert await votes(world, reply) == {world.bob.id: ("reaction:👎", -1.0)}


async def test_other_thumb_changes_the_vote(world: World) -> None:
    reply = await a_reply(world)
    await said(world, await press(world, world.bob, reply, "up"))
    await press(world, world.bob, reply, "down")
    await votes_become(world, reply, {world.bob.id: ("button", -1.0)})


async def test_thumbs_of_two_members_are_two_votes(world: World) -> None:
    reply = await a_reply(world)
    await said(world, await press(world, world.alice, reply, "up"))
    await said(world, await press(world, world.bob, reply, "up"))
    assert await votes(world, reply) == {world.alice.id: ("button", 1.0), world.bob.id: ("button", 1.0)}


async def test_thumbs_work_after_a_restart(world: World) -> None:
    reply = await a_reply(world)
    await world.restart()
    assert "Counted" in await said(world, await press(world, world.bob, reply, "up"))
    assert await votes(world, reply) == {world.bob.id: ("button", 1.0)}


async def test_thumb_of_a_reply_that_the_store_lost_says_so(world: World) -> None:
    for action in ("up", "down"):
        view: Any = ui.reply_view(987654, Controls.FINISHED)
        channel = world.bot.get_partial_messageable(world.stage.id, guild_id=world.guild.id)
        await channel.send("from another database", view=view)
        assert await said(world, await press(world, world.bob, world.replies("stage")[-1], action)) == UNKNOWN_REPLY


@pytest.mark.parametrize("action", ["up", "down", "better"])
async def test_button_below_another_message_than_the_reply_it_names_says_so(world: World, action: str) -> None:
    first, second = [await world.reply_shown_by(await a_reply(world, text)) for text in ("one", "two")]
    view: Any = ui.reply_view(second.id, Controls.FINISHED, compare_with=first.id)
    channel = world.bot.get_partial_messageable(world.stage.id, guild_id=world.guild.id)
    await channel.send("what had this id before the backup was restored", view=view)
    assert await said(world, await press(world, world.bob, world.replies("stage")[-1], action)) == UNKNOWN_REPLY
    assert await world.store.votes(second.id) == []
    assert await world.store.preferences(first.id, second.id) == {}


@pytest.mark.parametrize("thumb", ["up", "down"])
async def test_thumb_of_who_opted_out_is_not_said_to_count(world: World, thumb: str) -> None:
    reply = await a_reply(world)
    await world.store.opt_out(world.bob.id, True)
    pressed = await press(world, world.bob, reply, thumb)
    assert pressed.modal is None
    assert await said(world, pressed) == OPTED_OUT
    assert await votes(world, reply) == {}


async def test_who_opted_out_can_take_back_a_thumb_from_before(world: World) -> None:
    reply = await a_reply(world)
    await said(world, await press(world, world.bob, reply, "up"))
    await world.store.opt_out(world.bob.id, True)
    assert await said(world, await press(world, world.bob, reply, "up")) == "Your 👍 is taken back."
    assert await votes(world, reply) == {}


async def test_failure_is_told_in_one_sentence_with_a_reference(world: World, monkeypatch: Any) -> None:
    reply = await a_reply(world)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.store, "cast_vote", broken)
    assert "reference" in await said(world, await press(world, world.bob, reply, "up"))


@pytest.mark.parametrize(("action", "form"), [("up", None), ("down", None), ("down", {"comment": "dull"})])
async def test_vote_is_written_before_its_rater_is_noted_and_a_failure_told_at_once(
    world: World, monkeypatch: Any, caplog: pytest.LogCaptureFixture, action: str, form: dict[str, str] | None
) -> None:
    reply = await a_reply(world)
    written: list[str] = []
    cast, note = world.store.cast_vote, world.store.note_rater

    async def locked(*_: Any) -> bool:
        written.append("vote")
        raise StoreBusy("encore.db is locked by another process")

    async def noted(*args: Any, **options: Any) -> None:
        written.append("rater")
        await note(*args, **options)

    monkeypatch.setattr(world.store, "cast_vote", locked)
    monkeypatch.setattr(world.store, "note_rater", noted)
    pressed = await press(world, world.bob, reply, action)
    if form is not None:
        assert "I am noting your 👎." in str(pressed.modal), "the form opens before the vote is written"
        pressed = await world.submit_modal(world.bob, pressed, form)
    assert (await said(world, pressed)).startswith("I can't write to my memory right now; please try again")
    assert set(written) == {"vote"}
    failures = [record for record in caplog.records if "reference" in record.getMessage()]
    assert {(record.exc_info, "is locked" in record.getMessage()) for record in failures} == {(None, True)}

    async def works(*args: Any) -> bool:
        written.append("vote")
        return await cast(*args)

    written.clear()
    monkeypatch.setattr(world.store, "cast_vote", works)
    await press(world, world.bob, reply, action)
    await world.eventually(lambda: len(written) == 2)
    assert written == ["vote", "rater"]
