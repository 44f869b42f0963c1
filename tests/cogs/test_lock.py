"""/lock and /unlock: a locked server gets no answer, no post and no lesson, whatever was under way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.case_ui import LOCKED
from bot.room import Rooms
from tests.cogs.commands import audit, embed_of, fields, run
from tests.cogs.moderating import told, unanswered
from tests.cogs.nights import FakeNightly, begin, choose_mod_room, night
from tests.cogs.rating import a_reply, said
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=FakeNightly(tmp_path)) as world:
        yield world


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


async def test_freeze_that_comes_during_a_lock_stays_after_unlock(world: World) -> None:
    await run(world, "lock")
    assert await world.store.freeze_learning(True, world.moderator.id), "as /training freeze does"
    assert not await world.store.freeze_learning(True, world.moderator.id)
    await run(world, "lock")
    assert "Learning stays frozen; /training unfreeze ends that" in await told(world, "unlock")
    assert await world.store.learning_frozen()


async def test_learning_waits_for_the_last_server_to_unlock(world: World) -> None:
    await run(world, "lock")
    await world.bot.cases.lock(world.guild.id + 1, 1)
    await run(world, "unlock")
    assert await world.store.learning_frozen()
    await world.bot.cases.unlock(world.guild.id + 1, 1)
    assert not await world.store.learning_frozen()


async def test_question_for_consent_is_not_posted_while_locked(world: World) -> None:
    await run(world, "lock")
    result = await world.answered(await world.slash(world.moderator, "general", "mod consent"))
    assert await said(world, result) == "This server is locked, so I post nothing here; /unlock lets me ask."
    assert world.replies("general") == []
    assert "mod consent" not in [action for _, action, _ in await audit(world)]


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


async def test_night_that_ends_while_the_server_is_locked_posts_no_card_there(world: World) -> None:
    await choose_mod_room(world)
    await begin(world, world.nightly)
    await world.eventually(lambda: world.replies("mod-room"))
    await run(world, "lock")
    world.nightly.end(night())
    await world.eventually(lambda: not world.nightly.is_running)
    await world.quiet()
    assert len(world.replies("mod-room")) == 1, "its progress, from before the lock"
    assert world.replies("general") == []


async def test_message_that_is_refused_while_the_lock_comes_is_not_told_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.bot.gate.read

    async def locked_meanwhile(content: str, policy: Any) -> Any:
        await world.bot.cases.lock(world.guild.id, world.moderator.id)
        return await read(content, policy)

    await world.store.change_server_settings(world.guild.id, world.moderator.id, filter_words=["darn"])
    monkeypatch.setattr(world.bot.gate, "read", locked_meanwhile)
    await unanswered(world, world.alice, "darn it")
