"""What each person's page is told of the server, and what it learns nothing of."""

from __future__ import annotations

import json

from bot.demo.server import Facts
from tests.bot.demo.door import Door


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


async def test_answer_names_the_subcommand_that_was_used(door: Door) -> None:
    page, state = await door.page(door.world.moderator)
    await page.ask("slash", channel=state["channel"], name="settings speed", options={"speed": "fast"})
    assert (await page.hear_message("Speed: fast"))["command"] == {"who": "Sam", "name": "/settings speed"}


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


async def test_commands_are_those_that_the_person_may_use(door: Door) -> None:
    _, mei = await door.page(door.world.mei)
    _, sam = await door.page(door.world.moderator)
    assert [command["name"] for command in mei["commands"]["slash"]] == ["paint", "secret"]
    assert "settings speed" in [command["name"] for command in sam["commands"]["slash"]]
    assert mei["commands"]["message"] == ["Quote this"]


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
