"""Every /training command but run: what a moderator gets, and that a member is refused. Nights are in test_nights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.errors import NightRefused
from bot.learning_records import NightOutcome, NightState
from tests.cogs.commands import (
    assert_hidden,
    assert_refused,
    embed_of,
    fields,
    leaves,
    run,
    show_to_members,
    words,
)
from tests.cogs.nights import (
    BEGAN,
    Canary,
    Decision,
    FakeNightly,
    Serving,
    choose_mod_room,
    night,
    progress,
    verdict,
)
from tests.cogs.rating import said
from tests.world import World, live_world

# ---------------------------------------------------------------------- who may


COMMANDS: dict[str, dict[str, Any]] = {
    "training status": {},
    "training history": {},
    "training compare": {"a": "2026-11-24", "b": "2026-11-23"},
    "training run": {},
    "training rollback": {},
    "training freeze": {},
    "training unfreeze": {},
}


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    assert set(leaves(world.backend.find_command("training", world.guild.id, type=1))) == set(COMMANDS)


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, "training")
    assert not any(name.startswith("training") for name in world.alice.available_commands(world.general))
    assert any(name.startswith("training") for name in world.moderator.available_commands(world.general))


async def test_descriptions_are_short_sentences_without_a_full_stop(world: World) -> None:
    for told in words(world.backend.find_command("training", world.guild.id, type=1)):
        assert 8 <= len(told) <= 100
        assert not told.endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
async def test_member_who_was_shown_a_command_is_refused(world: World, nightly: FakeNightly, command: str) -> None:
    show_to_members(world, "training")
    await assert_refused(world, await world.slash(world.alice, "general", command, **COMMANDS[command]))
    assert (nightly.begun, nightly.rolled_back, nightly.frozen) == ([], [], False)


@pytest.mark.parametrize(("command", "option"), [("training rollback", "to"), ("training compare", "a")])
async def test_member_who_was_shown_the_commands_is_offered_no_values(
    world: World, nightly: FakeNightly, command: str, option: str
) -> None:
    nightly.nights = [night()]
    show_to_members(world, "training")
    assert await world.autocomplete(world.alice, "general", command, option, "") == []


async def test_without_a_nightly_there_are_no_commands(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        assert world.backend.find_command("training", world.guild.id, type=1) is None


# ---------------------------------------------------------------------- status


async def test_status_tells_what_serves_and_when_the_next_night_is(world: World, nightly: FakeNightly) -> None:
    nightly.nights = [night()]
    shown = await run(world, "training status")
    assert fields(shown) == {
        "Serving": "`2026-11-24-kto`",
        "Next night": f"<t:{int(BEGAN) + 86_400}:f>, <t:{int(BEGAN) + 86_400}:R>",
        "Last night": "**2026-11-24** promoted · `2026-11-24-kto` · took 12 minutes",
    }


async def test_status_before_the_first_night(world: World, nightly: FakeNightly) -> None:
    nightly.serving, nightly.next_at = Serving(), None
    shown = fields(await run(world, "training status"))
    assert shown["Serving"] == "the base model"
    assert shown["Next night"] == "none is planned: NIGHT_HOUR is off, or I can't learn"
    assert shown["Last night"] == "There was none yet."


async def test_status_of_a_canary_tells_its_share_and_what_is_known_of_it(world: World, nightly: FakeNightly) -> None:
    nightly.serving = Serving("old", Canary("new", 0.5, BEGAN), ("old",))
    assert fields(await run(world, "training status"))["Canary"] == (
        "`new` answers 50 % of the conversations. Nothing can be said of it yet."
    )
    nightly.verdict = verdict(Decision.CONTINUE)
    assert "40 % good against 60 %." in fields(await run(world, "training status"))["Canary"]


async def test_status_of_a_running_night_has_a_bar(world: World, nightly: FakeNightly) -> None:
    nightly.running = progress("Training by thumbs.", 5, 10)
    assert fields(await run(world, "training status"))["Now"].splitlines()[:2] == [
        "Training by thumbs.",
        "▰▰▰▰▰▰▱▱▱▱▱▱ 5 of 10",
    ]


async def test_status_shows_warnings_and_a_freeze(world: World, nightly: FakeNightly) -> None:
    nightly.warnings, nightly.frozen, nightly.next_at = ("The adapter x is damaged.",), True, None
    shown = await run(world, "training status")
    assert fields(shown)["Warnings"] == "- The adapter x is damaged."
    assert fields(shown)["Next night"] == "none while learning is frozen"
    assert str(embed_of(shown).description).startswith("Learning is frozen")


# ---------------------------------------------------------------------- history and compare


async def test_history_lists_the_newest_first_with_what_came_of_each(world: World, nightly: FakeNightly) -> None:
    nightly.nights = [
        night("2026-11-25", outcome=NightOutcome.INSUFFICIENT, adapter=None, more_ratings_needed=1200),
        night("2026-11-24"),
        night("2026-11-23", state=NightState.FAILED, outcome=None, adapter=None, finished_at=BEGAN + 40),
    ]
    assert str(embed_of(await run(world, "training history")).description).splitlines() == [
        "**2026-11-25** insufficient · took 12 minutes · It takes at least 1,200 more ratings to begin.",
        "**2026-11-24** promoted · `2026-11-24-kto` · took 12 minutes",
        "**2026-11-23** failed · took 40 seconds",
    ]


async def test_history_without_nights_names_the_command_that_begins_one(world: World) -> None:
    assert embed_of(await run(world, "training history")).description == (
        "There was none yet; /training run begins one."
    )


async def test_compare_sets_figures_side_by_side(world: World, nightly: FakeNightly) -> None:
    nightly.nights = [
        night("2026-11-25", figures={"votes": 1500, "preference_auc": 0.625}),
        night("2026-11-24", figures={"votes": 1200, "anchor_rise": 0.25}),
    ]
    shown = embed_of(await run(world, "training compare", a="2026-11-24", b="2026-11-25"))
    assert shown.title == "Nights 2026-11-24 and 2026-11-25"
    assert str(shown.description).strip("`\n").splitlines() == [
        "                2026-11-24  2026-11-25  change",
        "votes                1,200       1,500    +300",
        "anchor rise           0.25           -",
        "preference auc           -       0.625",
    ]


async def test_compare_of_hundreds_of_figures_fits_into_a_message(world: World, nightly: FakeNightly) -> None:
    many = {f"a_figure_with_quite_a_long_name_{n}_{'x' * 80}": float(n) for n in range(300)}
    nightly.nights = [night("2026-11-25", figures=many), night("2026-11-24", figures=many)]
    shown = embed_of(await run(world, "training compare", a="2026-11-24", b="2026-11-25"))
    assert len(str(shown.description)) <= 4096
    assert str(shown.description).endswith("```")
    assert str(shown.footer.text).endswith("further figures are in the reports.")


async def test_compare_with_a_night_that_never_was_names_it(world: World, nightly: FakeNightly) -> None:
    nightly.nights = [night()]
    result = await world.slash(world.moderator, "general", "training compare", a="2026-11-24", b="1999-01-01")
    assert await said(world, result) == "There is no night 1999-01-01; /training history lists them."
    world.env._errors.clear()


async def test_nights_are_offered_while_typing(world: World, nightly: FakeNightly) -> None:
    nightly.nights = [night("2026-11-25", outcome=NightOutcome.REJECTED), night("2026-11-24")]
    offered = await world.autocomplete(world.moderator, "general", "training compare", "b", "reject", a="x")
    assert [(choice["name"], choice["value"]) for choice in offered] == [("2026-11-25: rejected", "2026-11-25")]


# ---------------------------------------------------------------------- rollback


async def ask_rollback(world: World, **options: Any) -> Any:
    return await run(world, "training rollback", **options)


async def press(world: World, question: Any, label: str, *, by: Any = None) -> Any:
    return await world.answered(await world.click(by or world.moderator, question, label=label))


async def test_rollback_asks_first_then_serves_and_tells_all_moderators(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    question = await ask_rollback(world)
    assert question.content == (
        "Shall what answered before answer everyone again, at once, instead of `2026-11-24-kto`?"
    )
    assert nightly.rolled_back == []
    await press(world, question, "Roll back")
    await world.eventually(lambda: nightly.rolled_back == [(None, world.moderator.id)])
    (told,) = await world.eventually(lambda: world.replies("mod-room"))
    assert embed_of(told).description == (
        "Sam had `2026-11-20-sft` answer everyone again, instead of `2026-11-24-kto`."
    )
    await world.eventually(lambda: question.embeds)
    assert (question.content, question.components) == ("", [])


async def test_rollback_to_the_base_model(world: World, nightly: FakeNightly) -> None:
    question = await ask_rollback(world, to="base")
    assert question.content.startswith("Shall the base model answer everyone again")
    await press(world, question, "Roll back")
    await world.eventually(lambda: nightly.rolled_back == [("base", world.moderator.id)])


async def test_rollback_can_be_left(world: World, nightly: FakeNightly) -> None:
    question = await ask_rollback(world)
    await press(world, question, "Leave it")
    await world.eventually(lambda: question.content == "Nothing was changed.")
    assert question.components == []
    assert nightly.rolled_back == []


async def test_rollback_to_what_is_not_there_is_refused_without_a_question(world: World, nightly: FakeNightly) -> None:
    answer = await ask_rollback(world, to="@everyone *x*")
    assert answer.content.startswith("I have no adapter “@everyone")
    assert answer.components == []
    assert nightly.rolled_back == []


async def test_rollback_that_fails_says_why_and_changes_nothing(world: World, nightly: FakeNightly) -> None:
    question = await ask_rollback(world)
    nightly.refusal = NightRefused("There is nothing before it.")
    result = await press(world, question, "Roll back")
    assert await said(world, result) == "There is nothing before it."
    await world.eventually(lambda: question.content == "Nothing was changed.")
    world.env._errors.clear()


async def test_who_is_no_moderator_any_more_cannot_confirm_a_rollback(world: World, nightly: FakeNightly) -> None:
    question = await ask_rollback(world)
    moderators = world.guild.roles["Moderator"]
    world.backend.remove_member_role(world.guild.id, world.moderator.id, moderators.id)
    result = await press(world, question, "Roll back")
    assert await said(world, result) == "Only members who may manage this server can use this command."
    assert nightly.rolled_back == []
    world.env._errors.clear()


async def test_adapters_are_offered_while_typing(world: World) -> None:
    offered = await world.autocomplete(world.moderator, "general", "training rollback", "to", "")
    assert [(choice["name"], choice["value"]) for choice in offered] == [
        ("2026-11-24-kto (now)", "2026-11-24-kto"),
        ("2026-11-20-sft", "2026-11-20-sft"),
        ("base: the model without any adapter", "base"),
    ]


# ---------------------------------------------------------------------- freeze


async def test_freeze_and_unfreeze_say_what_changed(world: World, nightly: FakeNightly) -> None:
    assert (await run(world, "training unfreeze")).content == "Learning is not frozen."
    assert (await run(world, "training freeze")).content == (
        "Learning is frozen: no night begins and nothing is promoted until /training unfreeze."
    )
    assert nightly.frozen
    assert (await run(world, "training freeze")).content == "Learning is frozen already."
    assert (await run(world, "training unfreeze")).content == "I learn at night again."
    assert not nightly.frozen


# ---------------------------------------------------------------------- the moderators' channel


async def test_deleted_moderators_channel_is_forgotten(world: World) -> None:
    await choose_mod_room(world)
    await world.delete_channel("mod-room")

    async def forgotten() -> bool:
        return (await world.store.server_settings(world.guild.id)).moderators_channel_id is None

    await world.eventually(forgotten)
