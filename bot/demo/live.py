"""SimCord made live: time is real, the bot's work is its own, and old records are forgotten.

SimCord is made for tests: an actor's action waits until the bot has settled and the clock stands still in between. Here
actions return in milliseconds while the bot streams. All that is pinned to SimCord's private names is in this module
(`Env._bot_scope`, `_restore_loop`, `release_clocks`, the two id tables): hence `simcord>=3.2,<3.3`.
Owns no guild and no people; see `world`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from weakref import WeakSet

import discord
import simcord
from simcord import _dpy_internals, _runtime
from simcord.backend import Backend
from simcord.enums import InteractionType, OptionType

RECORDS_KEPT = 500  # transcript lines and REST requests
_IDS_KEPT_MILLISECONDS = 1000  # an id can only collide within its own millisecond
_SUBCOMMANDS = (OptionType.SUBCOMMAND, OptionType.SUBCOMMAND_GROUP)
_BOT_WORK: ContextVar[bool] = ContextVar("encore_demo_bot_work", default=False)


class ChangeKind(StrEnum):
    MESSAGE = "message"  # created, edited, reacted to, or gone
    TYPING = "typing"
    CHANNELS = "channels"  # channels, threads, roles or overwrites


@dataclass(frozen=True, slots=True)
class Change:
    """Something in the world is different; look there. `user_id` is who types, `created` tells a new message."""

    kind: ChangeKind
    channel_id: int = 0
    message_id: int = 0
    user_id: int = 0
    created: bool = False


class Recent(list[Any]):
    """A list that keeps its newest `keep` to twice `keep` items, so that appending stays cheap."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self._keep = keep

    def append(self, item: Any) -> None:
        super().append(item)
        if len(self) > 2 * self._keep:
            del self[: -self._keep]


class WallClock:
    """SimCord's clock, running by itself."""

    def __init__(self) -> None:
        self._started = time.time()

    @property
    def elapsed(self) -> float:
        return time.time() - self._started

    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        """Do nothing: wall time advances by itself."""


class LiveBackend(Backend):  # type: ignore[misc]
    """SimCord's Discord, which tells `watchers` of every change, ephemeral ones included, and forgets the oldest.

    Each channel keeps its newest `keep_messages` messages; what falls off vanishes without a gateway event, as history
    that nobody scrolls to. A watcher is called in the middle of a change: it may only take note.
    """

    _sequences: dict[int, int]
    _reserved_ids: set[int]

    def __init__(self, *, keep_messages: int) -> None:
        self.watchers: list[Callable[[Change], None]] = []
        self._keep_messages = keep_messages
        super().__init__()
        self.transcript = Recent(RECORDS_KEPT)
        self.http_requests = Recent(RECORDS_KEPT)

    def emit(self, event: str, payload: Any) -> None:
        if event == "INTERACTION_CREATE" and payload["type"] == InteractionType.APPLICATION_COMMAND:
            # Discord's messages say which subcommand they answer, SimCord's the command alone.
            self.interactions[int(payload["id"])].command_name = _full_name(payload["data"])
        super().emit(event, payload)
        for change in _changes(event, payload):
            self._notify(change)

    def commit_message(self, message: Any, *, broadcast: bool = True) -> Any:
        stored = super().commit_message(message, broadcast=broadcast)
        messages = self.messages.get(message.channel_id, {})
        while len(messages) > self._keep_messages:
            oldest = next(iter(messages))
            del messages[oldest]
            self._notify(Change(ChangeKind.MESSAGE, message.channel_id, oldest))
        if stored.is_ephemeral:
            self._notify(Change(ChangeKind.MESSAGE, stored.channel_id, stored.id, created=True))
        return stored

    def edit_message(self, channel_id: int, message_id: int, fields: dict[str, Any]) -> Any:
        stored = super().edit_message(channel_id, message_id, fields)
        if stored.is_ephemeral:
            self._notify(Change(ChangeKind.MESSAGE, channel_id, message_id))
        return stored

    def delete_message(self, channel_id: int, message_id: int) -> None:
        ephemeral = self.get_message(channel_id, message_id).is_ephemeral
        super().delete_message(channel_id, message_id)
        if ephemeral:
            self._notify(Change(ChangeKind.MESSAGE, channel_id, message_id))

    def new_interaction(self, *args: Any, **kwargs: Any) -> Any:
        now = self.now_iso()
        while self.interactions:
            oldest = next(iter(self.interactions.values()))
            if oldest.expires_at is None or oldest.expires_at > now:
                break
            del self.interactions[oldest.id]
            self.interaction_tokens.pop(oldest.token, None)
        return super().new_interaction(*args, **kwargs)

    def snowflake(self) -> int:
        value: int = super().snowflake()
        if len(self._sequences) > 2 * _IDS_KEPT_MILLISECONDS:
            oldest = (value >> 22) - _IDS_KEPT_MILLISECONDS
            self._sequences = {at: count for at, count in self._sequences.items() if at >= oldest}
            self._reserved_ids = {kept for kept in self._reserved_ids if kept >> 22 >= oldest}
        return value

    def _notify(self, change: Change) -> None:
        for watcher in tuple(self.watchers):
            watcher(change)


