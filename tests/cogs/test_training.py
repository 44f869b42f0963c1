"""Every /training command, a running night as moderators see it, the morning card, and who is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NightRefused, StoreError
from bot.learning_records import Cause, NightOutcome, NightState
from cogs.training import Training
from tests.cogs.commands import (
    assert_hidden,
    assert_refused,
    audit,
    embed_of,
    fields,
    leaves,
    run,
    show_to_members,
    words,
)
from tests.cogs.nights import BEGAN, Canary, Decision, FakeNightly, Serving, Steps, night, progress, verdict
from tests.cogs.rating import said
from tests.world import World, live_world

CLOCK, WATCH, TROUBLE = 60.0, 300.0, 900.0  # what the shift sleeps
SLOW = 80.0  # between two edits of a long night
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)


@pytest.fixture
def nightly(tmp_path: Path) -> FakeNightly:
    return FakeNightly(tmp_path)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def world(tmp_path: Path, nightly: FakeNightly, steps: Steps) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=nightly) as world:
        await world.bot.remove_cog("Training")
        world.bot.tree.remove_command("training")
        await world.bot.add_cog(Training(world.bot, nightly, sleep=steps))  # type: ignore[arg-type]
        yield world


async def choose_mod_room(world: World) -> None:
    """Name the moderators' channel."""
    await world.store.change_server_settings(world.guild.id, 1, moderators_channel_id=world.mod_room.id)


async def begin(world: World, nightly: FakeNightly, where: Any = "general") -> Any:
    """Start a night with /training run and give its first progress; return the answer to the moderator."""
    result = await world.slash(world.moderator, where, "training run")
    await world.eventually(lambda: nightly.is_running)
    nightly.tell("Collecting the ratings.")
    (answer,) = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    return answer


async def titles(world: World, where: Any) -> list[str]:
    return [str(embed_of(message).title) for message in world.replies(where) if message.embeds]


def write_report(nightly: FakeNightly, of: Any, *, report: bytes = b"<html>", pictures: tuple[str, ...] = ()) -> None:
    folder = nightly.folder(of)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_bytes(report)
    for name in pictures:
        (folder / name).write_bytes(PNG)


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
        "**2026-11-25** insufficient · took 12 minutes · about 1,200 more ratings wanted",
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


# ---------------------------------------------------------------------- run


async def test_run_shows_the_night_in_the_moderators_channel_and_tells_where(
    world: World, nightly: FakeNightly
) -> None:
    await choose_mod_room(world)
    answer = await begin(world, nightly)
    assert answer.ephemeral
    assert answer.content == (
        f"The night has begun; I show in {world.mod_room.mention} how it goes, and go on answering meanwhile."
    )
    assert nightly.begun == [(Cause.MODERATOR, world.moderator.id)]
    assert (await audit(world))[0] == (world.moderator.id, "training run", {})
    await world.eventually(lambda: world.replies("mod-room"))
    assert world.replies("general") == [], "members see nothing of it"
    assert await titles(world, "mod-room") == ["Night 2026-11-24 is under way"]


