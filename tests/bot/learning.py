"""What the tests of learning share: replies that are finished and may be learned from."""

from __future__ import annotations

import itertools
from dataclasses import replace

from bot.records import Ask, Outcome, Placement, PromptRecord, Provenance, ReplyState
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.stores import GENERATION, PROMPT

MODEL_SHA = GENERATION.model_sha256
_ids = itertools.count(500_000)


async def ended_reply(
    store: Store,
    *,
    provenance: Provenance = Provenance.DEMO,
    asked: int | None = None,
    variant: int = 0,
    guild_id: int | None = 7,
    author_id: int = 1,
    placement: Placement | None = None,
    prompt: PromptRecord = PROMPT,
    model_sha256: str = MODEL_SHA,
    finish_reason: str = "end",
    state: ReplyState = ReplyState.DONE,
    adapter: str | None = None,
) -> int:
    """Make a reply that came to its end, by default one that a night may learn from."""
    asked = next(_ids) if asked is None else asked
    reply_id = await store.claim_reply(Ask(asked, 70, guild_id, author_id, provenance, variant))
    assert reply_id is not None
    generation = replace(GENERATION, model_sha256=model_sha256, adapter=adapter)
    await store.start_reply(reply_id, replace(prompt, prompt_version=PROMPT_VERSION), generation, placement)
    await store.finish_reply(reply_id, Outcome(state, f"words {reply_id}", (5, reply_id), finish_reason))
    return reply_id


async def vote(store: Store, reply_id: int, member_id: int, value: float = 1.0) -> None:
    assert await store.cast_vote(reply_id, member_id, "button", value)
