"""Speed of the store: raw reaction events through discord.py's gateway code and the real cog, until each is committed.

    python -m benchmarks.store --json [--events 100000]

The whole bot runs in a live SimCord world on a database on disk, in a temporary folder. Each event is a gateway frame
as JSON text, given to `DiscordWebSocket.received_message`, the code that reads Discord's own socket: it is parsed and
dispatched, `cogs.feedback` weighs it, `bot.ratings` groups it, `bot.store` commits it. Members take reactions back
(3 in 10 events) and moderators clear messages (1 in 500). Latency is from handing the frame over to the return of the
transaction that holds it. There are two loads:

flood   as fast as the loop allows, yet at most `WINDOW` events uncommitted, as a socket's back-pressure would do;
        `--events` events in `ROUNDS` rounds; gives the throughput
paced   `PACED_PER_SECOND` events/s by the clock, an event handed over late being late (open loop); gives the latency
        that members would see under that load

store_events_per_second  flood: events committed per second, median of the rounds; a round in which any event took
                         longer than 50 ms counts as 0
flood_events_per_second  flood: each round's, late events or not
committed_within_50_ms   flood: fraction of all events
latency_p50_ms, latency_p99_ms, latency_max_ms, paced_*: likewise
lost                     differences between the votes in the store and a plain dict of every signal, plus events that
                         were never committed
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import discord
from discord.gateway import DiscordWebSocket

from bot.client import build_bot
from bot.demo.world import LiveWorld
from bot.records import DEFAULT_EMOJI, Ask, Provenance, ReactionEvent, ReactionKind
from bot.settings import Settings
from bot.store import Store
from models.loading import load_model

EVENTS, ROUNDS = 100_000, 5
WINDOW = 32
PACED_PER_SECOND, PACED_SECONDS = 2000, 10
REPLIES, MEMBERS = 500, 1000
LIMIT_SECONDS = 0.050
BARS = {"store_events_per_second": (">=", 2000.0), "lost": ("<=", 0.0)}
_FIRST_MESSAGE, _FIRST_MEMBER = 1_400_000_000_000_000_000, 1_300_000_000_000_000_000

Key = tuple[str, int, int | None, str | None]  # kind, message, member, emoji


class TimedStore(Store):
    """The store with a note of when each event's transaction returned."""

    def watch(self) -> None:
        self.handed: defaultdict[Key, deque[float]] = defaultdict(deque)
        self.seconds: list[float] = []
        self.uncommitted = 0
        self.progress = asyncio.Event()

    def hand(self, key: Key) -> None:
        self.uncommitted += 1
        self.handed[key].append(time.perf_counter())

    async def apply_reactions(self, events: Sequence[ReactionEvent]) -> None:  # type: ignore[override]
        await super().apply_reactions(events)
        now = time.perf_counter()
        for event in events:
            handed = self.handed[event.kind.value, event.message_id, event.member_id, event.emoji]
            self.seconds.append(now - handed.popleft())
        self.uncommitted -= len(events)
        self.progress.set()


class Signals:
    """Every signal that stands, in a plain dict; what the store should say in the end."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.standing: dict[tuple[int, int, str], float] = {}
        self._removable: list[tuple[int, int, str]] = []

    def next(self) -> Key:
        draw, roll = self.draw, self.draw.random()
        message_id = _FIRST_MESSAGE + draw.randrange(REPLIES)
        if roll < 0.002:
            for key in [key for key in self.standing if key[0] == message_id]:
                del self.standing[key]
            return ReactionKind.CLEAR.value, message_id, None, None
        while roll < 0.302 and self._removable:
            key = self._removable.pop(draw.randrange(len(self._removable)))
            if self.standing.pop(key, None) is not None:
                return ReactionKind.REMOVE.value, *key
        key = (message_id, _FIRST_MEMBER + draw.randrange(MEMBERS), draw.choice(list(DEFAULT_EMOJI)))
        self.standing.pop(key, None)
        self.standing[key] = DEFAULT_EMOJI[key[2]]
        self._removable.append(key)
        return ReactionKind.ADD.value, *key

    def votes(self) -> dict[tuple[int, int], float]:
        return {(message_id, member_id): value for (message_id, member_id, _), value in self.standing.items()}


def frames(signals: Signals, count: int, guild_id: int, channel_id: int) -> Iterator[tuple[Key, str]]:
    """Make gateway frames as Discord sends them."""
    names = {"add": "MESSAGE_REACTION_ADD", "remove": "MESSAGE_REACTION_REMOVE", "clear": "MESSAGE_REACTION_REMOVE_ALL"}
    for sequence in range(count):
        kind, message_id, member_id, emoji = key = signals.next()
        data: dict[str, Any] = {
            "guild_id": str(guild_id),
            "channel_id": str(channel_id),
            "message_id": str(message_id),
        }
        if member_id is not None:
            data |= {"user_id": str(member_id), "emoji": {"id": None, "name": emoji}, "burst": False, "type": 0}
        if kind == "add":
            user = {"id": str(member_id), "username": "m", "discriminator": "0", "avatar": None, "global_name": "M"}
            joined = {"roles": [], "joined_at": "2026-01-01T00:00:00+00:00", "deaf": False, "mute": False, "flags": 0}
            data |= {"member": {"user": user, **joined}, "message_author_id": "1"}
        yield key, json.dumps({"op": 0, "s": sequence, "t": names[kind], "d": data})


def gateway(bot: discord.Client) -> DiscordWebSocket:
    """Make discord.py's websocket without a socket, set up as `DiscordWebSocket.from_client` does."""
    socket: Any = None
    websocket = DiscordWebSocket(socket, loop=bot.loop)
    websocket._connection = bot._connection
    websocket._discord_parsers = bot._connection.parsers
    websocket._dispatch = bot.dispatch
    websocket.shard_id = None
    websocket.session_id = websocket.sequence = None
    return websocket


