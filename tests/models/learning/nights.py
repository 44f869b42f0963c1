"""Snapshots for the tests of a night: small, seeded, with everything that a real one has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from models.learning.examples import RaterFacts, Vote
from models.learning.snapshot import CollectedPair, CollectedReply, Snapshot
from models.prompt import PROMPT_VERSION

NOW = 1_790_000_000.0
HOUR = 3600.0


def reply(reply_id: int, **changes: object) -> CollectedReply:
    made = CollectedReply(
        reply_id=reply_id,
        conversation_id=f"conversation {reply_id}",
        created_at=NOW - 1000 * HOUR + reply_id * HOUR,
        author_id=None,
        prompt_token_ids=(1, 10, 2, 1, 11),
        completion_token_ids=(20, 21, 22),
        prompt_version=PROMPT_VERSION,
        provenance="operator",
        completion_text="fine",
        adapter=None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def votes_on(
    replies: Sequence[CollectedReply], good: Sequence[bool], *, raters: int, each: int, seed: int
) -> list[Vote]:
    """Let `each` of the raters vote on each reply a minute apart, wrong one time in eight."""
    draw = random.Random(seed)
    return [
        Vote(
            reply_id=one.reply_id,
            rater_id=rater,
            value=1.0 if is_good == (draw.random() > 0.125) else -1.0,
            rated_at=one.created_at + 60.0 * (place + 1),
        )
        for one, is_good in zip(replies, good, strict=True)
        for place, rater in enumerate(draw.sample(range(1, raters + 1), each))
    ]


def small_snapshot() -> Snapshot:
    """Four replies, a pair, a label, a trusted rater."""
    replies = tuple(reply(reply_id) for reply_id in (1, 2, 3, 4))
    return Snapshot(
        replies=replies,
        votes=tuple(votes_on(replies, (True, False, True, False), raters=5, each=3, seed=1)),
        facts={1: RaterFacts(1, trusted=True), 2: RaterFacts(2, account_age_days=3.5)},
        gold={4: False},
        pairs=(CollectedPair(3, 4, 0.5, "click", NOW - 1.0),),
    )
