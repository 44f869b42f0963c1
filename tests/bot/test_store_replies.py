"""Replies, from the claim of a message to the end of the answer, and the messages that show them."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from bot import rows
from bot.records import Ask, Outcome, Provenance, ReplyState
from tests.bot.stores import GENERATION, OUTCOME, PROMPT, Clock, add, new_ask, new_reply, opened, values


async def test_message_is_claimed_once_for_each_variant(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        ask = new_ask(message_id=1)
        claims = await asyncio.gather(*(store.claim_reply(ask) for _ in range(8)))
        assert len([claim for claim in claims if claim is not None]) == 1
        assert await store.next_variant(1) == 1
        assert await store.next_variant(2) == 0
        assert await store.claim_reply(dataclasses.replace(ask, variant=1)) is not None
        assert await store.next_variant(1) == 2
    async with opened(tmp_path) as store:
        assert await store.claim_reply(ask) is None


async def test_claim_race_of_two_variants_has_one_winner(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        async def regenerate() -> int | None:
            return await store.claim_reply(new_ask(message_id=1, variant=await store.next_variant(1)))

        claims = await asyncio.gather(*(regenerate() for _ in range(4)))
        assert sum(claim is not None for claim in claims) == await store.next_variant(1)


async def test_reply_comes_back_as_it_was_written(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        first = await new_reply(store, guild_id=None)
        ask = Ask(2**62, 2**62 + 1, None, 2**62 + 2, Provenance.IMPORT, 3, continues_reply_id=first)
        reply_id = await store.claim_reply(ask)
        assert reply_id is not None
        waiting = await store.reply(reply_id)
        assert waiting is not None
        assert (waiting.ask, waiting.state, waiting.created_at) == (ask, ReplyState.WAITING, clock.now)
        assert (waiting.prompt, waiting.generation, waiting.outcome, waiting.message_ids) == (None, None, None, ())
        await store.start_reply(reply_id, PROMPT, GENERATION)
        await store.attach_message(reply_id, 91, 1)
        await store.attach_message(reply_id, 99, 0)
        streaming = await store.reply(reply_id)
        assert streaming is not None
        assert (streaming.state, streaming.message_ids) == (ReplyState.STREAMING, (99, 91))
        assert (streaming.prompt, streaming.generation) == (PROMPT, GENERATION)
        assert await store.finish_reply(reply_id, OUTCOME) is True
        done = await store.reply_of_message(91)
        assert done is not None
        assert (done.id, done.state, done.outcome) == (reply_id, ReplyState.DONE, OUTCOME)
        assert await store.reply(404) is None
        assert await store.reply_of_message(404) is None


async def test_token_ids_are_little_endian_uint32(tmp_path: Path) -> None:
    assert rows.pack_tokens((1, 2**32 - 1)) == b"\x01\x00\x00\x00\xff\xff\xff\xff"
    assert rows.unpack_tokens(b"\x01\x00\x00\x00\xff\xff\xff\xff") == (1, 2**32 - 1)
    assert rows.unpack_tokens(rows.pack_tokens(())) == ()


async def test_kept_completion_of_a_streaming_reply_does_not_end_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        assert await store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, "all of it"))
        assert [unfinished.id for unfinished in await store.unfinished_replies()] == [reply_id]
        assert await store.completions_of_messages([1]) == {1: "all of it"}
        assert await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "all of it"))
        assert await store.unfinished_replies() == []


async def test_end_of_a_reply_stays_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        assert await store.finish_reply(reply_id, Outcome(ReplyState.STOPPED, "half"))
        assert not await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "whole"))
        await store.attach_message(reply_id, 2, 1)
        reply = await store.reply(reply_id)
        assert reply is not None and reply.outcome is not None
        assert (reply.state, reply.outcome.completion) == (ReplyState.STOPPED, "half")
        assert not await store.finish_reply(404, OUTCOME)


async def test_unfinished_replies_survive_a_restart_with_their_messages(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        waiting = await new_reply(store)
        streaming = await new_reply(store, 5, 6)
        await store.finish_reply(await new_reply(store, 7), OUTCOME)
    async with opened(tmp_path) as store:
        unfinished = await store.unfinished_replies()
        assert [(reply.id, reply.message_ids) for reply in unfinished] == [(waiting, ()), (streaming, (5, 6))]


async def test_completions_are_found_by_every_message_that_shows_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.finish_reply(await new_reply(store, 1, 2), OUTCOME)
        await new_reply(store, 3)
        wanted = {1: OUTCOME.completion, 2: OUTCOME.completion}
        assert await store.completions_of_messages([*range(5000, 0, -1)]) == wanted
        assert await store.completions_of_messages([]) == {}


async def test_message_shows_the_reply_attached_first_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3)])
        second = await new_reply(store, 1, 2)
        reply = await store.reply_of_message(1)
        assert reply is not None and reply.id == first
        assert (await values(store, first), await values(store, second)) == ({3: 1.0}, {})


async def test_recent_messages_come_newest_first_and_limited(tmp_path: Path) -> None:
    clock = Clock(100.0)
    async with opened(tmp_path, clock=clock) as store:
        await new_reply(store, 1)
        clock.now = 200.0
        await new_reply(store, 2, 3, channel_id=71)
        clock.now = 300.0
        await new_reply(store, 4, guild_id=None, channel_id=72)
        assert await store.recent_reply_messages(200.0, 10) == [(72, 4, None), (71, 3, 7), (71, 2, 7)]
        assert await store.recent_reply_messages(0.0, 2) == [(72, 4, None), (71, 3, 7)]


async def test_lone_surrogate_in_a_completion_is_replaced_and_pairs_are_joined(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "a\ud800b \ud83d\udc4d 中"))
        assert await store.completions_of_messages([1]) == {1: "a\ufffdb 👍 中"}
