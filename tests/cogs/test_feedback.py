"""Reactions, thumbs and choices, from a member's hand to the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest
from simcord.backend.models import Reaction

from bot import ui
from bot.errors import StoreBusy
from bot.feedback_ui import NO_REPLY, RATE, UNKNOWN_REPLY
from bot.records import Correction, Preference, ReactionEvent, ReactionKind, ServerSettings
from bot.streaming import Controls
from cogs.feedback import Feedback
from tests.cogs.rating import a_reply, press, said, votes
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        yield world


# ---------------------------------------------------------------------- reactions


async def test_reaction_becomes_a_vote(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "🤮")
    assert await votes(world, reply) == {
        world.alice.id: ("reaction:👍", 1.0),
        world.bob.id: ("reaction:🤮", -1.0),
    }


async def test_removed_reaction_retracts_the_vote(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.unreact(world.alice, reply, "👍")
    assert await votes(world, reply) == {}


async def test_change_of_mind_counts_and_the_older_opinion_again_once_it_is_withdrawn(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.alice, reply, "👎")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👎", -1.0)}
    await world.unreact(world.alice, reply, "👎")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}


async def test_clearing_a_message_retracts_every_reaction(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "🔥")
    await world.clear_reactions(reply)
    assert await votes(world, reply) == {}


async def test_clearing_one_emoji_leaves_the_others(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👎")
    await world.react(world.bob, reply, "🔥")
    await world.clear_reactions(reply, "👎")
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_own_and_other_bots_reactions_are_ignored(world: World) -> None:
    reply = await a_reply(world)
    other_bot = world.guild.add_member(world.env.create_user("helper", bot=True))
    channel = world.bot.get_partial_messageable(world.general.id, guild_id=world.guild.id)
    await channel.get_partial_message(reply.id).add_reaction("👍")
    await world.react(other_bot, reply, "👍")
    assert await votes(world, reply) == {}


async def test_emoji_without_a_weight_says_nothing(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "🥦")
    assert await votes(world, reply) == {}


@pytest.mark.parametrize("emoji", ["❤", "❤️", "👍🏽", "👍🏿"])
async def test_text_form_and_skin_tone_are_the_same_opinion(world: World, emoji: str) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, emoji)
    assert await votes(world, reply) == {world.alice.id: (f"reaction:{emoji}", 1.0)}


async def test_emoji_of_the_server_counts_by_its_weight(world: World) -> None:
    reply = await a_reply(world)
    emoji = world.guild.create_emoji("encore")
    await world.store.change_server_settings(world.guild.id, world.moderator.id, emoji={f"encore:{emoji.id}": 2.0})
    await world.react(world.alice, reply, f"encore:{emoji.id}")
    await world.react(world.bob, reply, "👍")
    assert await votes(world, reply) == {world.alice.id: (f"reaction:encore:{emoji.id}", 2.0)}


async def test_super_reaction_is_the_same_vote(world: World) -> None:
    reply = await a_reply(world)
    payload = {
        "user_id": str(world.alice.id),
        "channel_id": str(world.general.id),
        "message_id": str(reply.id),
        "guild_id": str(world.guild.id),
        "emoji": {"id": None, "name": "🔥"},
    }
    for kind in ({"burst": True, "type": 1, "burst_colors": ["#ff0000"]}, {"burst": False, "type": 0}):
        world.backend.emit("MESSAGE_REACTION_ADD", payload | kind)
    assert await votes(world, reply) == {world.alice.id: ("reaction:🔥", 1.0)}


async def test_reaction_on_the_second_part_of_a_reply_counts_for_the_whole(world: World) -> None:
    await world.store.change_server_settings(world.guild.id, world.moderator.id, max_new_tokens=4096)
    await world.ask(world.alice, "general", "@here " * 320)  # each made harmless by one more character
    parts = await world.answered_in("general", 2)
    assert len(parts) == 2
    first, second = [await world.reply_shown_by(part) for part in parts]
    assert first.id == second.id
    await world.react(world.bob, parts[1], "👍")
    assert await votes(world, parts[0]) == {world.bob.id: ("reaction:👍", 1.0)}


async def test_reaction_to_a_direct_message_counts(world: World) -> None:
    await world.dm(world.alice, "hello")
    reply = (await world.answered_in(world.dm_channel(world.alice)))[-1]
    await world.react(world.alice, reply, "👍")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}


async def test_reaction_to_what_is_no_reply_changes_nothing(world: World) -> None:
    reply = await a_reply(world)
    chatter = await world.say(world.bob, "stage", "just talking")
    await world.react(world.alice, chatter, "👍")
    assert await votes(world, reply) == {}
    assert (await world.store.counts(world.guild.id)).votes_up == 0


async def test_old_message_from_before_a_restart_counts(world: World) -> None:
    reply = await a_reply(world)
    await world.restart()
    await world.react(world.bob, reply, "⭐")
    assert await votes(world, reply) == {world.bob.id: ("reaction:⭐", 1.0)}


def _event(kind: ReactionKind, emoji: str = "👍") -> Any:
    return SimpleNamespace(
        message_id=1, user_id=2, guild_id=3, member=None, emoji=SimpleNamespace(id=None, name=emoji), kind=kind
    )


class _Services:
    """A bot whose store is slow to tell a server's settings the first time."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.user = SimpleNamespace(id=99)
        self.store = self.ratings = self
        self.offered: list[ReactionEvent] = []
        self.known = asyncio.Event()
        self.failure = failure
        self.asked = 0

    async def server_settings(self, guild_id: int | None) -> ServerSettings:
        self.asked += 1
        if self.failure:
            raise self.failure
        if self.asked == 1:
            await self.known.wait()
        return ServerSettings()

    def offer(self, event: ReactionEvent) -> None:
        self.offered.append(event)


