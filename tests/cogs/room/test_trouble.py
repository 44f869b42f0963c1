"""The rating room where Discord refuses what it posts, or its channel is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import discord
import pytest

from bot.room import Rooms
from tests.cogs.commands import audit, run
from tests.cogs.room.turns import DAY, Turns, bring, posted, start, the_room
from tests.world import World


async def test_closed_channel_uses_up_no_prompt(world: World, turns: Turns) -> None:
    await bring(world, "one")
    await start(world)
    await world.set_bot_permissions("stage", send_messages=False)
    await turns.tick(ahead=DAY)
    assert await world.store.count_prompts() == (1, 1)
    await world.set_bot_permissions("stage", send_messages=None)
    await turns.tick()
    assert len(posted(world)) == 1


@pytest.mark.parametrize(("status", "code"), [(403, 50013), (400, 50035)])
async def test_refused_post_is_not_tried_again_before_the_next_turn(
    world: World, turns: Turns, status: int, code: int
) -> None:
    await bring(world, "one", "two")
    await start(world)
    path = f"/channels/{world.stage.id}/messages"
    world.env.inject_error("POST", path, status=status, code=code)
    for _ in range(3):
        await turns.tick(ahead=60.0)
    tried = [request for request in world.env.http_requests if (request.method, request.path) == ("POST", path)]
    assert len(tried) == 1
    assert world.replies("stage") == []
    await turns.tick(ahead=DAY)
    assert len(posted(world)) == 1


async def test_post_into_a_channel_that_is_gone_ends_the_room(world: World, turns: Turns) -> None:
    await bring(world, "one")
    await start(world)
    world.env.inject_error("POST", f"/channels/{world.stage.id}/messages", status=404, code=10003)
    await turns.tick()
    assert await the_room(world) is None
    assert (await audit(world))[0] == (world.bot.user.id, "room stop", {})
    await turns.tick(ahead=DAY)
    assert world.replies("stage") == []


async def test_deleted_channel_ends_the_room(world: World) -> None:
    await start(world)
    await world.delete_channel("general")
    await world.quiet(0.02)
    assert await the_room(world) is not None
    await world.delete_channel("stage")

    async def gone() -> bool:
        return await the_room(world) is None

    await world.eventually(gone)


@pytest.mark.parametrize(("status", "code"), [(403, 50013), (404, 10003)])
async def test_answer_that_is_refused_leaves_the_clock_running(
    world: World, turns: Turns, status: int, code: int
) -> None:
    await bring(world, "one", "two")
    await start(world)
    http = world.bot.http
    request, refused = http.request, 0

    async def refuse_answers(route: Any, **options: Any) -> Any:
        nonlocal refused
        if posted(world) and route.method == "POST" and route.path.endswith("/messages"):
            refused += 1
            kind = discord.Forbidden if status == 403 else discord.NotFound
            response: Any = SimpleNamespace(status=status, reason="refused")
            raise kind(response, {"code": code, "message": "refused"})
        return await request(route, **options)

    http.request = refuse_answers
    await turns.tick()
    assert len(world.replies("stage")) == 1
    assert refused
    http.request = request
    await turns.tick(ahead=DAY)
    assert len(await world.answered_in("stage", 3)) == 3
    assert len(posted(world)) == 2


@pytest.mark.parametrize(("step", "left"), [("due", 1), ("take", 0)])
async def test_lock_that_comes_in_the_middle_of_a_turn_is_felt_at_once(
    world: World, turns: Turns, monkeypatch: Any, step: str, left: int
) -> None:
    await bring(world, "Tell me of the sea.")
    await start(world)
    original = getattr(Rooms, step)

    async def locked_meanwhile(*given: Any) -> Any:
        found = await original(*given)
        await world.bot.cases.lock(world.guild.id, world.moderator.id)
        return found

    monkeypatch.setattr(Rooms, step, locked_meanwhile)
    await turns.tick(ahead=DAY)
    assert world.replies("stage") == []
    assert await world.store.count_prompts() == (1, left)


@pytest.mark.parametrize(("said", "closed"), [("stop", "no room"), ("start", "elsewhere")])
async def test_room_that_is_stopped_or_moved_in_the_middle_of_a_turn_posts_nothing(
    world: World, turns: Turns, monkeypatch: Any, said: str, closed: str
) -> None:
    await bring(world, "Tell me of the sea.")
    await start(world)
    original = Rooms.due

    async def closed_meanwhile(*given: Any) -> Any:
        found = await original(*given)
        await run(world, f"room {said}", **({"channel": world.general} if said == "start" else {}))
        return found

    monkeypatch.setattr(Rooms, "due", closed_meanwhile)
    await turns.tick(ahead=DAY)
    assert world.replies("stage") == [], closed
    assert await world.store.count_prompts() == (1, 1)
