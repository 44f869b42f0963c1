"""A Discord on 127.0.0.1 that speaks only what the fault tests need, to discord.py's real HTTP and gateway code.

Owns messages as members would see them; the gateway is discord_gateway's, faults are discord_faults'. Knows one server
with some text channels and one direct message, and of Discord's limits and permissions only the few that a fault test
leans on: SimCord checks the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from tests.faults import discord_payloads as payloads
from tests.faults.discord_faults import Fault, Refused, json_response, scripted_answer
from tests.faults.discord_gateway import MESSAGE_CONTENT, Gateway
from tests.faults.discord_payloads import BOT_ID, CHANNEL_ID, CHANNELS, DM_ID, GUILD_ID, MIRA_ID, TOKEN, Json

_EPOCH_MS = 1420070400000
_MENTION = re.compile(r"<@!?(\d+)>")
_ROLE_MENTION = re.compile(r"<@&(\d+)>")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Json
    status: int


class DiscordStub:
    """`async with DiscordStub() as discord:`; DISCORD_API_BASE is `api`, DISCORD_GATEWAY is `gateway.address`."""

    def __init__(self, *, intents_allowed: int = 0, token: str = TOKEN) -> None:
        self.token = token
        self.intents_allowed = intents_allowed
        self.channels = {
            DM_ID: payloads.dm_channel(),
            **{id_: payloads.text_channel(id_, f"channel-{number}") for number, id_ in enumerate(CHANNELS)},
        }
        self.permissions = payloads.EVERYTHING
        self.messages: dict[int, Json] = {}
        self.pings: list[Json] = []  # messages of the bot that notified someone, as they were then
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.commands: list[Json] = []
        self._nonces: dict[str, int] = {}
        self.gateway = Gateway(token=token, intents_allowed=intents_allowed, greet=self._guild)
        self._last_id = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/gateway", self.gateway.serve)
        app.router.add_route("*", "/api/v10/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.api = f"http://127.0.0.1:{port}/api/v10"
        self.gateway.address = f"ws://127.0.0.1:{port}/gateway"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gateway.drop()
        await self._runner.cleanup()

    # What members do and see.

    async def says(
        self,
        content: str,
        *,
        channel_id: int = CHANNEL_ID,
        author_id: int = MIRA_ID,
        to_bot: bool = True,
        reply_to: int | None = None,
    ) -> int:
        """Post a member's message, by default with a mention of the bot; return its id."""
        if to_bot and channel_id != DM_ID:
            content = f"<@{BOT_ID}> {content}"
        body: Json = {"content": content}
        if reply_to is not None:
            body["message_reference"] = {"message_id": str(reply_to)}
        return int((await self._post(channel_id, author_id, body))["id"])

    async def deletes(self, message_id: int) -> None:
        message = self.messages.pop(message_id)
        gone = {"id": str(message_id), "channel_id": message["channel_id"]}
        await self.gateway.dispatch("MESSAGE_DELETE", self._placed(gone))

    async def deletes_channel(self, channel_id: int) -> None:
        channel = self.channels.pop(channel_id)
        self.messages = {k: m for k, m in self.messages.items() if m["channel_id"] != str(channel_id)}
        await self.gateway.dispatch("CHANNEL_DELETE", channel)

    async def revokes(self, permission: int) -> None:
        """Take permission bits from everyone (view channel is 1 << 10, send messages 1 << 11)."""
        self.permissions = str(int(self.permissions) & ~permission)
        role = payloads.everyone_role(self.permissions)
        await self.gateway.dispatch("GUILD_ROLE_UPDATE", {"guild_id": str(GUILD_ID), "role": role})

    async def reacts(self, message_id: int, emoji: str, *, member_id: int = MIRA_ID) -> None:
        message = self.messages[message_id]
        entry = {"count": 1, "me": False, "emoji": {"id": None, "name": emoji}, "user_ids": [member_id]}
        message.setdefault("reactions", []).append(entry)
        event = {"user_id": str(member_id), "channel_id": message["channel_id"], "message_id": str(message_id)}
        event |= {"emoji": {"id": None, "name": emoji}, "member": payloads.member(member_id), "type": 0, "burst": False}
        await self.gateway.dispatch("MESSAGE_REACTION_ADD", self._placed(event))

    def replies_to(self, message_id: int) -> list[Json]:
        """Return the bot's messages that answer a message, oldest first."""
        return [m for m in self.said_by_bot() if m.get("message_reference", {}).get("message_id") == str(message_id)]

    def said_by_bot(self) -> list[Json]:
        return [m for m in self.messages.values() if m["author"]["id"] == str(BOT_ID)]

    def count(self, method: str, path: str, status: int | None = None) -> int:
        """Count requests; `path` is a regular expression."""
        return sum(
            r.method == method and bool(re.search(path, r.path)) and status in (None, r.status) for r in self.requests
        )

    async def until(self, condition: Callable[[], Any], what: str, *, seconds: float = 30.0) -> None:
        """Wait until `condition()` holds; fail naming `what` and the last requests."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tail = "\n".join(f"{r.method} {r.path} {r.status} {str(r.body)[:120]}" for r in self.requests[-15:])
                raise AssertionError(f"{what}: not within {seconds:g} s; the last requests were\n{tail}")
            await asyncio.sleep(0.01)

    # Faults.

    def fault(self, **how: Any) -> Fault:
        """Script a fault; see Fault. Returns it, so that a test can ask how often it hit."""
        fault = Fault(**how)
        self.faults.append(fault)
        return fault

    async def redeliver(self, message_id: int) -> None:
        """Send the event of a message a second time."""
        await self.gateway.dispatch("MESSAGE_CREATE", self._placed(self.messages[message_id]))

    # REST.

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        with contextlib.suppress(ValueError):
            body = await request.json() if request.can_read_body else {}
        fault = next((f for f in self.faults if f.matches(request.method, path, body)), None)
        if fault is not None:
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            if fault.cut != "after":
                if fault.call:
                    fault.call()
                if fault.cut:
                    return self._cut(request, path, body)
            if fault.status is not None:
                self.requests.append(Request(request.method, path, body, fault.status))
                return scripted_answer(fault, fault.status)
        try:
            if request.headers.get("Authorization") != f"Bot {self.token}":
                raise Refused(401, 0, "401: Unauthorized")
            status, answer = await self._answer(request, path, body)
        except Refused as refused:
            status, answer = refused.status, refused.payload
        if fault is not None and fault.cut == "after":
            if fault.call:
                fault.call()
            return self._cut(request, path, body)
        self.requests.append(Request(request.method, path, body, status))
        bucket = re.sub(r"\d{6,}", "ID", f"{request.method} {path}")
        headers = {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "999", "X-RateLimit-Reset-After": "1"}
        headers |= {"X-RateLimit-Bucket": bucket, "Via": "1.1 stub"}
        if status == 204:
            return web.Response(status=204, headers=headers)
        return json_response(answer, status=status, headers=headers)

    def _cut(self, request: web.Request, path: str, body: Json) -> web.StreamResponse:
        self.requests.append(Request(request.method, path, body, 0))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _answer(self, request: web.Request, path: str, body: Json) -> tuple[int, Any]:
        match [request.method, *path.strip("/").split("/")]:
            case ["GET", "users", "@me"]:
                return 200, payloads.USERS[BOT_ID]
            case ["GET", "oauth2" | "applications", *_] if path.endswith("/@me"):
                flags = 1 << 19 if self.intents_allowed & MESSAGE_CONTENT else 0  # limited message-content intent
                return 200, payloads.application(flags)
            case ["GET", "gateway", "bot"]:
                limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
                return 200, {"url": self.gateway.address, "shards": 1, "session_start_limit": limit}
            case ["POST", "users", "@me", "channels"]:
                return 200, self._channel(DM_ID)
            case ["PUT", "applications", _, *_, "commands"]:
                listed = body if isinstance(body, list) else []
                own = {"application_id": str(BOT_ID), "version": "1"}
                self.commands = [{"description": "", **command, **own, "id": str(self._id())} for command in listed]
                return 200, self.commands
            case ["GET", "applications", _, *_, "commands"]:
                return 200, self.commands
            case ["GET", "channels", channel]:
                return 200, self._channel(int(channel))
            case ["POST", "channels", channel, "typing"]:
                self._channel(int(channel), 1 << 11)
                return 204, None
            case ["GET", "channels", channel, "messages"]:
                return 200, self._history(int(channel), request)
            case ["POST", "channels", channel, "messages"]:
                return 200, await self._post(int(channel), BOT_ID, body)
            case ["GET", "channels", channel, "messages", message]:
                return 200, self._message(int(channel), int(message))
            case ["PATCH", "channels", channel, "messages", message]:
                return 200, await self._edit(int(channel), int(message), body)
            case ["DELETE", "channels", channel, "messages", message]:
                self._message(int(channel), int(message))
                await self.deletes(int(message))
                return 204, None
            case ["GET", "channels", channel, "messages", message, "reactions", emoji]:
                found = self._message(int(channel), int(message)).get("reactions", [])
                return 200, [payloads.USERS[u] for r in found if r["emoji"]["name"] == emoji for u in r["user_ids"]]
            case _:
                raise Refused(404, 0, f"the stub knows no {request.method} {path}")

    def _guild(self) -> Json:
        return payloads.guild([c for key, c in self.channels.items() if key != DM_ID], self.permissions)

    def _channel(self, channel_id: int, permission: int = 0) -> Json:
        if channel_id not in self.channels:
            raise Refused(404, 10003, "Unknown Channel")
        if channel_id != DM_ID and not int(self.permissions) & 1 << 10:
            raise Refused(403, 50001, "Missing Access")
        if channel_id != DM_ID and int(self.permissions) & permission != permission:
            raise Refused(403, 50013, "Missing Permissions")
        return self.channels[channel_id]

    def _message(self, channel_id: int, message_id: int) -> Json:
        self._channel(channel_id)
        if message_id not in self.messages or self.messages[message_id]["channel_id"] != str(channel_id):
            raise Refused(404, 10008, "Unknown Message")
        return self.messages[message_id]

    def _history(self, channel_id: int, request: web.Request) -> list[Json]:
        self._channel(channel_id)
        before, after = (int(request.query.get(key, default)) for key, default in (("before", 2**63), ("after", 0)))
        found = [m for m in self.messages.values() if m["channel_id"] == str(channel_id)]
        found = [m for m in found if after < int(m["id"]) < before]
        limit = int(request.query.get("limit", 50))
        page = found[:limit] if "after" in request.query else found[-limit:]
        shown = page if self.gateway.shows_content else [payloads.without_content(message) for message in page]
        return shown[::-1]

    async def _post(self, channel_id: int, author_id: int, body: Json) -> Json:
        self._channel(channel_id, 1 << 11 if author_id == BOT_ID else 0)
        nonce = body.get("nonce")
        if body.get("enforce_nonce") and nonce in self._nonces:  # as Discord does for some minutes
            return self.messages[self._nonces[nonce]]
        if not body.get("content") and not body.get("embeds") and not body.get("components"):
            raise Refused(400, 50006, "Cannot send an empty message")
        if len(body.get("content") or "") > (2000 if author_id == BOT_ID else 4000):
            raise Refused(400, 50035, "Invalid Form Body")
        answered = self._answered(body)
        message: Json = {
            "id": str(self._id()),
            "channel_id": str(channel_id),
            "author": payloads.USERS[author_id],
            "content": body.get("content") or "",
            "timestamp": payloads.now(),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": body.get("embeds") or [],
            "components": body.get("components") or [],
            "pinned": False,
            "type": 19 if answered else 0,
            "flags": body.get("flags") or 0,
            "nonce": nonce,
        }
        if answered:
            reference = {"message_id": answered["id"], "channel_id": str(channel_id), "guild_id": str(GUILD_ID)}
            message |= {"message_reference": reference, "referenced_message": answered}
        self._mention(message, body, author_id)
        self.messages[int(message["id"])] = message
        if nonce is not None:
            self._nonces[nonce] = int(message["id"])
        await self.gateway.dispatch("MESSAGE_CREATE", self._placed(message))
        return message

    def _answered(self, body: Json) -> Json | None:
        reference = body.get("message_reference")
        if not reference:
            return None
        answered = self.messages.get(int(reference["message_id"]))
        if answered is None and reference.get("fail_if_not_exists", True):
            raise Refused(400, 50035, "Invalid Form Body: message_reference: Unknown message")
        return answered

    async def _edit(self, channel_id: int, message_id: int, body: Json) -> Json:
        message = self._message(channel_id, message_id)
        if len(body.get("content") or "") > 2000:
            raise Refused(400, 50035, "Invalid Form Body")
        if message["author"]["id"] != str(BOT_ID):
            raise Refused(403, 50005, "Cannot edit a message authored by another user")
        for key in ("content", "embeds", "components", "flags"):
            if key in body:
                message[key] = body[key]
        message["edited_timestamp"] = payloads.now()
        self._mention(message, body, BOT_ID)
        await self.gateway.dispatch("MESSAGE_UPDATE", self._placed(message))
        return message

    def _mention(self, message: Json, body: Json, author_id: int) -> None:
        """Resolve mentions; remember a message of the bot that notifies anyone, as its allowed_mentions let it."""
        allowed = body.get("allowed_mentions")
        parse = ["users", "roles", "everyone"] if allowed is None else allowed.get("parse", [])
        named = [int(found) for found in _MENTION.findall(message["content"])]
        answered = message.get("referenced_message")
        if answered and answered["author"]["id"] == str(BOT_ID) and author_id != BOT_ID:
            named.append(BOT_ID)
        users = [user_id for user_id in dict.fromkeys(named) if user_id in payloads.USERS]
        message["mentions"] = [payloads.USERS[user_id] for user_id in users]
        if author_id != BOT_ID:
            return
        notified: list[Any] = [u for u in users if "users" in parse or str(u) in (allowed or {}).get("users", [])]
        notified += _ROLE_MENTION.findall(message["content"]) if "roles" in parse else []
        notified += re.findall("@everyone|@here", message["content"]) if "everyone" in parse else []
        if answered and (allowed is None or allowed.get("replied_user")):
            notified.append(answered["author"]["id"])
        if notified:
            self.pings.append({**message, "notified": notified})

    def _placed(self, data: Json) -> Json:
        """Add what a gateway event says of the server."""
        if data["channel_id"] == str(DM_ID):
            return data
        placed = {**data, "guild_id": str(GUILD_ID)}
        return {**placed, "member": payloads.member()} if "author" in data else placed

    def _id(self) -> int:
        self._last_id = max(self._last_id + 1, int(time.time() * 1000 - _EPOCH_MS) << 22)
        return self._last_id

    def posts_by_nonce(self) -> Counter[str]:
        return Counter(str(m["nonce"]) for m in self.said_by_bot())


@contextlib.contextmanager
def addresses_restored() -> Iterator[None]:
    """Put discord.py's addresses back after a test pointed them at a stub."""
    import discord.gateway
    import discord.http

    before = discord.http.Route.BASE, discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY
    try:
        yield
    finally:
        discord.http.Route.BASE, discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = before
