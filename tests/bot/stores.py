"""What the tests of the store share: stores, a clock that tests move, asks, replies with their messages, and votes."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot import database
from bot.records import Ask, Generation, Outcome, PromptRecord, Provenance, ReactionEvent, ReactionKind, ReplyState
from bot.store import Store
from models.types import Sampling

_ids = itertools.count(10_000)


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, now: float = 1_780_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    """Make a folder off the disk where the system has a place for it: a test that opens stores by the hundred and cuts
    no power would wait for little else than fsyncs."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


@functools.cache
def _empty() -> bytes:
    """Return an empty database: a dozen fsyncs make one, for which no test need wait that isn't about that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encore.sqlite3"
        database._prepare(path, 0.0, 5.0).release()
        return path.read_bytes()


async def open_store(path: Path, **options: object) -> Store:
    """Open a store, with an empty database where there is none yet."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_empty())
    return await Store.open(path, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(folder: Path, **options: object) -> AsyncIterator[Store]:
    async with await open_store(folder / "encore.sqlite3", **options) as store:
        yield store


@asynccontextmanager
async def opened_anew(folder: Path, **options: object) -> AsyncIterator[Store]:
    """As `opened`, but the store makes its database by itself where there is none yet."""
    async with await Store.open(folder / "encore.sqlite3", **options) as store:  # type: ignore[arg-type]
        yield store


def new_ask(*, message_id: int | None = None, variant: int = 0, guild_id: int | None = 7, channel_id: int = 70) -> Ask:
    asked = next(_ids) if message_id is None else message_id
    return Ask(asked, channel_id, guild_id, 1, Provenance.DEMO, variant)


async def new_reply(store: Store, *message_ids: int, guild_id: int | None = 7, channel_id: int = 70) -> int:
    """Claim a reply shown by `message_ids`."""
    reply_id = await store.claim_reply(new_ask(guild_id=guild_id, channel_id=channel_id))
    assert reply_id is not None
    for part, message_id in enumerate(message_ids):
        await store.attach_message(reply_id, message_id, part)
    return reply_id


def add(message_id: int, member_id: int, emoji: str = "👍", value: float = 1.0) -> ReactionEvent:
    return ReactionEvent(ReactionKind.ADD, message_id, member_id, emoji, value)


async def values(store: Store, reply_id: int) -> dict[int, float]:
    """Return each member's vote on a reply."""
    return {vote.member_id: vote.value for vote in await store.votes(reply_id)}


PROMPT = PromptRecord((1, 2, 2**32 - 1), 1, (11, 12), (1, 2), 3, "ab" * 32)
GENERATION = Generation("smol", "cd" * 32, None, Sampling(temperature=0.5), 0)
OUTCOME = Outcome(ReplyState.DONE, "今天天气很好\x00👍", (5, 6), "end", 4, 1.5, 2.5, 99.0)