async def test_status_message_is_edited_and_the_latest_word_wins(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    await begin(world, nightly)
    (message,) = await world.eventually(lambda: world.replies("mod-room"))
    for done in range(1, 200):
        nightly.tell("Training by thumbs.", done, 200)
    nightly.tell("Converting the adapter.")
    await world.eventually(lambda: "Converting" in str(embed_of(message).description))
    edits = [r for r in world.env.http_requests if r.method == "PATCH" and r.path.endswith(f"/messages/{message.id}")]
    assert len(edits) <= 3
    assert len(world.replies("mod-room")) == 1
    nightly.end(night())
    await world.eventually(lambda: embed_of(message).title == "Night 2026-11-24 has ended")


async def test_status_message_of_a_long_night_is_edited_less_often(
    world: World, nightly: FakeNightly, steps: Steps, monkeypatch: Any
) -> None:
    monkeypatch.setattr("bot.notices._QUICK_ROUNDS", 3)
    await choose_mod_room(world)
    await begin(world, nightly)
    (message,) = await world.eventually(lambda: world.replies("mod-room"))
    for done in (1, 2):
        nightly.tell("Training by thumbs.", done, 200)
        await world.eventually(lambda done=done: f"{done} of 200" in str(embed_of(message).description))
    await world.eventually(lambda: steps.waits(SLOW))
    nightly.tell("Training by thumbs.", 3, 200)
    await world.quiet(0.03)
    assert "2 of 200" in str(embed_of(message).description)
    steps.let_go(SLOW)
    await world.eventually(lambda: "3 of 200" in str(embed_of(message).description))
    nightly.end(night())
    await world.eventually(lambda: embed_of(message).title == "Night 2026-11-24 has ended")


async def test_night_goes_on_when_its_status_message_is_deleted(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    await begin(world, nightly)
    (message,) = await world.eventually(lambda: world.replies("mod-room"))
    await world.delete(world.moderator, message)
    nightly.tell("Training by thumbs.", 1, 2)
    await world.quiet(0.05)
    assert world.replies("mod-room") == []
    nightly.end(night())
    await world.eventually(lambda: world.replies("mod-room"))
    assert await titles(world, "mod-room") == ["Night 2026-11-24: I learned something, and it is better"]


async def test_night_goes_on_without_permission_to_show_it(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    await world.set_bot_permissions("mod-room", send_messages=False)
    await begin(world, nightly)
    nightly.end(night())
    await world.eventually(lambda: not nightly.is_running)
    await world.quiet(0.05)
    assert world.replies("mod-room") == []
    assert nightly.nights == [night()]


async def test_run_without_a_moderators_channel_shows_it_where_it_was_asked_without_files(
    world: World, nightly: FakeNightly
) -> None:
    write_report(nightly, night(), pictures=("loss.png",))
    answer = await begin(world, nightly, where="stage")
    assert world.stage.mention in answer.content
    nightly.end(night())
    shown = (await world.eventually(lambda: found if len(found := world.replies("stage")) == 2 else None))[-1]
    assert shown.attachments == [], "members read here"
    assert "nights/2026-11-24/report.html in the data folder" in str(embed_of(shown).footer.text)


@pytest.mark.parametrize("refusal", [NightRefused("The echo engine can't learn."), StoreError("/data is full.")])
async def test_run_that_is_refused_says_why(world: World, nightly: FakeNightly, refusal: Exception) -> None:
    nightly.refusal = refusal
    result = await world.slash(world.moderator, "general", "training run")
    told = await said(world, result)
    assert told.startswith("I can't write to my memory" if isinstance(refusal, StoreError) else str(refusal))
    assert await audit(world) == []
    world.env._errors.clear()


async def test_second_run_is_refused_while_a_night_runs(world: World, nightly: FakeNightly) -> None:
    await begin(world, nightly)
    result = await world.slash(world.moderator, "general", "training run")
    assert "under way already" in await said(world, result)
    assert len(nightly.begun) == 1
    world.env._errors.clear()
    nightly.end(night())


async def test_bot_answers_members_while_a_night_runs(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    await begin(world, nightly)
    await world.ask(world.alice, "general", "are you awake?")
    assert await world.answered_in("general")
    nightly.end(night())


# ---------------------------------------------------------------------- the morning card


async def ended(world: World, nightly: FakeNightly, of: Any) -> Any:
    """Run a night to its end and return its morning card's message in the moderators' channel."""
    await choose_mod_room(world)
    await begin(world, nightly)
    await world.eventually(lambda: world.replies("mod-room"))
    nightly.end(of)
    return (await world.eventually(lambda: found if len(found := world.replies("mod-room")) == 2 else None))[-1]


async def test_morning_card_says_what_was_learned_from_whom_and_how_much_better_it_is(
    world: World, nightly: FakeNightly
) -> None:
    figures = {
        "votes": 1812,
        "raters": 41,
        "rated_replies": 604,
        "win_rate": 0.581,
        "win_rate_low": 0.523,
        "win_rate_high": 0.64,
        "gain": 0.062,
        "gain_low": 0.021,
        "gain_high": 0.103,
        "held_out_replies": 181,
        "held_out_raters": 33,
        "examples": [
            {"prompt": "Tell me about the moon.", "before": "No.", "after": "It is @everyone's **lamp**."},
            {"prompt": "broken", "before": 1},
        ],
    }
    card = await ended(
        world, nightly, night(figures=figures, sentences=("The new adapter is better.", "It learned by thumbs."))
    )
    assert embed_of(card).title == "Night 2026-11-24: I learned something, and it is better"
    assert embed_of(card).description == "The new adapter is better.\n- It learned by thumbs."
    assert embed_of(card).footer.text == "It took 12 minutes. /training rollback takes it back."
    shown = fields(card)
    assert shown["Learned from"] == "1,812 votes of 41 raters on 604 replies"
    assert shown["Against what answered before"].splitlines() == [
        "It would win 58% of comparisons (52% to 64%); 50% is no difference.",
        "It tells good replies from bad ones better by +6.2 points (+2.1 to +10.3).",
        "Measured on 181 replies of 33 raters that it did not learn from.",
    ]
    assert shown["The same prompt, before and after (1)"].startswith("> Tell me about the moon.\n**Before:** No.")
    assert "(2)" not in "".join(shown)
    assert "@everyone" not in str(shown)


async def test_morning_card_has_the_report_and_the_picture_of_preference(world: World, nightly: FakeNightly) -> None:
    of = night()
    write_report(nightly, of, report=b"<html>learned</html>", pictures=("loss.png", "preference.png", "raters.png"))
    card = await ended(world, nightly, of)
    assert [attached["filename"] for attached in card.attachments] == ["preference.png", "report.html"]
    assert str(embed_of(card).image.url).endswith("preference.png")
    assert "data folder" not in str(embed_of(card).footer.text)


async def test_morning_card_says_where_a_report_is_that_is_too_large(world: World, nightly: FakeNightly) -> None:
    of = night()
    write_report(nightly, of, report=b" " * (9 * 2**20), pictures=("preference.png",))
    card = await ended(world, nightly, of)
    assert [attached["filename"] for attached in card.attachments] == ["preference.png"]
    assert "The report is nights/2026-11-24/report.html in the data folder." in str(embed_of(card).footer.text)


async def test_morning_card_comes_without_its_files_where_these_are_not_permitted(
    world: World, nightly: FakeNightly
) -> None:
    of = night()
    write_report(nightly, of, pictures=("preference.png",))
    await choose_mod_room(world)
    await begin(world, nightly)
    await world.eventually(lambda: world.replies("mod-room"))
    world.env.inject_error("POST", f"/channels/{world.mod_room.id}/messages", status=403, code=50013)
    nightly.end(of)
    card = (await world.eventually(lambda: found if len(found := world.replies("mod-room")) == 2 else None))[-1]
    assert card.attachments == []
    assert "nights/2026-11-24/report.html" in str(embed_of(card).footer.text)


@pytest.mark.parametrize(
    ("of", "title", "says"),
    [
        (
            night(outcome=NightOutcome.INSUFFICIENT, adapter=None, more_ratings_needed=400),
            "not enough evidence yet, so nothing changes",
            {"What it takes": "About 400 more ratings."},
        ),
        (
            night(outcome=NightOutcome.REJECTED, adapter=None, warnings=("Four raters always vote alike.",)),
            "what I tried is not better, so nothing changes",
            {"Look at this": "- Four raters always vote alike."},
        ),
        (night(outcome=NightOutcome.RETRACTED), "a rating was taken back, so I learn anew", {}),
        (
            night(state=NightState.FAILED, outcome=None, adapter=None, sentences=("The disk is full.",)),
            "it failed, so nothing changes",
            {},
        ),
    ],
    ids=["insufficient", "rejected", "retracted", "failed"],
)
async def test_morning_card_of_a_night_that_promoted_nothing(
    world: World, nightly: FakeNightly, of: Any, title: str, says: dict[str, str]
) -> None:
    card = await ended(world, nightly, of)
    assert embed_of(card).title == f"Night 2026-11-24: {title}"
    assert fields(card) == says
    assert "rollback" not in str(embed_of(card).footer.text)


async def test_morning_card_reads_figures_that_are_not_numbers(world: World, nightly: FakeNightly) -> None:
    odd = {"votes": float("nan"), "raters": "many", "gain": None, "win_rate": float("nan"), "examples": {"a": 1}}
    assert fields(await ended(world, nightly, night(figures=odd))) == {}


async def test_night_that_breaks_unforeseen_leaves_the_clock_running(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    nightly.is_due = True
    await world.eventually(lambda: steps.waits(CLOCK))
    steps.let_go(CLOCK)
    await world.eventually(lambda: nightly.is_running)
    nightly.end(RuntimeError("a bug"))
    await world.eventually(lambda: steps.waits(TROUBLE))
    steps.let_go(TROUBLE)
    await world.eventually(lambda: steps.waits(CLOCK))


# ---------------------------------------------------------------------- the clock


async def test_night_that_is_due_begins_by_itself_and_is_reported(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    await world.eventually(lambda: steps.waits(CLOCK))
    steps.let_go(CLOCK)
    await world.quiet(0.02)
    assert nightly.begun == []
    nightly.is_due = True
    await world.eventually(lambda: steps.waits(CLOCK))
    steps.let_go(CLOCK)
    await world.eventually(lambda: nightly.is_running)
    assert nightly.begun == [(Cause.SCHEDULE, None)]
    nightly.end(night())
    await world.eventually(lambda: world.replies("mod-room"))


async def test_night_that_the_last_process_left_is_reported_at_the_start(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    nightly.left = night(state=NightState.FAILED, outcome=None, sentences=("Encore ended 3 times.",))
    await world.restart()
    await world.eventually(lambda: world.replies("mod-room"))
    assert await titles(world, "mod-room") == ["Night 2026-11-24: it failed, so nothing changes"]


async def test_status_message_of_the_last_process_is_taken_over(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    await begin(world, nightly)
    (message,) = await world.eventually(lambda: world.replies("mod-room"))
    await world.eventually(lambda: world.store.meta("night_status_messages"))
    nightly.left = night()
    await world.restart()
    await world.eventually(lambda: embed_of(message).title == "Night 2026-11-24 has ended")
    assert len(await world.eventually(lambda: found if len(found := world.replies("mod-room")) == 2 else None)) == 2


@pytest.mark.parametrize(
    ("decision", "shown"),
    [
        (Decision.KEEP, ["The canary stays"]),
        (Decision.ROLL_BACK, ["The canary was rolled back"]),
        (Decision.CONTINUE, []),
    ],
)
async def test_moderators_are_told_when_the_canary_ends(
    world: World, nightly: FakeNightly, steps: Steps, decision: Decision, shown: list[str]
) -> None:
    await choose_mod_room(world)
    nightly.verdict = verdict(decision)
    await world.eventually(lambda: steps.waits(WATCH))
    steps.let_go(WATCH)
    await world.eventually(lambda: nightly.verdict is None)
    await world.eventually(lambda: steps.waits(WATCH))
    assert await titles(world, "mod-room") == shown
    assert world.replies("general") == []


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
