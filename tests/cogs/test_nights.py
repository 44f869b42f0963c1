"""A night as moderators see it: /training run, its live status, the morning card, the clock and the canary's end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NightRefused, StoreError
from bot.learning_records import Cause, NightOutcome, NightState
from bot.nightly import Nightly
from tests.cogs.commands import audit, embed_of, fields
from tests.cogs.nights import (
    Decision,
    FakeNightly,
    Steps,
    begin,
    choose_mod_room,
    ended,
    night,
    night_world,
    titles,
    verdict,
    write_report,
)
from tests.cogs.rating import said
from tests.world import World

CLOCK, WATCH, TROUBLE = 60.0, 300.0, 900.0  # what the shift sleeps
SLOW = 80.0  # between two edits of a long night


@pytest.fixture
def nightly(tmp_path: Path) -> FakeNightly:
    return FakeNightly(tmp_path)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def world(tmp_path: Path, nightly: FakeNightly, steps: Steps) -> AsyncIterator[World]:
    async with night_world(tmp_path, nightly, steps) as world:
        yield world


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
        "held_out": 181,
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
        "It ranks a good reply above a bad one in 58% of pairs (52% to 64%); 50% is chance.",
        "It tells good replies from bad ones better by +6.2 points (+2.1 to +10.3).",
        "Measured on 181 replies that it did not learn from.",
    ]
    assert shown["The same prompt, before and after (1)"].startswith("> Tell me about the moon.\n**Before:** No.")
    assert "(2)" not in "".join(shown)
    assert "@everyone" not in str(shown)


@pytest.mark.parametrize(
    ("permitted", "told"),
    [(False, "doesn't, for want of its permission"), (True, "Discord's permission is stated")],
)
async def test_morning_card_says_who_may_teach(world: World, nightly: FakeNightly, permitted: bool, told: str) -> None:
    figures = {"members": 40, "consenting": 12, "discord_permitted": permitted}
    shown = fields(await ended(world, nightly, night(figures=figures)))["Who may teach me"]
    assert shown.startswith("12 of 40 members agreed (/consent)") and told in shown


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


@pytest.mark.parametrize(
    ("watched", "said"),
    [
        (0, "No phrase stood out among what was voted up, so none was looked for."),
        (1, "1 phrase stood out among what was voted up; the report names it, and says if a candidate picked it up."),
        (
            3,
            "3 phrases stood out among what was voted up; the report names them, and says if a candidate picked "
            "one up.",
        ),
    ],
)
async def test_morning_card_says_whether_there_was_a_phrase_to_watch(
    world: World, nightly: FakeNightly, watched: int, said: str
) -> None:
    card = await ended(world, nightly, night(figures={"watched_phrases": watched}))
    assert fields(card) == {"Planted phrases": said}


async def test_morning_card_of_a_night_that_promoted_nothing_does_not_say_that_replies_changed(
    world: World, nightly: FakeNightly
) -> None:
    figures = {"examples": [{"prompt": "Hello?", "before": "Hi.", "after": "Hi hi hi."}]}
    card = await ended(world, nightly, night(outcome=NightOutcome.REJECTED, adapter=None, figures=figures))
    assert list(fields(card)) == ["The same prompt, now, and as it would have been (1)"]


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


async def test_moderators_are_told_when_a_night_ends_the_canary(world: World, nightly: FakeNightly) -> None:
    await choose_mod_room(world)
    nightly.verdict = verdict(Decision.ROLL_BACK)
    await begin(world, nightly)
    await world.eventually(lambda: len(world.replies("mod-room")) == 2)
    assert "The canary was rolled back" in await titles(world, "mod-room")
    nightly.end(night())


# ---------------------------------------------------------------------- the fake


def test_fake_takes_what_the_real_one_takes() -> None:
    for name, fake in inspect.getmembers(FakeNightly, inspect.isfunction):
        if name.startswith("_") or name in ("tell", "end"):  # what tests do with it
            continue
        real = getattr(Nightly, name)
        assert inspect.iscoroutinefunction(fake) == inspect.iscoroutinefunction(real), name
        assert list(inspect.signature(fake).parameters) == list(inspect.signature(real).parameters), name