async def test_no_event_overtakes_one_whose_server_is_still_being_read() -> None:
    services: Any = _Services()
    cog = Feedback(services)
    first = asyncio.create_task(cog.on_raw_reaction_add(_event(ReactionKind.ADD)))
    await asyncio.sleep(0)
    second = asyncio.create_task(cog.on_raw_reaction_remove(_event(ReactionKind.REMOVE)))
    await asyncio.sleep(0)
    third = asyncio.create_task(cog.on_raw_reaction_add(_event(ReactionKind.ADD, "🔥")))
    await asyncio.sleep(0)
    services.known.set()
    await asyncio.gather(first, second, third)
    assert [(event.kind, event.emoji) for event in services.offered] == [
        (ReactionKind.ADD, "👍"),
        (ReactionKind.REMOVE, "👍"),
        (ReactionKind.ADD, "🔥"),
    ]


async def test_unreadable_settings_count_by_the_usual_weights() -> None:
    services: Any = _Services(StoreBusy("The database is locked; stop the other program."))
    await Feedback(services).on_raw_reaction_add(_event(ReactionKind.ADD, "👎"))
    assert services.offered == [ReactionEvent(ReactionKind.ADD, 1, 2, "👎", -1.0)]


# ---------------------------------------------------------------------- thumbs


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
    await world.eventually(lambda: _is(votes(world, reply), {world.bob.id: ("button", -1.0)}))


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


# ---------------------------------------------------------------------- the form behind 👎


async def test_thumb_down_counts_even_when_its_form_is_never_sent(world: World) -> None:
    reply = await a_reply(world)
    shown = await press(world, world.bob, reply, "down")
    assert shown.modal["title"] == "What was wrong?"
    await world.eventually(lambda: _is(votes(world, reply), {world.bob.id: ("button", -1.0)}))


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


# ---------------------------------------------------------------------- the same form from a message's menu


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


