"""The page's server: who may come in, what it serves, and how much of anybody it bears."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest

from bot.demo import server
from bot.demo.server import Facts, serve
from tests.bot.demo.door import Door
from tests.bot.demo.toy import ToyBot


async def test_serve_runs_until_it_is_cancelled_and_closes_the_bot() -> None:
    bot, announced = ToyBot(), asyncio.get_running_loop().create_future()

    async def facts(_: int) -> Facts:
        return Facts()

    running = asyncio.create_task(serve(bot, facts=facts, announce=announced.set_result, open_browser=False))
    url = await asyncio.wait_for(announced, 5)
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200
    assert url.startswith("http://127.0.0.1:") and len(url.split("/")[3]) >= 32
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bot.is_closed()


async def test_page_comes_with_a_policy_that_allows_nothing_from_elsewhere(door: Door) -> None:
    async with door.client.get(door.url) as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        html = await response.text()
    assert "default-src 'none'" in policy and "unsafe" not in policy and "https:" not in policy
    assert "<script>" not in html and "style=" not in html and " on" + "click" not in html
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["", "app.js", "socket"])
async def test_wrong_key_is_refused(door: Door, path: str) -> None:
    async with door.client.get(f"{door.origin}/guess/{path}") as response:
        assert response.status == 403
        assert "full address" in await response.text()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "127.0.0.1:1; x", ""])
async def test_host_name_of_somebody_else_is_refused(door: Door, host: str) -> None:
    assert await door.status(Host=host) == 403
    assert await door.status(Host="localhost:1234") == 200


@pytest.mark.parametrize("host", ["my-pc.local", "My-PC.local"])
async def test_host_name_that_it_listens_on_is_accepted(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, port: int, *_: Any, **__: Any) -> list[Any]:
        assert name == host
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)  # the test's network knows no such name
    async with Door(ToyBot(), host=host) as door:
        port = door.url.split("/")[2].removeprefix(f"{host}:")
        door.url = door.url.replace(host, "127.0.0.1")
        own = f"my-pc.local:{port}"  # as browsers write it
        async with door.client.get(door.url, headers={"Host": own, "Origin": f"http://{own}"}) as response:
            assert response.status == 200
            assert f"ws://{own};" in response.headers["Content-Security-Policy"]
        assert await door.status() == 200
        assert await door.status(Host=f"localhost:{port}") == 200
        for other in ("my-pc", "other.local", "x.my-pc.local", "my-pc.local.evil.example", "my-pc.local; x"):
            assert await door.status(Host=other) == 403
        assert await door.status(Host=own, Origin="http://other.local") == 403


async def test_address_told_for_every_address_is_one_that_opens() -> None:
    async with Door(ToyBot(), host="0.0.0.0") as door:
        assert door.url.startswith("http://127.0.0.1:")
        assert await door.status() == 200
    assert (server._opening("::"), server._opening("::1"), server._opening("my-pc")) == ("::1", "::1", "my-pc")


async def test_host_name_that_it_does_not_listen_on_is_refused(door: Door) -> None:
    assert await door.status(Host="my-pc.local") == 403


@pytest.mark.parametrize("target", ["OPTIONS *", "CONNECT 127.0.0.1:80", "GET http://127.0.0.1"])
async def test_target_without_a_path_is_refused(door: Door, target: str) -> None:
    host, port = door.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"full address" in answer
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
async def test_other_origins_are_refused(door: Door, origin: str) -> None:
    assert await door.status(Origin=origin) == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await door.client.ws_connect(door.url + "socket", origin=origin)
    assert refused.value.status == 403


async def test_websocket_without_an_origin_is_refused(door: Door) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await door.client.ws_connect(door.url + "socket")


@pytest.mark.parametrize("path", ["nothing.js", "..%2fserver.py", "%2e%2e/server.py"])
async def test_only_the_pages_own_files_are_served(door: Door, path: str) -> None:
    assert await door.status(path) in (403, 404)


async def test_page_weighs_at_most_120_kilobytes(door: Door) -> None:
    assert sum(len(body) for body in door.server._files.values()) <= 120_000


async def test_too_long_a_message_closes_the_connection(door: Door) -> None:
    page, _ = await door.page()
    await page.raw(json.dumps({"id": 9, "do": "send", "text": "x" * 70_000}))
    message = await page._socket.receive(timeout=5)
    while message.type is aiohttp.WSMsgType.TEXT:
        message = await page._socket.receive(timeout=5)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)


async def test_page_that_never_reads_holds_nobody_up(door: Door) -> None:
    silent = await door.client.ws_connect(door.url + "socket", origin=door.origin)
    await silent.send_json({"id": 1, "do": "open"})
    page, state = await door.page(door.world.mei)
    async with asyncio.timeout(5):
        for number in range(50):
            await page.ask("send", channel=state["channel"], text=f"line {number} " + "x" * 1500)
    await page.hear_message("line 49")


async def test_pages_beyond_the_limit_are_refused(door: Door) -> None:
    pages = [await door.page() for _ in range(16)]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await door.page()
    await pages[0][0]._socket.close()
    await door.page()
