"""One open page: who it plays, which channel it shows, and the stream of what changes there.

The world's changes are noted at once and sent at most every 40 ms as the newest state of each message (latest wins),
so that a slow browser never holds up the bot and a streaming reply costs one message a flush. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bot.demo.desk import Desk, DeskRefused, Wish
from bot.demo.live import Change, ChangeKind
from bot.demo.player import BadRequest, Player
from bot.demo.views import Json
from bot.demo.world import LiveWorld

_FLUSH_SECONDS = 0.04
_REQUESTS_AT_ONCE = 16

log = logging.getLogger(__name__)


class Session:
    """Feed it requests with `handle`, run `write` beside; `send` delivers one JSON text to the page."""

    def __init__(
        self,
        world: LiveWorld,
        send: Callable[[str], Awaitable[None]],
        facts: Json,
        *,
        desk: Desk | None = None,
        learning: Json | None = None,
    ) -> None:
        self._world = world
        self._send = send
        self._player = Player(world, world.mei)
        self._channel_id = world.general.id
        self._outbox: list[Json] = []
        self._messages: dict[tuple[int, int], None] = {}  # keys in order: what changed since the last flush
        self._known: set[int] = set()  # messages that the page shows
        self._unread: set[int] = set()
        self._typing: set[tuple[int, int]] = set()
        self._channels_changed = False
        self._facts = facts
        self._facts_changed = True
        self._desk = desk
        self._learning, self._learning_changed = learning, learning is not None
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ from the page

    def handle(self, text: str) -> None:
        """Start what one request asks for; its answer goes out with the request's id."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):  # a thousand brackets are no request either
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("id"), int):
            self._post({"push": "trouble", "error": "The page sent something unreadable; reload it."})
        elif request.get("do") == "open":
            self._open(request)
        elif len(self._tasks) >= _REQUESTS_AT_ONCE:
            self._post({"re": request["id"], "error": "Too much at once; wait a moment."})
        else:
            task = asyncio.create_task(self._act(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _open(self, request: Json) -> None:
        """Play somebody, show a channel, and send the page everything afresh."""
        member = next((m for m in self._world.people if str(m.id) == request.get("who")), self._world.mei)
        wanted = request.get("channel")
        channel_id = int(wanted) if isinstance(wanted, str) and wanted.isascii() and wanted.isdecimal() else None
        if member is not self._player.member:
            self._player = Player(self._world, member)
        state = self._player.view.state(channel_id)
        self._post({"re": request["id"], "value": self._afresh(state)})

    def _afresh(self, state: Json) -> Json:
        self._channel_id = int(state["channel"])
        self._messages.clear()
        self._unread.discard(self._channel_id)
        self._known = {int(message["id"]) for message in state["messages"]}
        return state

    async def _act(self, request: Json) -> None:
        try:
            learns = request.get("do") == "learn"
            answer: Json = {"value": await (self._learn(request) if learns else self._player.act(request))}
        except (BadRequest, DeskRefused) as error:
            answer = {"error": str(error)}
        except Exception:
            log.exception("The demo page's request %r failed", request.get("do"))
            answer = {"error": "Something broke; the log has the details."}
        self._post({"re": request["id"], **answer})

    async def _learn(self, request: Json) -> Json:
        if self._desk is None or request.get("wish") not in list(Wish):
            raise BadRequest("This demo can't do that; reload the page.")
        await self._desk.begin(Wish(request["wish"]))
        return {}

    # ------------------------------------------------------------------ to the page

    def note(self, change: Change) -> None:
        """Take note of a change in the world; sent at the next flush if this page's person may see it."""
        if change.kind is ChangeKind.CHANNELS:
            self._channels_changed = True
        elif change.kind is ChangeKind.TYPING:
            self._typing.add((change.channel_id, change.user_id))
        elif change.channel_id == self._channel_id:
            self._messages[change.channel_id, change.message_id] = None
        elif change.created:
            self._unread.add(change.channel_id)
        self._wake.set()

    def note_facts(self, facts: Json) -> None:
        self._facts, self._facts_changed = facts, True
        self._wake.set()

    def note_learning(self, learning: Json) -> None:
        self._learning, self._learning_changed = learning, True
        self._wake.set()

    async def write(self) -> None:
        """Send what is noted, forever; ends with the connection's error."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for payload in self._take():
                    await self._send(json.dumps(payload))
                await asyncio.sleep(_FLUSH_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()

    def _post(self, payload: Json) -> None:
        self._outbox.append(payload)
        self._wake.set()

    def _take(self) -> list[Json]:
        view, payloads = self._player.view, self._outbox
        self._outbox = []
        if self._channels_changed:
            payloads.append(self._changed_channels())
        for channel_id, message_id in self._messages:
            if (message := view.message(channel_id, message_id)) is not None:
                self._known.add(message_id)
                payloads.append({"push": "message", "message": message})
            elif message_id in self._known:
                self._known.discard(message_id)
                payloads.append({"push": "gone", "channel": str(channel_id), "message": str(message_id)})
        for channel_id in self._unread:
            if self._world.can_see(view.member, channel_id):
                payloads.append({"push": "unread", "channel": str(channel_id)})
        for channel_id, user_id in self._typing:
            if channel_id == self._channel_id and user_id != view.member.id:
                payloads.append({"push": "typing", "channel": str(channel_id), "name": view.naming("@", user_id)})
        if self._facts_changed:
            payloads.append({"push": "facts", "facts": self._facts})
        if self._learning_changed:
            payloads.append({"push": "learning", "learning": self._learning})
        self._messages, self._unread, self._typing = {}, set(), set()
        self._channels_changed = self._facts_changed = self._learning_changed = False
        return payloads

    def _changed_channels(self) -> Json:
        view = self._player.view
        if not self._world.can_see(view.member, self._channel_id):
            return {"push": "state", "state": self._afresh(view.state(None))}
        for thread in view.channels():
            # A thread begun from a message shows on that message, whose id it shares.
            if thread["parent"] == str(self._channel_id):
                self._messages[self._channel_id, int(thread["id"])] = None
        return {"push": "channels", "channels": view.channels(), "commands": view.commands(self._channel_id)}


def facts_json(facts: Any) -> Json:
    """Return a Facts value as the page's JSON."""
    return {name: getattr(facts, name) for name in facts.__slots__}
