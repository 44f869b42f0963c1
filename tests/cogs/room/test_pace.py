"""When the rating room posts: one at a time, also after a restart, and not while nobody rates; it never floods."""

from __future__ import annotations

from bot.room import MOST_A_DAY, UNRATED_LIMIT
from tests.cogs.commands import run
from tests.cogs.room.turns import DAY, Turns, bring, posted, schedule, start
from tests.world import World


async def test_room_posts_one_at_a_time_and_not_before_its_next_turn(world: World, turns: Turns) -> None:
    await bring(world, *map(str, range(20)))
    await start(world, prompts_per_day=4)
    for _ in range(5):
        await turns.tick(ahead=60.0)
    assert len(posted(world)) == 1
    await turns.tick(ahead=6 * 3600.0)
    assert len(posted(world)) == 2


async def test_room_that_was_off_for_days_makes_up_for_nothing(world: World, turns: Turns) -> None:
    await bring(world, *map(str, range(20)))
    await start(world)
    await turns.tick()
    for _ in range(3):
        await turns.tick(ahead=0.0)
    await turns.tick(ahead=10 * DAY)
    await turns.tick()
    assert len(posted(world)) == 2


async def test_stopping_and_starting_again_brings_no_prompt_early(world: World, turns: Turns) -> None:
    await bring(world, *map(str, range(20)))
    for _ in range(4):
        await start(world, prompts_per_day=MOST_A_DAY)
        await turns.tick(ahead=60.0)
        await run(world, "room stop")
    assert len(posted(world)) == 1


async def test_no_more_than_the_most_a_day_can_be_asked_for(world: World) -> None:
    (command,) = [c.to_dict(world.bot.tree) for c in world.bot.tree.get_commands() if c.name == "room"]
    per_day = next(o for c in command["options"] for o in c.get("options", ()) if o["name"] == "prompts_per_day")
    assert (per_day["min_value"], per_day["max_value"]) == (1, MOST_A_DAY)


async def test_room_waits_once_nobody_rates_and_goes_on_when_someone_does(world: World, turns: Turns) -> None:
    await bring(world, *map(str, range(20)))
    await start(world)
    for _ in range(UNRATED_LIMIT + 3):
        await turns.tick(ahead=DAY)
    assert len(posted(world)) == UNRATED_LIMIT
    assert f"Nobody rated my last {UNRATED_LIMIT} replies" in await schedule(world)
    await world.react(world.alice, world.replies("stage")[-1], "👎")
    await world.quiet(0.02)
    await world.bot.ratings.drain()
    await turns.tick(ahead=DAY)
    assert len(posted(world)) == UNRATED_LIMIT + 1


async def test_starting_the_room_again_ends_its_wait_for_ratings(world: World, turns: Turns) -> None:
    await bring(world, *map(str, range(20)))
    await start(world)
    for _ in range(UNRATED_LIMIT + 1):
        await turns.tick(ahead=DAY)
    await start(world)
    await turns.tick(ahead=DAY)
    assert len(posted(world)) == UNRATED_LIMIT + 1


async def test_paused_server_is_left_alone(world: World, turns: Turns) -> None:
    await bring(world, "one")
    await start(world)
    await world.store.change_server_settings(world.guild.id, 1, paused=True)
    await turns.tick(ahead=DAY)
    assert world.replies("stage") == []
    await world.store.change_server_settings(world.guild.id, 1, paused=False)
    await turns.tick()
    assert len(posted(world)) == 1


async def test_schedule_survives_a_restart(world: World, turns: Turns) -> None:
    await bring(world, "one", "two", "three")
    await start(world)
    await turns.tick()
    before = await schedule(world)
    await turns.restart()
    assert await schedule(world) == before
    await turns.tick()
    assert len(posted(world)) == 1, "not due yet"
    await turns.tick(ahead=6 * 3600.0)
    assert len(posted(world)) == 2
