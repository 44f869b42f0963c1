"""When a rating room waits: by its own answers alone, however much else the bot says."""

from __future__ import annotations

from pathlib import Path

from bot.records import Ask, Outcome, Provenance, ReplyState
from bot.room import NOBODY, UNRATED_LIMIT, Hold, Rooms
from tests.bot.learning import vote
from tests.bot.stores import GENERATION, PROMPT, Clock, opened

ROOM, CHANNEL = 7, 70


async def test_only_answers_of_the_room_since_its_start_make_it_wait(tmp_path: Path) -> None:
    clock, asked = Clock(), iter(range(1, 1000))
    async with opened(tmp_path, clock=clock) as store:
        rooms = Rooms(store, clock=clock)
        await store.add_prompts((f"prompt {number}", "") for number in range(20))

        async def answer(
            channel: int = CHANNEL, provenance: Provenance = Provenance.OPERATOR, state: ReplyState = ReplyState.DONE
        ) -> int:
            clock.now += 60.0
            reply_id = await store.claim_reply(Ask(next(asked), channel, ROOM, NOBODY, provenance))
            assert reply_id is not None
            await store.start_reply(reply_id, PROMPT, GENERATION, None)
            await store.finish_reply(reply_id, Outcome(state, "words", (5,), "end"))
            return reply_id

        async def hold() -> Hold | None:
            schedule = await rooms.schedule(ROOM)
            assert schedule is not None
            return schedule.hold

        await answer()
        clock.now += 1.0
        await rooms.start(ROOM, CHANNEL, 4, 1)
        unrated = [await answer() for _ in range(UNRATED_LIMIT - 1)]
        await answer(channel=CHANNEL + 1)
        await answer(provenance=Provenance.DISCORD)
        await answer(state=ReplyState.STOPPED)
        assert await hold() is None, f"{UNRATED_LIMIT} of the room's own, and whole, since it was started"
        await answer()
        for _ in range(3):
            await answer(channel=CHANNEL + 1, provenance=Provenance.DISCORD)
        assert await hold() is Hold.UNRATED
        await vote(store, unrated[0], 5)
        assert await hold() is None