async def flood(store: TimedStore, websocket: DiscordWebSocket, events: Sequence[tuple[Key, str]]) -> float:
    """Feed with at most WINDOW uncommitted; return the events per second."""
    started = time.perf_counter()
    for key, frame in events:
        while store.uncommitted >= WINDOW:
            store.progress.clear()
            await store.progress.wait()
        store.hand(key)
        await websocket.received_message(frame)
    while store.uncommitted:
        store.progress.clear()
        await store.progress.wait()
    return len(events) / (time.perf_counter() - started)


async def pace(store: TimedStore, websocket: DiscordWebSocket, events: Sequence[tuple[Key, str]]) -> None:
    """Feed at PACED_PER_SECOND; an event that the loop hands over late was due at its time all the same."""
    started = time.perf_counter()
    for number, (key, frame) in enumerate(events):
        due = started + number / PACED_PER_SECOND
        while (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        store.hand(key)
        store.handed[key][-1] = due
        await websocket.received_message(frame)
    async with asyncio.timeout(60):
        while store.uncommitted:
            store.progress.clear()
            await store.progress.wait()


def latencies(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    hundredths = statistics.quantiles(seconds, n=100)
    within = sum(second <= LIMIT_SECONDS for second in seconds) / len(seconds)
    return {
        f"{prefix}committed_within_50_ms": within,
        f"{prefix}latency_p50_ms": round(hundredths[49] * 1000, 2),
        f"{prefix}latency_p99_ms": round(hundredths[98] * 1000, 2),
        f"{prefix}latency_max_ms": round(max(seconds) * 1000, 2),
    }


async def differences(store: Store, reply_ids: dict[int, int], signals: Signals) -> int:
    """Count the votes that the store has otherwise than the plain dict, or not at all."""
    found = {
        (message_id, vote.member_id): vote.value
        for message_id, reply_id in reply_ids.items()
        for vote in await store.votes(reply_id)
    }
    wanted = signals.votes()
    return sum(found.get(key) != wanted.get(key) for key in found.keys() | wanted.keys())


async def measure(count: int, folder: Path) -> dict[str, Any]:
    """Run both loads in a fresh folder."""
    settings = Settings(data_dir=folder, model="echo")
    async with await TimedStore.open(settings.database) as store:
        store.watch()
        model = await load_model("echo", cache_dir=folder, context_tokens=2048, slots=1, queue_limit=8)
        try:
            bot = build_bot(settings, store, model, provenance=Provenance.DEMO)
            async with LiveWorld(bot):
                guild = bot.guilds[0]
                reply_ids = await prepare(store, guild.id, guild.text_channels[0].id)
                signals = Signals(seed=20260801)
                made = list(
                    frames(signals, count + PACED_PER_SECOND * PACED_SECONDS, guild.id, guild.text_channels[0].id)
                )
                websocket = gateway(bot)
                # What is there by now stays to the end; sweeping it, 50 ms a time, is not the events' doing.
                gc.collect()
                gc.freeze()
                rates, in_time = [], []
                for start in range(0, count, count // ROUNDS):
                    before = len(store.seconds)
                    rates.append(await flood(store, websocket, made[start : min(start + count // ROUNDS, count)]))
                    in_time.append(max(store.seconds[before:]) <= LIMIT_SECONDS)
                figures: dict[str, Any] = {"events": count, "flood_events_per_second": [round(rate) for rate in rates]}
                figures |= latencies(store.seconds)
                store.seconds.clear()
                await pace(store, websocket, made[count:])
                figures |= {"paced_events_per_second": PACED_PER_SECOND} | latencies(store.seconds, "paced_")
                figures["lost"] = store.uncommitted + await differences(store, reply_ids, signals)
        finally:
            await model.aclose()
    kept = [rate if good else 0.0 for rate, good in zip(rates, in_time, strict=True)]
    figures["store_events_per_second"] = round(statistics.median(kept))
    return figures


async def prepare(store: Store, guild_id: int, channel_id: int) -> dict[int, int]:
    """Write the replies that are reacted to; return message id -> reply id."""
    reply_ids = {}
    for number in range(REPLIES):
        message_id = _FIRST_MESSAGE + number
        ask = Ask(message_id - REPLIES, channel_id, guild_id, _FIRST_MEMBER, Provenance.DEMO)
        reply_id = await store.claim_reply(ask)
        assert reply_id is not None
        await store.attach_message(reply_id, message_id, 0)
        reply_ids[message_id] = reply_id
    return reply_ids


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure raw reaction events from the gateway to the commit.")
    parser.add_argument("--json", action="store_true", help="print one JSON object (default: the same, indented)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"events of the flood (default {EVENTS})")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(arguments.events, Path(folder)))
    figures["holds"] = all(
        figures[name] >= bar if sign == ">=" else figures[name] <= bar for name, (sign, bar) in BARS.items()
    )
    figures["versions"] = {"discord.py": discord.__version__, "python": sys.version.split()[0]}
    print(json.dumps(figures) if arguments.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
