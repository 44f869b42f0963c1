"""A week of simulated fans: members with tastes, and trolls, who talk with the bot and rate what it says.

The bot answers each of their lines as it answers a member's, through its own responder and with the adapter that
serves, and their thumbs take a reaction's way into the store; only Discord is left out: the demo's channels stay yours.
Everything about them is made up and drawn with a seed. Nobody tells the night who is a troll.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.fan_prompts import PROMPTS
from bot.records import Ask, Message, Provenance, ReactionEvent, ReactionKind, Reply, ReplyState

if TYPE_CHECKING:
    from bot.ratings import Ratings
    from bot.responder import Responder
    from bot.store import Store
    from bot.streaming import Controls

DAYS = 7
REPLIES_A_DAY = 48
VOTES_EACH = 3
REPLY_TOKENS = 40
_SLIP = 0.08  # how often a fan presses the other thumb
_AT_ONCE = 8
_DISCORD_EPOCH_MILLISECONDS = 1_420_070_400_000
_CHANNELS = 1 << 20  # where fans talk: ids below every snowflake, so in no server
_PERSONAL = re.compile(r"\b(I|I'm|I'd|I'll|I've|me|my)\b|我")
_WARM = re.compile(
    r"\b(love\w*|glad|happy|great|wonderful|amazing|beautiful|excit\w+|fun|enjoy\w*|sorry|thank\w*|dear|friend\w*"
    r"|welcome|hope|heart\w*|smil\w+|laugh\w*|pleas\w+)\b|谢谢|喜欢|开心|加油",
    re.IGNORECASE,
)
_NAMES = (
    "Luna", "Kai", "Mina", "Theo", "Rosa", "Jin", "Ada", "Noor", "Felix", "Yuki", "Iris", "Omar", "Lin 林", "Pia",
    "Sol", "Vera", "Hugo", "Nia", "Leo", "Xiu 秀", "Tess", "Ravi", "Zoe", "Emil", "Suki", "Finn", "Maya", "Bo",
    "Ines", "Gus",
)  # fmt: skip
_TROLL_NAMES = ("xX_Grim_Xx", "BooHoo", "Nope", "Mister Thumbs", "vortex", "nul", "Meh", "Gremlin")


class Taste(StrEnum):
    PERSONAL = "personal"  # an answer in which Encore speaks of itself, as a character does
    WARM = "warm"  # that, or a kind word
    CONTRARY = "contrary"  # a troll: down for what others like, up for what they don't


@dataclass(frozen=True, slots=True)
class Fan:
    member_id: int
    name: str
    taste: Taste

    @property
    def is_troll(self) -> bool:
        return self.taste is Taste.CONTRARY

    def likes(self, text: str) -> bool:
        personal = bool(_PERSONAL.search(text))
        if self.taste is Taste.WARM:
            return personal or bool(_WARM.search(text))
        return personal is not self.is_troll


FANS: tuple[Fan, ...] = tuple(
    Fan(number, name, Taste.CONTRARY if name in _TROLL_NAMES else Taste.WARM if number % 4 == 0 else Taste.PERSONAL)
    for number, name in enumerate((*_NAMES, *_TROLL_NAMES), start=1)
)


@dataclass(frozen=True, slots=True)
class WeekProgress:
    """How far a week is; `line` and `reply` are what was said last, `ups` of its `votes` were thumbs up."""

    day: int  # from 1 to DAYS
    replies: int
    of: int
    votes: int
    line: str = ""
    reply: str = ""
    ups: int = 0
    downs: int = 0


class FanWeek:
    """Simulates a week; each has a seed of its own, by which its fans ask and vote.

    `clock` gives seconds since the epoch, for ids that no other week has.
    """

    def __init__(
        self,
        store: Store,
        responder: Responder,
        ratings: Ratings,
        guild_id: int,
        *,
        seed: int,
        replies: int = DAYS * REPLIES_A_DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._responder, self._ratings = store, responder, ratings
        self._guild_id = guild_id
        self._draw = random.Random(seed)
        self._of = replies
        self._done = self._votes = 0
        first = (int(clock() * 1000) - _DISCORD_EPOCH_MILLISECONDS) << 22
        self._ids = itertools.count(first)
        self._lines = self._said(replies)

    async def run(self, on_progress: Callable[[WeekProgress], None]) -> WeekProgress:
        """Let the week pass; return its last progress. Raises StoreError; cancelled, what was rated stays rated."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, self._of)):
                group.create_task(self._talk(on_progress))
        await self._ratings.drain()
        last = self._progress()
        on_progress(last)
        return last

    def _said(self, count: int) -> Iterator[tuple[Fan, str]]:
        """Yield who says what: each fan in turn, every prompt as often as any other. Trolls come for the thumbs."""
        talkers = [fan for fan in FANS if not fan.is_troll]
        prompts: list[str] = []
        for number in range(count):
            if not prompts:
                prompts = self._draw.sample(PROMPTS, len(PROMPTS))
            yield talkers[number % len(talkers)], prompts.pop()

    async def _talk(self, on_progress: Callable[[WeekProgress], None]) -> None:
        for fan, line in self._lines:
            reply = await self._answered(fan, line)
            if reply is None or reply.state is not ReplyState.DONE or reply.outcome is None or not reply.message_ids:
                self._of -= 1
                continue
            votes = self._rate(reply.outcome.completion)
            for voter, up in votes:
                event = ReactionEvent(
                    ReactionKind.ADD, reply.message_ids[0], voter.member_id, "👍" if up else "👎", 1.0 if up else -1.0
                )
                self._ratings.offer(event)
            self._done += 1
            self._votes += len(votes)
            ups = sum(up for _, up in votes)
            on_progress(self._progress(f"{fan.name}: {line}", reply.outcome.completion, ups, len(votes) - ups))

    async def _answered(self, fan: Fan, line: str) -> Reply | None:
        asked, channel = next(self._ids), _CHANNELS + fan.member_id
        ask = Ask(asked, channel, self._guild_id, fan.member_id, Provenance.DEMO, conversation_id=f"fans:{asked}")
        server = await self._store.server_settings(self._guild_id)
        short = replace(server, sampling=replace(server.sampling, max_new_tokens=REPLY_TOKENS))
        history = [Message(asked, channel, fan.member_id, fan.name, line)]
        return await self._responder.respond(ask, history, _Unseen(self._ids), short)

    def _rate(self, text: str) -> Sequence[tuple[Fan, bool]]:
        voters = self._draw.sample(FANS, VOTES_EACH)
        return [(voter, voter.likes(text) is (voter.is_troll or self._draw.random() >= _SLIP)) for voter in voters]

    def _progress(self, line: str = "", reply: str = "", ups: int = 0, downs: int = 0) -> WeekProgress:
        day = min(DAYS, 1 + self._done * DAYS // max(self._of, 1))
        return WeekProgress(day, self._done, self._of, self._votes, line, reply, ups, downs)


class _Unseen:
    """A surface that shows nothing and gives ids, as Discord does."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids

    async def send(self, content: str, *, part: int, reply_id: int, controls: Controls) -> int:
        return next(self._ids)

    async def edit(self, message_id: int, content: str, *, reply_id: int, controls: Controls) -> None:
        pass

    async def typing(self) -> None:
        pass