async def test_message_command_goes_with_the_cog(world: World) -> None:
    assert world.bot.tree.get_command(RATE, type=discord.AppCommandType.message) is not None
    await world.bot.remove_cog("Feedback")
    assert world.bot.tree.get_command(RATE, type=discord.AppCommandType.message) is None


async def test_reaction_down_posts_nothing(world: World) -> None:
    reply = await a_reply(world)
    before = len(world.messages("general"))
    await world.react(world.bob, reply, "👎")
    assert await votes(world, reply) == {world.bob.id: ("reaction:👎", -1.0)}
    await world.quiet()
    assert len(world.messages("general")) == before


# ---------------------------------------------------------------------- which is better


async def _pair(world: World) -> tuple[int, int, Any]:
    """Return two replies' ids and a message that asks which is better."""
    a = await world.reply_shown_by(await a_reply(world, "first"))
    b = await world.reply_shown_by(await a_reply(world, "second"))
    view: Any = ui.reply_view(b.id, Controls.FINISHED, compare_with=a.id)
    channel = world.bot.get_partial_messageable(world.stage.id, guild_id=world.guild.id)
    sent = await channel.send("which is better?", view=view)
    await world.store.attach_message(b.id, sent.id, 1)
    return a.id, b.id, world.replies("stage")[-1]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("a", "A, the one before, is better"),
        ("b", "B, this one, is better"),
        ("both", "both versions are good"),
        ("neither", "neither version is good"),
    ],
)
async def test_preference_is_kept_and_named(world: World, choice: str, told: str) -> None:
    a, b, question = await _pair(world)
    result = await world.answered(await world.click(world.bob, question, custom_id=f"encore:better:{a}:{b}:{choice}"))
    assert told in await said(world, result)
    assert await world.store.preferences(a, b) == {world.bob.id: Preference(choice)}


async def test_preference_can_be_changed_and_is_each_members_own(world: World) -> None:
    a, b, question = await _pair(world)
    for member, choice in ((world.bob, "a"), (world.alice, "b"), (world.bob, "neither")):
        await said(world, await world.click(member, question, custom_id=f"encore:better:{a}:{b}:{choice}"))
    assert await world.store.preferences(a, b) == {
        world.bob.id: Preference.NEITHER,
        world.alice.id: Preference.B,
    }


# ---------------------------------------------------------------------- while the bot was away


def _react_unseen(message: Any, emoji: str, *members: Any) -> None:
    """Change a message's reactions as while no bot listens: no event comes."""
    message.reactions[:] = [reaction for reaction in message.reactions if reaction.emoji != emoji]
    if members:
        message.reactions.append(Reaction(emoji=emoji, user_ids=[member.id for member in members]))


async def test_reactions_made_while_the_bot_was_away_are_found_at_the_start(world: World) -> None:
    reply, other = await a_reply(world, "one"), await a_reply(world, "two", "stage")
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "👎")
    await votes(world, reply)
    helper = world.guild.add_member(world.env.create_user("helper", bot=True))
    _react_unseen(reply, "👍")  # alice took hers back
    _react_unseen(reply, "🔥", world.alice, helper)
    _react_unseen(other, "❤️", world.bob)
    await world.restart()
    await world.eventually(
        lambda: _is(votes(world, reply), {world.alice.id: ("reaction:🔥", 1.0), world.bob.id: ("reaction:👎", -1.0)})
    )
    await world.eventually(lambda: _is(votes(world, other), {world.bob.id: ("reaction:❤️", 1.0)}))


async def test_reactions_dropped_in_a_flood_are_found_once_the_store_takes_events_again(world: World) -> None:
    reply = await a_reply(world)
    await votes(world, reply)
    _react_unseen(reply, "👍", world.alice)
    world.bot.ratings.on_gap()
    await world.eventually(lambda: _is(votes(world, reply), {world.alice.id: ("reaction:👍", 1.0)}))


