"""/mod filter and /mod quota: what a moderator gets, what it changes for members, and that a member is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.filter_options import HELP, MOST_WORDS
from bot.gate import LIMITS
from bot.moderation.findings import Audience, Category
from bot.records import ServerSettings
from bot.screening import THRESHOLDS, Screening
from tests.bot.test_screening import HATEFUL, Embedded
from tests.cogs.commands import assert_hidden, assert_refused, audit, fields, leaves, run, show_to_members
from tests.cogs.nights import FakeNightly, choose_mod_room
from tests.world import World, live_world

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("mod filter add", {"kind": "word", "entry": "darn"}),
    ("mod filter remove", {"entry": "darn"}),
    ("mod filter list", {}),
    ("mod filter test", {"text": "hello"}),
    ("mod filter action", {"category": "word", "action": "ignore"}),
    ("mod filter age", {"channel": "general", "rule": "everybody"}),
    ("mod filter threshold", {"category": "hate", "value": 0.9}),
    ("mod quota show", {}),
    ("mod quota set", {"limit": "messages_per_day", "value": "5"}),
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, screening=Screening(Embedded()), nightly=FakeNightly(tmp_path)) as world:
        yield world


async def settings(world: World) -> ServerSettings:
    return await world.store.server_settings(world.guild.id)


async def told(world: World, command: str, **options: Any) -> str:
    return str((await run(world, command, **options)).content)


async def answer_to(world: World, text: str, count: int) -> str:
    await world.ask(world.alice, "general", text)
    return str((await world.answered_in("general", count))[-1].content)


# ---------------------------------------------------------------------- who may


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    found = leaves(world.backend.find_command("mod", world.guild.id, type=1))
    assert [name for name, _ in COMMANDS] == [name for name in found if name.startswith(("mod filter ", "mod quota "))]


async def test_commands_are_hidden_from_members_and_none_is_offered_outside_mod(world: World) -> None:
    assert_hidden(world, "mod")
    for group in ("filter", "quota"):
        assert world.backend.find_command(group, world.guild.id, type=1) is None


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=[name for name, _ in COMMANDS])
async def test_members_who_see_a_command_are_still_refused(world: World, command: str, options: dict[str, Any]) -> None:
    show_to_members(world, command.split()[0])
    given = {name: world.general if name == "channel" else value for name, value in options.items()}
    await assert_refused(world, await world.slash(world.alice, "general", command, **given))
    assert await settings(world) == ServerSettings()


async def test_every_category_has_its_words() -> None:
    assert set(HELP) == set(Category)


# ---------------------------------------------------------------------- entries


async def test_word_is_added_works_at_once_and_is_removed(world: World) -> None:
    assert "The word `darn` is in the filter." in await told(world, "mod filter add", kind="word", entry=" darn ")
    assert (
        await answer_to(world, "d4rn it", 1) == "-# I don't answer this: this server's word filter does not allow it."
    )
    assert await audit(world) == [(world.moderator.id, "settings", {"filter_words": [[], ["darn"]]})]
    offered = await world.autocomplete(world.moderator, "general", "mod filter remove", "entry", "ar")
    assert [(choice["name"], choice["value"]) for choice in offered] == [("word: darn", "darn")]
    assert await told(world, "mod filter remove", entry="darn") == "The word `darn` is out of the filter."
    assert await answer_to(world, "dаrn it", 2) == "dаrn it"


async def test_pattern_is_checked_and_found(world: World) -> None:
    for bad, why in (("(", "not a regular expression"), (".*", "matches every message"), ("a{900}{900}", "braces")):
        assert why in await told(world, "mod filter add", kind="pattern", entry=bad)
    await told(world, "mod filter add", kind="pattern", entry=r"free\s+nitro")
    assert (await settings(world)).filter_patterns == [r"free\s+nitro"]
    assert "word filter" in await answer_to(world, "get FREE   nitro", 1)


async def test_message_that_a_pattern_cannot_be_finished_on_is_refused_and_the_pattern_stays_on(world: World) -> None:
    await told(world, "mod filter add", kind="pattern", entry=r"(x|xx)+$|evil\.ru")
    for count in range(4):
        assert "word filter" in await answer_to(world, f"{'x' * (60 + count)} see evil.ru now", count + 1)
    assert "word filter" in await answer_to(world, "see evil.ru now", 5)
    assert "couldn't be finished on this text" in await told(world, "mod filter test", text="x" * 60 + "!")


async def test_pattern_that_takes_too_long_for_several_members_rests_and_moderators_learn_of_it(world: World) -> None:
    await choose_mod_room(world)
    await told(world, "mod filter add", kind="pattern", entry=r"(a|aa)+$")
    slow = "a" * 60 + "!"
    for count, member in enumerate((world.alice, world.alice, world.bob, world.moderator)):
        await world.ask(member, "general", slow)
        assert "word filter" in (await world.answered_in("general", count + 1))[-1].content
    posted = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds][2:])
    (card,) = posted[0].embeds
    assert "couldn't be finished on this text in time, so it counts as found" in card["description"]
    assert "rests for ten minutes" in card["description"]
    shown = fields(await run(world, "mod filter list"))
    assert "`(a|aa)+$`" in shown["Patterns that rest"] and "simpler" in shown["Patterns that rest"]
    assert "word filter" not in await answer_to(world, slow, 5)


async def test_brought_list_and_site(world: World) -> None:
    assert "my lists are en and zh" in await told(world, "mod filter add", kind="list", entry="fr")
    await told(world, "mod filter add", kind="list", entry="en")
    assert "word filter" in await answer_to(world, "you bitch", 1)
    world.engine.says = "See https://my-fans.net/page for more."
    assert "a site that is not allowed" in await answer_to(world, "where?", 2)
    await told(world, "mod filter add", kind="site", entry="https://My-Fans.net/page")
    assert (await settings(world)).filter_sites == ["my-fans.net"]
    assert await answer_to(world, "and now?", 3) == world.engine.says


@pytest.mark.parametrize(
    ("kind", "entry", "why"),
    [
        ("word", "**", "would match every message"),
        ("word", "x" * 61, "1 to 60 characters"),
        ("site", "no site", "such as wikipedia.org"),
    ],
)
async def test_entry_that_cannot_be_used_is_refused_in_a_sentence(
    world: World, kind: str, entry: str, why: str
) -> None:
    assert why in await told(world, "mod filter add", kind=kind, entry=entry)
    assert await settings(world) == ServerSettings()


async def test_filter_has_room_for_so_many_words_and_each_once(world: World) -> None:
    words = [f"word{number}x" for number in range(MOST_WORDS - 1)]
    await world.store.change_server_settings(world.guild.id, 1, filter_words=words)
    assert "there already" in await told(world, "mod filter add", kind="word", entry=words[0])
    assert "in the filter" in await told(world, "mod filter add", kind="word", entry="last")
    assert f"room for {MOST_WORDS}" in await told(world, "mod filter add", kind="word", entry="more")
    assert "it is not in the filter" in await told(world, "mod filter remove", entry="more")


# ---------------------------------------------------------------------- what follows


async def test_test_shows_what_is_found_and_what_follows(world: World) -> None:
    await told(world, "mod filter add", kind="word", entry="darn")
    shown = await told(world, "mod filter test", text=f"d4rn, write to kim.lee@mail-host.com. {HATEFUL[0]}")
    assert "**word** `d4rn`, read as `darn`: messages hide, my answers hide" in shown
    assert "**personal** `kim.lee@mail-host.com`" in shown and "messages ignore, my answers hide" in shown
    assert "**hate**" in shown
    assert await told(world, "mod filter test", text="hello") == "The filter finds nothing in it."
    assert world.replies("general") == []


async def test_action_is_changed_on_one_side_or_both_and_taken_back(world: World) -> None:
    await told(world, "mod filter add", kind="word", entry="darn")
    shown = await told(world, "mod filter action", category="word", action="ignore", side="messages")
    assert shown == "Where I find listed words in this channel: messages ignore, my answers hide."
    assert (await answer_to(world, "darn", 1)).startswith("-# This answer is left out")
    await told(world, "mod filter action", category="word", action="ignore")
    assert await answer_to(world, "darn", 2) == "darn"
    await told(world, "mod filter action", category="word", action="default")
    assert (await settings(world)).filter_actions == {}
    assert "word filter" in await answer_to(world, "darn", 3)


async def test_threshold_lifts_no_rule_on_sexual_content_where_not_adults_alone_read(world: World) -> None:
    raised = await told(world, "mod filter threshold", category="sexual", value=1.0)
    assert "stays 0.8" in raised and "always hidden" in raised
    assert "sexual 0.8" in fields(await run(world, "mod filter list"))["The classifier's thresholds"]
    assert (await world.bot.gate.screening.policy(await settings(world), Audience.ADULT)).thresholds["sexual"] == 1.0
    lowered = await told(world, "mod filter threshold", category="sexual", value=0.5)
    assert "always hidden" not in lowered
    assert "sexual 0.5" in fields(await run(world, "mod filter list"))["The classifier's thresholds"]


async def test_threshold_decides_what_the_classifier_finds(world: World) -> None:
    shown = await told(world, "mod filter threshold", category="hate", value=1.0)
    assert shown == "hate is found from a score of 1 on (default: 0.75)."
    assert "**hate**" not in await told(world, "mod filter test", text=HATEFUL[0])
    assert "from a score of 0.75" in await told(world, "mod filter threshold", category="hate")
    assert "**hate**" in await told(world, "mod filter test", text=HATEFUL[0])
    assert (await settings(world)).filter_thresholds == {}
    assert set(THRESHOLDS) <= {kind.value for kind in Category}


# ---------------------------------------------------------------------- quotas


async def test_quota_is_set_for_members_roles_and_channels_and_shown(world: World) -> None:
    assert await told(world, "mod quota set", limit="tokens_per_day", value="5000") == (
        "Each member: 30 questions a minute, 5,000 tokens a day."
    )
    channel = f"<#{world.general.id}>"
    shown = await told(world, "mod quota set", limit="seconds_between", value="10", channel=world.general)
    assert shown == f"{channel}: 10 seconds between two questions."
    shown = await told(world, "mod quota show")
    assert f"{channel}: 10 seconds" in shown and "Each member: 30 questions a minute, 5,000 tokens" in shown
    await told(world, "mod quota set", limit="tokens_per_day", value="none")
    await told(world, "mod quota set", limit="messages_per_minute", value="default")
    await told(world, "mod quota set", limit="seconds_between", value="none", channel=world.general)
    assert (await settings(world)).quotas == ServerSettings().quotas
    assert [entry[1] for entry in await audit(world)] == ["settings"] * 4


async def test_quota_works_at_once(world: World) -> None:
    await told(world, "mod quota set", limit="messages_per_day", value="1")
    assert await answer_to(world, "hello", 1) == "hello"
    assert "all of your answers for today" in await answer_to(world, "hello", 2)


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
async def test_quota_is_a_whole_number(world: World, value: str) -> None:
    assert "use a whole number, none or default" in await told(
        world, "mod quota set", limit="messages_per_day", value=value
    )
    assert await settings(world) == ServerSettings()


async def test_every_limit_can_be_shown(world: World) -> None:
    for limit in LIMITS:
        await told(world, "mod quota set", limit=limit, value="7", every_channel=True)
    assert "Each channel: 7 questions a minute, 7 questions a day, 7 tokens a day, 7 seconds between" in await told(
        world, "mod quota show"
    )
