"""The stub's gateway: sessions that IDENTIFY, RESUME with what they missed, and can be dropped, closed or forgotten.

Every frame is plain JSON: discord.py asks for compression in the address but reads text frames as they come.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.faults import discord_payloads as payloads
from tests.faults.discord_payloads import Json

MESSAGE_CONTENT = 1 << 15
_PRIVILEGED = 1 << 1 | 1 << 8 | MESSAGE_CONTENT
_HEARTBEAT_MILLISECONDS = 41250


@dataclass(slots=True)
class Session:
    """One session: every event it was or should have been sent, and the socket that it has now."""

    id: str
    intents: int
    events: list[Json] = field(default_factory=list)
    socket: web.WebSocketResponse | None = None
    resumes: int = 0


class Gateway:
    """`greet(session_intents)` gives the server as the bot first sees it."""

    def __init__(self, *, token: str, intents_allowed: int, greet: Callable[[], Json]) -> None:
        self.address = ""
        self.sessions: dict[str, Session] = {}
        self.identifies = 0
        self._token = token
        self._intents_allowed = intents_allowed
        self._greet = greet
        self._counter = itertools.count()

    @property
    def connected(self) -> list[Session]:
        return [s for s in self.sessions.values() if s.socket is not None and not s.socket.closed]

    @property
    def resumes(self) -> int:
        return sum(session.resumes for session in self.sessions.values())

    @property
    def shows_content(self) -> bool:
        return any(session.intents & MESSAGE_CONTENT for session in self.sessions.values())

    # Faults.

    def drop(self) -> None:
        """Cut every connection without a closing frame."""
        for session in self.connected:
            _abort(session.socket)
            session.socket = None

    async def close(self, code: int) -> None:
        for session in self.connected:
            if session.socket is not None:
                await session.socket.close(code=code)

    async def ask_to_reconnect(self) -> None:
        for session in self.connected:
            await _send(session.socket, {"op": 7, "d": None})

    def forget_sessions(self) -> None:
        """Make every RESUME fail, as after a long outage: what happens until the next IDENTIFY is never sent."""
        self.drop()
        self.sessions = {}

    # The protocol.

    async def dispatch(self, event: str, data: Json) -> None:
        """Send an event to every session; one without a socket gets it when it resumes."""
        for session in list(self.sessions.values()):
            await self._emit(session, event, data)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        await _send(socket, {"op": 10, "d": {"heartbeat_interval": _HEARTBEAT_MILLISECONDS}})
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                break
            message = json.loads(frame.data)
            match message["op"]:
                case 1:
                    await _send(socket, {"op": 11})
                case 2:
                    await self._identify(socket, message["d"])
                case 6:
                    await self._resume(socket, message["d"])
        for session in self.sessions.values():
            if session.socket is socket:
                session.socket = None
        if not socket.closed:
            await socket.close()
        return socket

    async def _identify(self, socket: web.WebSocketResponse, data: Json) -> None:
        self.identifies += 1
        if data["token"] != self._token:
            await socket.close(code=4004, message=b"Authentication failed.")
            return
        if data["intents"] & _PRIVILEGED & ~self._intents_allowed:
            await socket.close(code=4014, message=b"Disallowed intent(s).")
            return
        session = Session(f"session-{next(self._counter)}", data["intents"], socket=socket)
        self.sessions[session.id] = session
        await self._emit(session, "READY", payloads.ready(session.id, self.address))
        await self._emit(session, "GUILD_CREATE", self._greet())

    async def _resume(self, socket: web.WebSocketResponse, data: Json) -> None:
        session = self.sessions.get(data["session_id"] or "")
        if session is None or data["token"] != self._token:
            await _send(socket, {"op": 9, "d": False})
            return
        session.socket = socket
        session.resumes += 1
        for event in [event for event in session.events if event["s"] > data["seq"]]:
            await _send(socket, event)
        await self._emit(session, "RESUMED", {})

    async def _emit(self, session: Session, event: str, data: Json) -> None:
        if event == "MESSAGE_CREATE" and not session.intents & MESSAGE_CONTENT:
            data = payloads.without_content(data)
        payload = {"op": 0, "t": event, "s": len(session.events) + 1, "d": data}
        payload = json.loads(json.dumps(payload))  # a later edit must not change what was sent
        session.events.append(payload)
        await _send(session.socket, payload)


async def _send(socket: web.WebSocketResponse | None, payload: Json) -> None:
    if socket is not None and not socket.closed:
        with contextlib.suppress(ConnectionError):  # it was cut meanwhile; the session keeps the event for a RESUME
            await socket.send_str(json.dumps(payload))


def _abort(socket: web.WebSocketResponse | None) -> None:
    transport = socket._req.transport if socket is not None and socket._req is not None else None
    if transport is not None:
        transport.abort()
