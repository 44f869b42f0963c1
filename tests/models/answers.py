"""Whole answers of llama.cpp on the tiny model, to be compared bit for bit."""

from __future__ import annotations

import asyncio

from models.engines.llama_cpp import LlamaCppEngine
from models.types import Piece, Request, Sampling

GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0, max_new_tokens=24)
LIVELY = Sampling(temperature=1.0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, max_new_tokens=24)
PROMPT = tuple(10 + (7 * number) % 200 for number in range(120))


async def generate(
    engine: LlamaCppEngine,
    adapter: str | None = None,
    ids: tuple[int, ...] = PROMPT,
    sampling: Sampling = GREEDY,
    *,
    scale: float = 1.0,
    begun: asyncio.Event | None = None,
) -> Piece:
    """Return the whole answer as one piece; sets `begun` when its first text has come."""
    request = Request(ids, sampling, 1, adapter=adapter, adapter_scale=scale)
    pieces = []
    async for piece in engine.stream(request, cancel=asyncio.Event()):
        pieces.append(piece)
        if begun is not None:
            begun.set()
    return Piece(
        "".join(piece.text for piece in pieces),
        tuple(token_id for piece in pieces for token_id in piece.token_ids),
        tuple(logprob for piece in pieces for logprob in piece.logprobs),
        pieces[-1].finish,
    )


def same(one: Piece, other: Piece) -> bool:
    """Bit for bit: the ids and the log-probabilities."""
    return (one.token_ids, one.logprobs, one.text) == (other.token_ids, other.logprobs, other.text)
