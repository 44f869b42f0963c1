"""The demo's page server: static files and one websocket a page, for the person at this machine only.

It listens on 127.0.0.1 unless told otherwise; the address carries a random key that every request needs, requests that
come by another host name than it listens on (DNS rebinding) or from another origin are refused, and the page may load
nothing from elsewhere.
Speaks to the world alone, never to the store or the model; figures come from the `facts` it is given.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import discord
from aiohttp import WSCloseCode, WSMsgType, web

from bot.demo.desk import Desk
from bot.demo.live import Change, ChangeKind
from bot.demo.session import Session, facts_json
from bot.demo.world import LiveWorld

HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MESSAGE_BYTES = 64 * 1024
_SESSIONS = 16
_FACTS_SECONDS = 1.0
_AFTER_CHANGE_SECONDS = 0.15  # a rating is committed within 50 ms of its reaction
# A report is a page of its own: it may show what it has in itself, and nothing that was said there can act.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_HOST_HEADER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page's panel shows of the store and the model; `languages` as in EngineInfo ("English only")."""

    replies: int = 0
    rated_replies: int = 0
    votes_up: int = 0
    votes_down: int = 0
    comparisons: int = 0
    corrections: int = 0
    model: str = ""
    quantization: str = ""
    languages: str = ""


FactsOf = Callable[[int], Awaitable[Facts]]  # given the demo server's guild id
DeskOf = Callable[[LiveWorld], Awaitable[Desk]]  # given the world, once it runs


