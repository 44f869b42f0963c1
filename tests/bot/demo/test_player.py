"""What the page may ask for as a person, and how what is impossible is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bot.demo.world import LiveWorld
from tests.bot.demo.door import Door


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


async def test_members_delete_only_their_own_messages_and_moderators_any(door: Door) -> None:
    said = await door.world.say(door.world.mei, "general", "mine")
    alex, state = await door.page(door.world.alex)
    assert not state["messages"][0]["deletable"]
    request = {"channel": state["channel"], "message": str(said.id)}
    assert await alex.ask("delete", **request) == "You don't have the permission to do that here."
    sam, _ = await door.page(door.world.moderator)
    assert await sam.ask("delete", **request) == {}


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
