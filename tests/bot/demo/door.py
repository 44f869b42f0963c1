"""A running world with its server, and pages that talk to it by websocket."""

from __future__ import annotations

from typing import Any, Self

import aiohttp

from bot.demo.server import DemoServer, Facts
from bot.demo.world import LiveWorld
from tests.bot.demo.toy import ToyBot


class Page:
    """A websocket that talks as the page does."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last = 0
        self.news: list[dict[str, Any]] = []

    async def ask(self, what: str, **fields: Any) -> Any:
        self._last += 1
        await self._socket.send_json({"id": self._last, "do": what, **fields})
        while True:
            message = await self._socket.receive_json(timeout=5)
            if message.get("re") == self._last:
                return message.get("value", message.get("error"))
            self.news.append(message)

    async def hear(self, push: str, **match: Any) -> dict[str, Any]:
        """Return the next news of a kind whose fields match."""
        while True:
            for index, news in enumerate(self.news):
                if news["push"] == push and all(news.get(key) == value for key, value in match.items()):
                    return self.news.pop(index)
            self.news.append(await self._socket.receive_json(timeout=5))

    async def hear_message(self, text: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = (await self.hear("message"))["message"]
            if text in message["text"]:
                return message

    async def raw(self, text: str) -> None:
        await self._socket.send_str(text)


class Door:
    """A running world and its server."""

    def __init__(self, bot: ToyBot, **options: Any) -> None:
        self.bot = bot
        self.world = LiveWorld(bot)
        self.facts = Facts(model="toy", quantization="Q0", languages="English only")
        self.server = DemoServer(self.world, self._facts, **options)
        self.client = aiohttp.ClientSession()

    async def _facts(self, guild_id: int) -> Facts:
        assert guild_id == self.world.guild.id
        return self.facts

    async def __aenter__(self) -> Self:
        await self.world.__aenter__()
        await self.server.__aenter__()
        self.url = self.server.url
        self.origin = "/".join(self.url.split("/")[:3])
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.client.close()
        await self.server.__aexit__(None, None, None)
        await self.world.__aexit__(None, None, None)

    async def page(self, who: Any = None, channel: Any = None) -> tuple[Page, dict[str, Any]]:
        page = Page(await self.client.ws_connect(self.url + "socket", origin=self.origin))
        state = await page.ask("open", who=str(who.id) if who else None, channel=str(channel.id) if channel else None)
        return page, state

    async def status(self, path: str = "", **headers: str) -> int:
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status
