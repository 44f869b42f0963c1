"""The rating room: its commands, what it posts and when, that it never floods, and that no member's text is in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest

from bot import room as rooms
from bot.collect import ELIGIBLE, collect
from bot.learning_records import RatingRoom
from bot.records import Provenance, Reply, ReplyState
from bot.room import MOST_A_DAY, UNRATED_LIMIT, Rooms
from cogs.room import Room
from models.prompt import PROMPT_VERSION
from tests.cogs.commands import assert_hidden, assert_refused, audit, leaves, run, show_to_members, words
from tests.cogs.nights import Steps
from tests.cogs.rating import press
from tests.world import World, live_world

CLOCK = 60.0  # what the room's clock sleeps
DAY = 86_400.0
SECRET = "the wombat sleeps at noon"


class Clock:
    """Time as the store and the rooms see it: `ahead` seconds before everyone else's."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Turns:
    """A room whose clock ticks when the test says so."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.steps = Steps()

    async def install(self) -> None:
        bot = self.world.bot
        await bot.remove_cog("Room")
        bot.tree.remove_command("room")
        self.steps = Steps()
        await bot.add_cog(Room(bot, rooms=Rooms(self.world.store, clock=self.clock), sleep=self.steps))

    async def tick(self, *, ahead: float = 0.0) -> None:
        """Let some time go by, and the room do what it does then."""
        self.clock.ahead += ahead
        await self.world.eventually(lambda: self.steps.waits(CLOCK))
        self.steps.let_go(CLOCK)
        await asyncio.sleep(0)
        await self.world.eventually(lambda: self.steps.waits(CLOCK))

    async def restart(self) -> None:
        await self.world.restart()
        await self.install()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(tmp_path: Path, clock: Clock) -> AsyncIterator[World]:
    async with live_world(tmp_path, clock=clock, provenance=Provenance.DISCORD) as world:
        yield world


@pytest.fixture
async def turns(world: World, clock: Clock) -> Turns:
    turns = Turns(world, clock)
    await turns.install()
    return turns


async def bring(world: World, *prompts: str) -> None:
    """Import prompts, as the operator does."""
    await world.store.add_prompts((text, "en") for text in prompts)


async def start(world: World, **options: Any) -> str:
    return str((await run(world, "room start", channel=world.stage, **options)).content)


async def schedule(world: World) -> str:
    return str((await run(world, "room schedule")).content)


def posted(world: World, where: Any = "stage") -> list[str]:
    """Return the prompts that stand in the room."""
    return [message.content for message in world.replies(where) if "For you to rate" in message.content]


async def reply_to(world: World, prompt: int = 0) -> Reply:
    """Return the stored reply to a prompt that stands in the room, by its place there."""
    messages = [message for message in world.replies("stage") if "For you to rate" not in message.content]
    return await world.reply_shown_by(messages[prompt])


async def the_room(world: World) -> RatingRoom | None:
    return await world.store.rating_room(world.guild.id)


# ---------------------------------------------------------------------- who may


COMMANDS = ("room start", "room stop", "room schedule")


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    assert set(leaves(world.backend.find_command("room", world.guild.id, type=1))) == set(COMMANDS)


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, "room")
    assert not any(name.startswith("room") for name in world.alice.available_commands(world.general))


async def test_descriptions_are_short_sentences_without_a_full_stop(world: World) -> None:
    for told in words(world.backend.find_command("room", world.guild.id, type=1)):
        assert 8 <= len(told) <= 100
        assert not told.endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str) -> None:
    show_to_members(world, "room")
    options = {"channel": world.stage} if command == "room start" else {}
    await assert_refused(world, await world.slash(world.alice, "general", command, **options))
    assert await the_room(world) is None


# ---------------------------------------------------------------------- commands


async def test_start_says_where_and_how_often_and_is_audited(world: World) -> None:
    await bring(world, "Tell me a story.")
    told = await start(world, prompts_per_day=6)
    assert told.startswith(
        f"{world.stage.mention} is the rating room now, with 6 prompts a day. The next one comes <t:"
    )
    assert await audit(world) == [(world.moderator.id, "room start", {"channel_id": world.stage.id, "per_day": 6})]


async def test_start_without_prompts_names_the_command_that_brings_some(world: World) -> None:
    assert await start(world) == (
        f"{world.stage.mention} is the rating room now, with 4 prompts a day. "
        "No prompts are left; bring some with `encore prompts import FILE`.\n"
        "Reactions teach me once their member agrees: /consent ask posts the question."
    )


async def test_start_in_a_channel_that_is_closed_to_me_is_refused(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    assert await start(world) == (
        f"In {world.stage.mention} I lack Send Messages; grant that first, then start it again."
    )
    assert await the_room(world) is None
    assert await audit(world) == []


async def test_start_elsewhere_moves_the_room(world: World) -> None:
    await start(world)
    await run(world, "room start", channel=world.general, prompts_per_day=1)
    room = await the_room(world)
    assert room is not None
    assert (room.channel_id, room.interval_seconds) == (world.general.id, DAY)
    assert "with a prompt a day" in await schedule(world)


async def test_stop_closes_the_room_and_is_audited(world: World, turns: Turns) -> None:
    await bring(world, "one")
    assert (await run(world, "room stop")).content.startswith("There is no rating room")
    await start(world)
    assert (await run(world, "room stop")).content == (
        "The rating room is closed; ratings of what stands there still count."
    )
    assert (await audit(world))[0] == (world.moderator.id, "room stop", {})
    await turns.tick()
    assert world.replies("stage") == []


async def test_schedule_tells_how_the_room_stands(world: World, turns: Turns) -> None:
    assert await schedule(world) == "There is no rating room in this server; begin one with /room start."
    await bring(world, "one", "two", "three")
    await start(world)
    await turns.tick()
    told = await schedule(world)
    assert f"The rating room is {world.stage.mention}, with 4 prompts a day. The next one comes <t:" in told
    assert f"2 of 3 prompts are left. Started by <@{world.moderator.id}>" in told
    assert told.endswith("Reactions teach me once their member agrees: /consent ask posts the question.")


async def test_schedule_tells_what_holds_the_room_back(world: World) -> None:
    await start(world)
    assert "No prompts are left" in await schedule(world)
    await bring(world, "one")
    await world.store.change_server_settings(world.guild.id, 1, paused=True)
    assert "I am paused in this server until /encore resume." in await schedule(world)
    await world.set_bot_permissions("stage", send_messages=False)
    assert f"In {world.stage.mention} I lack Send Messages, so I post nothing." in await schedule(world)


# ---------------------------------------------------------------------- what is posted


async def test_room_posts_a_prompt_and_answers_it_for_members_to_rate(world: World, turns: Turns) -> None:
    await bring(world, "What do @everyone's cats dream of?\nTell me.")
    await start(world)
    await turns.tick()
    prompt, answer = await world.answered_in("stage", 2)
    assert prompt.content.splitlines()[0] == (
        "-# For you to rate, 👍 or 👎 below my answer; it teaches me if you agreed: /consent give. "
        "The prompt is the operator's."
    )
    assert "cats dream of?\n> Tell me." in prompt.content
    assert "@everyone" not in prompt.content
    assert answer.reference["message_id"] == str(prompt.id)
    reply = await reply_to(world)
    assert reply.ask.provenance is Provenance.OPERATOR
    assert reply.ask.member_id == 0
    await world.react(world.alice, answer, "👍")
    await world.quiet(0.02)
    await world.bot.ratings.drain()
    assert [vote.member_id for vote in await world.store.votes(reply.id)] == [world.alice.id]


async def test_reaction_in_the_room_is_data_once_its_member_agreed(world: World, turns: Turns) -> None:
    await bring(world, "Tell me a story.")
    await start(world)
    await turns.tick()
    _, answer = await world.answered_in("stage", 2)
    await world.react(world.alice, answer, "👍")
    await world.quiet(0.02)
    await world.bot.ratings.drain()
    reply = await reply_to(world)
    assert reply.generation is not None
    model = {"model_sha256": reply.generation.model_sha256, "prompt_version": PROMPT_VERSION}

    async def data() -> tuple[int, int]:
        found = await collect(world.store, **model, now=time.time())
        return len(found.snapshot.votes), await world.store.waiting_for_consent(ELIGIBLE, **model)

    assert await data() == (0, 1)
    await world.store.give_consent(world.alice.id)
    assert await data() == (1, 0)
    await world.store.withdraw_consent(world.alice.id)
    assert await data() == (0, 0), "who refused isn't waited for"


async def test_each_prompt_is_asked_once_and_in_the_operators_order(world: World, turns: Turns) -> None:
    await bring(world, "first", "second")
    await start(world)
    for _ in range(4):
        await turns.tick(ahead=DAY)
    assert [content.rsplit(" ", 1)[-1] for content in posted(world)] == ["first", "second"]


async def test_members_words_never_come_into_the_rooms_prompt(world: World, turns: Turns) -> None:
    await world.store.add_free_channel(world.guild.id, world.stage.id, 1)
    await world.say(world.alice, "stage", f"I say that {SECRET}")
    await world.answered_in("stage", 1)
    await bring(world, "Tell me a story.")
    await start(world)
    await turns.tick()
    await world.answered_in("stage", 3)
    reply = await reply_to(world, 1)
    assert reply.ask.provenance is Provenance.OPERATOR
    assert reply.prompt is not None
    text = world.model.tokenizer.decode(reply.prompt.token_ids)
    assert "Tell me a story." in text
    assert SECRET not in text
    assert "Mei" not in text


async def test_what_a_moderator_typed_as_system_prompt_never_comes_into_the_rooms_prompt(
    world: World, turns: Turns
) -> None:
    await world.store.change_server_settings(world.guild.id, world.moderator.id, system_prompt=f"Say {SECRET}.")
    await bring(world, "Tell me a story.")
    await start(world)
    await turns.tick()
    await world.answered_in("stage", 2)
    reply = await reply_to(world)
    assert reply.prompt is not None
    text = world.model.tokenizer.decode(reply.prompt.token_ids)
    assert SECRET not in text
    assert world.bot.settings.system_prompt in text


@pytest.mark.parametrize("button", ["regenerate", "continue"])
async def test_members_words_never_come_into_another_version_of_a_reply(
    world: World, turns: Turns, button: str
) -> None:
    await bring(world, "Tell me a story.")
    await start(world)
    await turns.tick()
    prompt, answer = await world.answered_in("stage", 2)
    await world.say(world.alice, "stage", f"I say that {SECRET}", reply_to=prompt)
    await world.answered_in("stage", 3)  # a chat of Mei's
    await press(world, world.moderator, answer, button)
    await world.answered_in("stage", 4)
    again = await world.reply_shown_by(world.replies("stage")[-1])
    assert again.ask.provenance is Provenance.OPERATOR
    assert again.prompt is not None
    assert SECRET not in world.model.tokenizer.decode(again.prompt.token_ids)


async def test_what_a_member_asks_below_a_reply_of_the_room_is_a_chat_of_their_own(world: World, turns: Turns) -> None:
    await bring(world, "Tell me a story.")
    await start(world)
    await turns.tick()
    _, answer = await world.answered_in("stage", 2)
    await world.ask(world.alice, "stage", f"I say that {SECRET}", reply_to=answer)
    await world.answered_in("stage", 3)
    assert (await reply_to(world, 1)).ask.provenance is Provenance.DISCORD


# ---------------------------------------------------------------------- it never floods


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


# ---------------------------------------------------------------------- restarts and trouble


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


async def test_prompt_that_was_not_answered_before_a_kill_is_never_answered_with_members_words(
    world: World, turns: Turns
) -> None:
    await bring(world, "Tell me a story.")
    await start(world)
    room, (prompt,) = await the_room(world), await world.store.prompts(1)
    assert room is not None
    shown = await world.bot.get_channel(world.stage.id).send(rooms.shown(prompt))
    await world.say(world.alice, "stage", f"I say that {SECRET}")
    reply_id = await world.store.claim_reply(rooms.ask(prompt, room, shown.id))
    await turns.restart()

    async def marked() -> bool:
        reply = await world.store.reply(reply_id)
        return reply is not None and reply.state is ReplyState.INTERRUPTED

    await world.eventually(marked)
    assert len(world.replies("stage")) == 1


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