async def test_votes_by_button_survive_the_comparison(world: World) -> None:
    reply, other = await a_reply(world, "one"), await a_reply(world, "two")
    await said(world, await press(world, world.bob, reply, "up"))
    _react_unseen(other, "👍", world.alice)
    await world.restart()
    await world.eventually(lambda: votes(world, other))
    assert await votes(world, reply) == {world.bob.id: ("button", 1.0)}


async def test_deleted_message_and_hidden_channel_are_skipped(world: World) -> None:
    gone, hidden, seen = await a_reply(world), await a_reply(world, "x", "stage"), await a_reply(world, "y")
    await world.react(world.alice, gone, "👍")
    await votes(world, gone)
    async with world.lock:
        world.backend.delete_message(world.general.id, gone.id)
    await world.set_bot_permissions("stage", view_channel=False)
    _react_unseen(hidden, "👍", world.bob)
    _react_unseen(seen, "👍", world.bob)
    await world.restart()
    await world.eventually(lambda: votes(world, seen))
    assert await votes(world, gone) == {world.alice.id: ("reaction:👍", 1.0)}
    assert await votes(world, hidden) == {}


async def test_direct_messages_are_compared_too(world: World) -> None:
    await world.dm(world.alice, "hello")
    reply = (await world.answered_in(world.dm_channel(world.alice)))[-1]
    _react_unseen(reply, "👍", world.alice)
    await world.restart()
    await world.eventually(lambda: _is(votes(world, reply), {world.alice.id: ("reaction:👍", 1.0)}))


async def test_discord_failing_for_one_message_spoils_no_other(world: World) -> None:
    broken, fine = await a_reply(world, "one"), await a_reply(world, "two")
    for reply in (broken, fine):
        _react_unseen(reply, "👍", world.alice)
    world.env.inject_error("GET", f"/channels/*/messages/{broken.id}/reactions/*", status=500, times=None)
    await world.restart()
    await world.eventually(lambda: votes(world, fine))
    assert await votes(world, broken) == {}


async def _replace_cog(world: World, **options: Any) -> Feedback:
    await world.bot.remove_cog("Feedback")
    cog = Feedback(world.bot, **options)
    await world.bot.add_cog(cog)
    return cog


@pytest.mark.parametrize("pause", range(1, 4))
async def test_reaction_that_changes_during_the_comparison_is_neither_lost_nor_undone(world: World, pause: int) -> None:
    reply = await a_reply(world)
    _react_unseen(reply, "👍", world.alice)
    pauses = 0
    done = asyncio.Event()

    async def change_mind_at_that_pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == pause:
            await world.unreact(world.alice, reply, "👍")
            await world.react(world.bob, reply, "🔥")
            await asyncio.sleep(0.05)
            done.set()

    await _replace_cog(world, sleep=change_mind_at_that_pause)
    world.bot.dispatch("ready")
    if pause == 3:  # the comparison ends before it: the next one starts with the second session
        await world.quiet()
        world.bot.dispatch("ready")
    await asyncio.wait_for(done.wait(), 5)
    await world.quiet()
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_reaction_that_is_stored_just_before_the_comparison_is_not_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = await a_reply(world)
    write = world.store.reconcile_reactions
    writes = 0

    async def outrun(*arguments: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 1:
            await world.react(world.bob, reply, "🔥")
            assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}
        await write(*arguments)

    monkeypatch.setattr(world.store, "reconcile_reactions", outrun)
    world.bot.dispatch("ready")
    await world.eventually(lambda: writes == 2)
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_message_that_never_rests_is_left_to_its_events(world: World) -> None:
    reply = await a_reply(world)
    pauses = 0

    async def always_busy(_: float) -> None:
        nonlocal pauses
        pauses += 1
        await world.unreact(world.alice, reply, "👍")
        await world.react(world.alice, reply, "👍")
        await asyncio.sleep(0.01)

    await _replace_cog(world, sleep=always_busy)
    world.bot.dispatch("ready")
    await world.eventually(lambda: pauses >= 10)
    await world.quiet()
    assert pauses < 15
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}


async def _is(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)
