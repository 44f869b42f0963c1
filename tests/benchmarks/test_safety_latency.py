"""That what benchmarks.safety calls the latency of moderation is all of it."""

from __future__ import annotations

import asyncio

from benchmarks.safety_latency import Exchange, measure
from models.safety import Scores

TALKS = [Exchange("How tall is the lighthouse?", "It is forty metres tall. " * 12)] * 2


class Slow:
    """A classifier that takes 20 ms and has nothing to say."""

    async def scores(self, text: str) -> Scores:
        await asyncio.sleep(0.02)
        return {}


async def test_all_reads_of_a_message_and_its_answer_count() -> None:
    times = await measure(TALKS, Slow())
    assert len(times.question) == len(times.finish) == len(times.added) == len(times.cpu) == 2
    assert len(times.edit) == 6  # every 80 of 300 characters
    assert min(times.question) >= 20  # the classifier reads it
    assert len(times.scores) >= 2 * (1 + 12)  # and each sentence
    assert sum(times.work) >= sum(times.scores) >= 2 * 13 * 20
    around = [question + finish for question, finish in zip(times.question, times.finish, strict=True)]
    edits = [max(times.edit[:3]), max(times.edit[3:])]
    assert times.added == [sum(pair) for pair in zip(around, edits, strict=True)]
