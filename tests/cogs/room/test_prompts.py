"""What the rating room posts, and that no member's text is in it."""

from __future__ import annotations

import time

import pytest

from bot import room as rooms
from bot.collect import ELIGIBLE, collect
from bot.records import Provenance, ReplyState
from models.prompt import PROMPT_VERSION
from tests.cogs.rating import press
from tests.cogs.room.turns import DAY, Turns, bring, posted, reply_to, start, the_room
from tests.world import World

SECRET = "the wombat sleeps at noon"


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
