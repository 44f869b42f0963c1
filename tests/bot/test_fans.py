"""The simulated week: what fans say is answered by the bot and rated by taste, and only they and trolls differ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bot.fan_prompts import PROMPTS
from bot.fans import _PERSONAL, FANS, REPLY_TOKENS, VOTES_EACH, FanWeek, WeekProgress
from bot.records import Provenance, ReplyState
from tests.world import World, live_world


def _week(world: World, seed: int, replies: int) -> FanWeek:
    return FanWeek(world.store, world.responder, world.bot.ratings, world.guild.id, seed=seed, replies=replies)


async def test_week_leaves_replies_of_conversations_of_their_own_with_three_votes_each(tmp_path: Path) -> None:
    told: list[WeekProgress] = []
    async with live_world(tmp_path) as world:
        shown = len(world.messages("general"))
        last = await _week(world, 1, 40).run(told.append)
        counts = await world.store.counts(world.guild.id)
        rows = await world.store.learnable(
            frozenset({Provenance.DEMO}), model_sha256=world.model.engine.info.model_sha256, prompt_version=1
        )
        assert len(world.messages("general")) == shown, "the week belongs to nobody's channel"
    assert (last.replies, last.of, last.votes) == (40, 40, 120)
    assert (counts.replies, counts.rated_replies, counts.votes_up + counts.votes_down) == (40, 40, 120)
    assert len({row.conversation_id for row in rows}) == len(rows) == 40
    assert all(len(row.votes) == VOTES_EACH and len(row.completion_token_ids) <= REPLY_TOKENS + 1 for row in rows)
    assert [progress.replies for progress in told] == [*range(1, 41), 40]
    assert [progress.day for progress in told] == sorted(progress.day for progress in told)
    assert told[-1].day == 7


async def test_fans_like_a_character_that_speaks_for_itself_and_trolls_what_fans_do_not(tmp_path: Path) -> None:
    fans, trolls = Counter[bool](), Counter[bool]()
    by_id = {fan.member_id: fan for fan in FANS}
    async with live_world(tmp_path) as world:
        await _week(world, 2, 60).run(lambda _: None)
        rows = await world.store.learnable(
            frozenset({Provenance.DEMO}), model_sha256=world.model.engine.info.model_sha256, prompt_version=1
        )
    for row in rows:
        for vote in row.votes:
            agrees = (vote.value > 0) is bool(_PERSONAL.search(row.completion))
            (trolls if by_id[vote.member_id].is_troll else fans)[agrees] += 1
    assert fans[True] > 3 * fans[False], fans
    assert trolls[True] == 0, trolls
    assert trolls[False] > 0


async def test_second_week_is_another_one(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        lines: list[list[str]] = [[], []]
        for seed, said in enumerate(lines):
            await _week(world, seed, 8).run(lambda progress, said=said: said.append(progress.line))
        counts = await world.store.counts(world.guild.id)
    assert counts.replies == 16
    assert sorted(lines[0]) != sorted(lines[1])


async def test_reply_that_failed_is_not_rated(tmp_path: Path) -> None:
    async with live_world(tmp_path, context_tokens=64) as world:  # too little for any prompt
        last = await _week(world, 1, 5).run(lambda _: None)
        assert (last.replies, last.votes) == (0, 0)
        assert (await world.store.counts(world.guild.id)).votes_up == 0
        states = {reply.state for reply in await world.store.unfinished_replies()}
    assert states <= {ReplyState.FAILED}


async def test_every_prompt_is_said_once_before_any_is_said_again(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        said = [line for _, line in _week(world, 3, len(PROMPTS))._lines]
    assert sorted(said) == sorted(PROMPTS)
