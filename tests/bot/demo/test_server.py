"""The page's server: who may come in, what each person is told, and what the page may ask for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import pytest

from bot.demo import server
from bot.demo.server import DemoServer, Facts, serve
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


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door(ToyBot()) as door:
        yield door


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


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": "x"}', "nonsense", '{"id": null, "do": "send"}', "[" * 10_000]
)
async def test_unreadable_request_is_answered_and_survived(door: Door, text: str) -> None:
    page, _ = await door.page()
    await page.raw(text)
    assert "unreadable" in (await page.hear("trouble"))["error"]
    assert (await page.ask("open"))["server"] == "Encore demo"


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("nothing", {}),
        ("send", {}),
        ("send", {"text": 5}),
        ("send", {"text": "x" * 5000}),
        ("send", {"text": "x" * 2001}),
        ("send", {"text": "hi", "reply": "1"}),
        ("send", {"text": "half \ud83d"}),
        ("send", {"text": "hi", "channel": "9" * 30}),
        ("react", {"message": "1", "emoji": "👍", "on": True}),
        ("thread", {"name": ""}),
        ("click", {"message": {"a": 1}, "custom_id": "x"}),
        ("slash", {"name": "paint", "options": {"colour": 3}}),
        ("slash", {"name": "paint", "options": {"nonsense": "3"}}),
        ("slash", {"name": "paint", "options": [1]}),
        ("slash", {"name": "paint", "options": {"colour": "red", "times": "10"}}),
        ("slash", {"name": "settings show", "options": {}}),
        ("slash", {"name": "none", "options": {}}),
        ("autocomplete", {"name": "paint", "option": "whom", "value": "", "filled": {}}),
        ("submit", {"token": "guess", "values": {}}),
        ("menu", {"message": "1", "name": "Quote this"}),
    ],
)
async def test_impossible_request_is_refused_in_one_sentence(door: Door, what: str, fields: dict[str, Any]) -> None:
    page, state = await door.page(door.world.mei)
    error = await page.ask(what, **{"channel": state["channel"], **fields})
    assert isinstance(error, str) and error.endswith(".")
    assert "Something broke" not in error
    assert door.world.messages("general") == []


async def test_reply_streams_to_the_page_as_its_newest_state(door: Door) -> None:
    page, state = await door.page(door.world.mei)
    assert await page.ask("send", channel=state["channel"], text="@Encore你好") == {}
    said = await page.hear_message("@Encore你好")
    assert said["own"] and '<span class="mention">@Encore</span>你好' in said["html"]
    await page.hear("typing", name="Encore")
    done = await page.hear_message("word4 done")
    assert done["author"]["tag"] == "AI"
    assert done["reply"] == {"id": said["id"], "name": "Mei 小美", "text": "@Encore你好"}
    assert done["html"].endswith('<p class="subtext">done</p>\n')


async def test_members_learn_nothing_of_the_mod_room(door: Door) -> None:
    mei, state = await door.page(door.world.mei, door.world.mod_room)
    assert "mod-room" not in json.dumps(state)
    assert state["channel"] == str(door.world.general.id)
    sam, his = await door.page(door.world.moderator, door.world.mod_room)
    await sam.ask("send", channel=his["channel"], text="between us")
    await sam.hear_message("between us")
    error = await mei.ask("send", channel=his["channel"], text="let me in")
    assert error == "You can't see that."
    await mei.ask("send", channel=state["channel"], text="last")
    await mei.hear_message("last")
    assert "between us" not in json.dumps(mei.news)
    assert [news for news in mei.news if news["push"] == "unread"] == []


async def test_ephemeral_answer_reaches_its_member_alone(door: Door) -> None:
    mei, state = await door.page(door.world.mei)
    alex, _ = await door.page(door.world.alex)
    await mei.ask("slash", channel=state["channel"], name="secret", options={})
    thinking = (await mei.hear("message"))["message"]
    assert thinking["thinking"] and thinking["ephemeral"]
    told = await mei.hear_message("The secret is 42.")
    assert told["command"] == {"who": "Mei 小美", "name": "/secret"}
    await mei.ask("send", channel=state["channel"], text="last")
    await alex.hear_message("last")
    assert "secret" not in json.dumps(alex.news) and told["id"] not in json.dumps(alex.news)
    assert (
        await alex.ask("react", channel=state["channel"], message=told["id"], emoji="👍", on=True)
        == "You can't see that."
    )


async def test_other_channels_are_marked_unread(door: Door) -> None:
    page, _ = await door.page(door.world.mei)
    await door.world.say(door.world.alex, "stage", "over here")
    assert (await page.hear("unread"))["channel"] == str(door.world.stage.id)


async def test_deleted_message_leaves_the_page(door: Door) -> None:
    page, state = await door.page(door.world.mei)
    await page.ask("send", channel=state["channel"], text="oops")
    said = await page.hear_message("oops")
    assert await page.ask("delete", channel=state["channel"], message=said["id"]) == {}
    assert (await page.hear("gone"))["message"] == said["id"]


async def test_members_delete_only_their_own_messages_and_moderators_any(door: Door) -> None:
    said = await door.world.say(door.world.mei, "general", "mine")
    alex, state = await door.page(door.world.alex)
    assert not state["messages"][0]["deletable"]
    request = {"channel": state["channel"], "message": str(said.id)}
    assert await alex.ask("delete", **request) == "You don't have the permission to do that here."
    sam, _ = await door.page(door.world.moderator)
    assert await sam.ask("delete", **request) == {}


async def test_reaction_shows_whose_it_is(door: Door) -> None:
    said = await door.world.say(door.world.alex, "general", "react to this")
    page, state = await door.page(door.world.mei)
    request = {"channel": state["channel"], "message": str(said.id), "emoji": "❤️"}
    await page.ask("react", **request, on=True)
    [reaction] = (await page.hear_message("react to this"))["reactions"]
    assert reaction == {"emoji": "❤️", "key": "❤️", "count": 1, "mine": True, "names": ["Mei 小美"]}
    await page.ask("react", **request, on=False)
    assert (await page.hear_message("react to this"))["reactions"] == []
    assert await page.ask("react", **{**request, "emoji": "<b>"}, on=True) == "That emoji isn't in the picker."


async def test_missing_permission_is_told_in_one_sentence(door: Door) -> None:
    page, _ = await door.page(door.world.mei, door.world.announcements)
    error = await page.ask("send", channel=str(door.world.announcements.id), text="me too")
    assert error == "You don't have the permission to do that here."


async def test_slash_command_takes_typed_options_and_entities(door: Door) -> None:
    page, state = await door.page(door.world.mei)
    alex = str(door.world.alex.id)
    options = {"colour": "red", "times": "2", "whom": alex, "loud": True}
    assert await page.ask("slash", channel=state["channel"], name="paint", options=options) == {}
    await page.hear_message("PAINTED 2X RED FOR ALEX")
    answer = await page.ask(
        "autocomplete", channel=state["channel"], name="paint", option="colour", value="gr", filled={"times": "x"}
    )
    assert answer == {"choices": [{"name": "Green", "value": "green"}]}


async def test_commands_are_those_that_the_person_may_use(door: Door) -> None:
    _, mei = await door.page(door.world.mei)
    _, sam = await door.page(door.world.moderator)
    assert [command["name"] for command in mei["commands"]["slash"]] == ["paint", "secret"]
    assert "settings speed" in [command["name"] for command in sam["commands"]["slash"]]
    assert mei["commands"]["message"] == ["Quote this"]


async def test_button_shows_a_modal_once(door: Door) -> None:
    page, state = await door.page(door.world.mei)
    await page.ask("send", channel=state["channel"], text="@Encore hi")
    done = await page.hear_message("word4 done")
    answer = await page.ask("click", channel=state["channel"], message=done["id"], custom_id="toy:why")
    why, better = answer["modal"]["fields"]
    assert (why["label"], better["required"]) == ("Why", False)
    filled = {"token": answer["modal"]["token"], "values": {why["custom_id"]: "太短了"}}
    assert "cannot be empty" in await page.ask("submit", **{**filled, "values": {why["custom_id"]: ""}})
    assert await page.ask("submit", **filled) == {}
    await page.hear_message("Thanks: 太短了")
    assert await page.ask("submit", **filled) == "That form is out of date; open it again."


async def test_select_and_message_command_answer_to_the_member(door: Door) -> None:
    page, state = await door.page(door.world.mei)
    await page.ask("send", channel=state["channel"], text="@Encore hi")
    done = await page.hear_message("word4 done")
    request = {"channel": state["channel"], "message": done["id"]}
    assert await page.ask("select", **request, custom_id="toy:mood", values=["青色"]) == {}
    await page.hear_message("Mood: 青色")
    assert "does not exist" in await page.ask("select", **request, custom_id="toy:mood", values=["pink"])
    assert await page.ask("menu", **request, name="Quote this") == {}
    await page.hear_message("You said hi")


async def test_unanswered_button_says_so(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LiveWorld.answered.__kwdefaults__, "seconds", 0.1)
    page, state = await door.page(door.world.mei)
    await page.ask("send", channel=state["channel"], text="@Encore hi")
    done = await page.hear_message("word4 done")
    error = await page.ask("click", channel=state["channel"], message=done["id"], custom_id="toy:break")
    assert error == "The application did not respond."


async def test_thread_opens_from_a_message_and_shows_on_it(door: Door) -> None:
    said = await door.world.say(door.world.alex, "general", "a topic")
    page, state = await door.page(door.world.mei)
    answer = await page.ask("thread", channel=state["channel"], message=str(said.id), name="About it")
    assert (await page.hear_message("a topic"))["thread"]["name"] == "About it"
    state = await page.ask("open", who=state["me"], channel=answer["channel"])
    assert next(channel for channel in state["channels"] if channel["id"] == answer["channel"])["kind"] == "thread"


async def test_direct_messages_are_between_the_member_and_the_bot(door: Door) -> None:
    dm = door.world.dm_channel(door.world.mei)
    mei, state = await door.page(door.world.mei, dm)
    assert state["channel"] == str(dm.id)
    await mei.ask("send", channel=str(dm.id), text="psst")
    await mei.hear_message("word4 done")
    _, other = await door.page(door.world.alex, dm)
    assert other["channel"] != str(dm.id)


async def test_character_by_webhook_shows_its_own_name(door: Door) -> None:
    page, _ = await door.page(door.world.mei)
    async with door.world.lock:
        hook = door.world.guild.create_webhook(door.world.general, "Characters")
        await hook.send("The curtain rises.", username="Aria", avatar_url="https://x.example/a.png")
    message = await page.hear_message("The curtain rises.")
    assert (message["author"]["name"], message["author"]["tag"]) == ("Aria", "AI")
    assert "x.example" not in json.dumps(message)


async def test_facts_arrive_when_they_change(door: Door) -> None:
    page, _ = await door.page(door.world.mei)
    first = (await page.hear("facts"))["facts"]
    assert first["votes_up"] == 0
    door.facts = Facts(votes_up=1, model="toy")
    said = await door.world.say(door.world.alex, "general", "x")
    await door.world.react(door.world.mei, said, "👍")
    assert (await page.hear("facts"))["facts"]["votes_up"] == 1


async def test_lost_channel_takes_the_page_back_to_general(door: Door) -> None:
    page, state = await door.page(door.world.mei, door.world.stage)
    await door.world.delete_channel("stage")
    moved = (await page.hear("state"))["state"]
    assert moved["channel"] == str(door.world.general.id)
    assert await page.ask("send", channel=state["channel"], text="still here?") == "That channel is gone."


async def test_reopened_page_gets_what_it_missed(door: Door) -> None:
    page, _ = await door.page(door.world.mei)
    await page._socket.close()
    await door.world.say(door.world.alex, "general", "you missed this")
    _, state = await door.page(door.world.mei)
    assert [message["text"] for message in state["messages"]] == ["you missed this"]


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
