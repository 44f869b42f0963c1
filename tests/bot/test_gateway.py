"""The first connection to the gateway: tried again while it fails, given up only where the address must be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import discord
import pytest
from aiohttp import web

from bot import gateway
from bot.client import EncoreBot, build_bot
from bot.errors import StartError
from bot.settings import Settings
from bot.store import Store
from tests.faults.discord_stub import DiscordStub, addresses_restored
from tests.world import echo_model

_SECONDS = 20
_NOBODY = "ws://127.0.0.1:9"


class Door:
    """Stands before the stub's gateway and spoils the first `times` connections: a status, or a close code."""

    def __init__(self, stub: DiscordStub, *, status: int = 0, close: int = 0, times: int = 1) -> None:
        self._stub, self._status, self._close, self._times = stub, status, close, times
        self.tries = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.tries += 1
        if self.tries > self._times:
            return await self._stub.gateway.serve(request)
        if self._status:
            return web.Response(status=self._status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close(code=self._close)
        return socket


@asynccontextmanager
async def opened(door: Door) -> AsyncIterator[str]:
    """Open the door; give its address."""
    app = web.Application()
    app.router.add_get("/", door.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        door._stub.gateway.drop()
        await runner.cleanup()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the up to two seconds that discord.py waits after a failed connection."""
    monkeypatch.setattr(discord.client.ExponentialBackoff, "delay", lambda _: 0.0)


@asynccontextmanager
async def a_bot(stub: DiscordStub, folder: Path, address: str) -> AsyncIterator[EncoreBot]:
    settings = Settings(data_dir=folder, discord_token=stub.token, discord_api_base=stub.api, discord_gateway=address)
    with addresses_restored():
        async with await Store.open(settings.database) as store:
            model = echo_model(folder)
            bot = build_bot(settings, store, model)
            bot._connection.guild_ready_timeout = 0.05
            try:
                yield bot
            finally:
                await model.aclose()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", [{"status": 503}, {"close": 4000}, {"close": 1000}], ids=["503", "4000", "1000"])
async def test_first_connection_that_fails_is_tried_again(tmp_path: Path, fault: dict[str, int]) -> None:
    async with DiscordStub() as stub:
        door = Door(stub, times=2, **fault)
        async with opened(door) as address, a_bot(stub, tmp_path, address) as bot:
            running = asyncio.create_task(gateway.run(bot, stub.token, patience_seconds=0, first_wait_seconds=0.01))
            async with asyncio.timeout(_SECONDS):
                while not (bot.is_ready() or running.done()):
                    await asyncio.sleep(0.01)
            assert bot.is_ready(), running.exception()
            assert (door.tries, stub.gateway.identifies) == (3, 1)
            await bot.close()
            await running


@pytest.mark.usefixtures("at_once")
async def test_gateway_set_by_hand_where_nothing_listens_ends_with_the_remedy(tmp_path: Path) -> None:
    async with DiscordStub() as stub, a_bot(stub, tmp_path, _NOBODY) as bot:
        with pytest.raises(StartError, match="DISCORD_GATEWAY: ws://127.0.0.1:9 can't be reached .* correct it"):
            await asyncio.wait_for(
                gateway.run(bot, stub.token, patience_seconds=0.05, first_wait_seconds=0.01), _SECONDS
            )


@pytest.mark.usefixtures("at_once")
async def test_discords_own_gateway_is_waited_for(tmp_path: Path) -> None:
    async with DiscordStub() as stub, a_bot(stub, tmp_path, _NOBODY) as bot:
        bot.settings = replace(bot.settings, discord_gateway="")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gateway.run(bot, stub.token, patience_seconds=0, first_wait_seconds=0.01), 0.5)