def _full_name(command: Any) -> str:
    """Return the name of a command that was used, with its subcommand's, as "encore channels add"."""
    nested = [option for option in command.get("options", ()) if option["type"] in _SUBCOMMANDS]
    return " ".join([command["name"], *map(_full_name, nested)])


def _changes(event: str, payload: Any) -> Iterator[Change]:
    """Say where a gateway event changed the world."""
    if event == "TYPING_START":
        yield Change(ChangeKind.TYPING, int(payload["channel_id"]), user_id=int(payload["user_id"]))
    elif event == "MESSAGE_DELETE_BULK":
        for message_id in payload["ids"]:
            yield Change(ChangeKind.MESSAGE, int(payload["channel_id"]), int(message_id))
    elif event.startswith("MESSAGE_"):
        message_id = int(payload.get("message_id") or payload["id"])
        created = event == "MESSAGE_CREATE"
        yield Change(ChangeKind.MESSAGE, int(payload["channel_id"]), message_id, created=created)
    elif event.startswith(("CHANNEL_", "THREAD_", "GUILD_")):
        yield Change(ChangeKind.CHANNELS)


class LiveEnv(simcord.Env):  # type: ignore[misc]
    """SimCord's environment around a bot that runs in real time, on the loop's own scheduling.

    `tasks` are the tasks that the bot's events started and that have not ended.
    """

    def __init__(
        self, bot: discord.Client, *, keep_messages: int, approved_intents: discord.Intents | None = None
    ) -> None:
        super().__init__(bot, check_errors=False, approved_intents=approved_intents)
        self.backend = LiveBackend(keep_messages=keep_messages)
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._errors = Recent(RECORDS_KEPT)

    async def start(self) -> None:
        self.backend.clock = WallClock()
        self._mark_tasks(asyncio.get_running_loop())
        await super().start()
        self._release_hooks()

    async def restart_bot(self, bot: discord.Client | None = None) -> None:
        await super().restart_bot(bot)
        self._release_hooks()

    async def shutdown(self) -> None:
        try:
            await super().shutdown()
        finally:
            asyncio.get_running_loop().set_task_factory(self._previous_factory)

    @contextmanager
    def _bot_scope(self) -> Iterator[None]:
        # SimCord's own scope tracks the bot's tasks and timers and hands them the virtual clock; this one only keeps
        # the webhook adapter (interactions answer through it) and marks the tasks, so that a restart can end them.
        adapter = self._webhook_adapter
        previous = _dpy_internals.set_webhook_adapter(adapter) if adapter is not None else None
        token = _BOT_WORK.set(True)
        try:
            yield
        finally:
            _BOT_WORK.reset(token)
            if adapter is not None:
                _dpy_internals.reset_webhook_adapter(previous)

    def _release_hooks(self) -> None:
        """Give the loop's methods and `time.monotonic` back: nothing is tracked, and every callback paid for them."""
        _runtime._restore_loop(self)
        _dpy_internals.release_clocks(self)

    def _mark_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        previous = self._previous_factory = loop.get_task_factory()

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
            task: Any = previous(loop, coro, **options) if previous else asyncio.Task(coro, loop=loop, **options)
            context = options.get("context")
            if context.get(_BOT_WORK, False) if context is not None else _BOT_WORK.get():
                self.tasks.add(task)
            return task

        loop.set_task_factory(factory)