class DemoServer:
    """Serves the page of an open world while entered; `url` is its address, key included."""

    def __init__(
        self, world: LiveWorld, facts: FactsOf, *, desk: Desk | None = None, host: str = HOST, port: int = 0
    ) -> None:
        self._world = world
        self._facts_of = facts
        self._facts = Facts()
        self._desk = desk
        self._learning: dict[str, Any] | None = None
        self._host = host
        self._port = port
        self._key = secrets.token_urlsafe(24)
        self._files = {path.name: path.read_bytes() for path in _PAGE.iterdir() if path.suffix in _TYPES}
        self._sessions: set[Session] = set()
        self._sockets: set[web.WebSocketResponse] = set()
        self._changed = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=_MESSAGE_BYTES)
        app.router.add_get("/{key}/", self._file)
        app.router.add_get("/{key}/socket", self._socket)
        app.router.add_get("/{key}/report", self._report)
        app.router.add_get("/{key}/{name}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        port = self._runner.addresses[0][1]
        host = _opening(self._host)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}/{self._key}/"
        self._world.backend.watchers.append(self._note)
        self._follower = asyncio.create_task(self._follow_facts())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._world.backend.watchers.remove(self._note)
        self._follower.cancel()
        with suppress(asyncio.CancelledError):
            await self._follower
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)
        await self._runner.cleanup()

    # ------------------------------------------------------------------ requests

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        given = request.path.partition("/")[2].partition("/")[0]  # `OPTIONS *` has no slash
        if not self._is_own(request.host):
            refusal = "Open the demo by the address that encore demo printed."
        elif origin is not None and origin != f"http://{request.host}":
            refusal = "Other pages may not use the demo."
        elif not secrets.compare_digest(given.encode(), self._key.encode()):
            refusal = "Open the full address that encore demo printed; it ends with a key."
        else:
            return await handler(request)
        return web.Response(status=403, text=refusal, headers=self._headers(request))

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        body = self._files.get(name)
        if body is None:
            return web.Response(status=404, text="The demo has no such file.", headers=self._headers(request))
        kind = _TYPES[Path(name).suffix]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=self._headers(request))

    async def _report(self, request: web.Request) -> web.Response:
        path = self._desk.report() if self._desk is not None else None
        headers = self._headers(request)
        try:
            body = await asyncio.to_thread(path.read_bytes) if path is not None else None
        except OSError:
            body = None
        if body is None:
            return web.Response(status=404, text="The last night left no report.", headers=headers)
        headers["Content-Security-Policy"] = _REPORT_POLICY
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        # Browsers always say where a websocket comes from; what doesn't is no page of ours.
        if "Origin" not in request.headers or len(self._sockets) >= _SESSIONS:
            return web.Response(status=403, text="No more pages can be open.", headers=self._headers(request))
        socket = web.WebSocketResponse(max_msg_size=_MESSAGE_BYTES, heartbeat=20.0)
        await socket.prepare(request)
        session = Session(
            self._world, socket.send_str, facts_json(self._facts), desk=self._desk, learning=self._learning
        )
        self._sockets.add(socket)
        self._sessions.add(session)
        writer = asyncio.create_task(_deliver(session, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    session.handle(message.data)
        finally:
            self._sessions.discard(session)
            self._sockets.discard(socket)
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
        return socket

    def _headers(self, request: web.Request) -> dict[str, str]:
        # Only a Host header that was checked is repeated here.
        host = request.host if self._is_own(request.host) else HOST
        return {name: value.replace("{host}", host) for name, value in _HEADERS.items()}

    def _is_own(self, host: str) -> bool:
        """Return whether a Host header is an address or the name listened on, which nobody else's DNS points here."""
        parts = _HOST_HEADER.fullmatch(host)
        if parts is None:
            return False
        name = parts[1].lower()  # browsers write names in small letters
        return name in ("localhost", self._host.lower()) or _is_address(name.strip("[]"))

    # ------------------------------------------------------------------ news

    def _note(self, change: Change) -> None:
        for session in self._sessions:
            session.note(change)
        if change.kind is ChangeKind.MESSAGE:
            self._changed.set()

    async def _follow_facts(self) -> None:
        while True:
            try:
                facts = await self._facts_of(self._world.guild.id)
            except Exception:
                log.exception("The demo's figures can't be read")
                facts = self._facts
            if facts != self._facts:
                self._facts = facts
                for session in self._sessions:
                    session.note_facts(facts_json(facts))
            await self._follow_learning()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _FACTS_SECONDS)
            self._changed.clear()
            await asyncio.sleep(_AFTER_CHANGE_SECONDS)

    async def _follow_learning(self) -> None:
        if self._desk is None:
            return
        try:
            learning = asdict(await self._desk.state())
        except Exception:
            log.exception("How learning stands can't be read")
            return
        if learning != self._learning:
            self._learning = learning
            for session in self._sessions:
                session.note_learning(learning)


async def serve(
    bot: discord.Client,
    *,
    facts: FactsOf,
    desk: DeskOf | None = None,
    announce: Callable[[str], None],
    host: str = HOST,
    port: int = 0,
    open_browser: bool = True,
) -> None:
    """Run `bot` in a live world with the page in front until cancelled; closes the bot at the end.

    `announce` gets the page's address once it can be opened; `port` 0 takes a free one. `facts(guild_id)` returns the
    Facts of the panel and is asked after each change, at most about six times a second; `desk(world)` returns what
    the learning panel asks (None: there is no such panel). Raises OSError if the address can't be used, and whatever
    the bot raises while it starts.

        await serve(bot, facts=facts, desk=desk, announce=lambda url: print(f"Open {url}"), port=8080)
    """
    async with LiveWorld(bot) as world:
        learning = await desk(world) if desk is not None else None
        try:
            async with DemoServer(world, facts, desk=learning, host=host, port=port) as server:
                announce(server.url)
                if open_browser:
                    await asyncio.to_thread(webbrowser.open, server.url)
                await asyncio.Event().wait()
        finally:
            if learning is not None:
                await learning.aclose()


async def _deliver(session: Session, socket: web.WebSocketResponse) -> None:
    """Write what the session has until the page is gone; a page that can't be written to is closed and comes back."""
    try:
        await session.write()
    except ConnectionError:
        pass
    except Exception:
        log.exception("The demo page could not be kept up to date")
    finally:
        await socket.close()


def _opening(host: str) -> str:
    """Return the address at which a browser here opens what listens on `host`: none opens "every address"."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return HOST if address.version == 4 else "::1"
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
