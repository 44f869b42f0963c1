"""A night as moderators see it: /training run, its live status, the clock and the canary's end."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from bot import night_cards
from bot.errors import NightRefused, NothingNew, StoreError
from bot.learning_records import Cause, NightOutcome, NightState
from bot.nightly import Nightly
from models.adapters import Serving
from tests.cogs.commands import audit, embed_of
from tests.cogs.nights import (
    Decision,
    FakeNightly,
    Steps,
    begin,
    choose_mod_room,
    night,
    titles,
    verdict,
    write_report,
)
from tests.cogs.rating import said
from tests.world import World

CLOCK, WATCH, TROUBLE = 60.0, 300.0, 900.0  # what the shift sleeps
SLOW = 80.0  # between two edits of a long night


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


async def test_run_without_news_says_so_at_once_and_not_that_a_night_has_begun(
    world: World, nightly: FakeNightly
) -> None:
    await choose_mod_room(world)
    result = await world.slash(world.moderator, "general", "training run")
    await world.eventually(lambda: nightly.is_running)
    sentence = "Nothing that I learn from has changed since the night 2026-11-23: rate some replies first."
    nightly.end(night(outcome=NightOutcome.INSUFFICIENT, adapter=None, sentences=(sentence,)))
    (answer,) = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    assert answer.content == sentence
    assert (await audit(world))[0] == (world.moderator.id, "training run", {})
    assert await titles(world, "mod-room") == ["Night 2026-11-24: not enough evidence yet, so nothing changes"]


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


# ---------------------------------------------------------------------- the clock


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


async def test_moderators_are_told_once_that_a_planned_night_was_refused(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    nightly.refusal, nightly.is_due = NightRefused("The trial of the adapter a goes on."), True
    for _ in range(2):
        await world.eventually(lambda: steps.waits(CLOCK))
        steps.let_go(CLOCK)
        await world.eventually(lambda: steps.waits(TROUBLE))
        steps.let_go(TROUBLE)
    (card,) = world.replies("mod-room")
    assert embed_of(card).title == "The planned night did not begin"
    assert embed_of(card).description == "The trial of the adapter a goes on."
    assert world.replies("general") == []
    nightly.refusal = None
    await world.eventually(lambda: steps.waits(CLOCK))
    steps.let_go(CLOCK)
    await world.eventually(lambda: nightly.is_running)
    nightly.end(night())
    await world.eventually(lambda: world.replies("mod-room")[1:])


async def test_planned_night_without_news_goes_by_without_a_word(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    nightly.refusal, nightly.is_due = NothingNew("Nothing that I learn from has changed."), True
    for _ in range(2):
        await world.eventually(lambda: steps.waits(CLOCK))
        steps.let_go(CLOCK)
    await world.eventually(lambda: steps.waits(CLOCK))
    assert world.replies("mod-room") == []


async def test_night_that_the_last_process_left_is_reported_at_the_start(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    nightly.left = night(state=NightState.FAILED, outcome=None, sentences=("Encore ended 3 times.",))
    await world.restart()
    await world.eventually(lambda: world.replies("mod-room"))
    assert await titles(world, "mod-room") == ["Night 2026-11-24: it failed, so nothing changes"]


async def test_what_the_terminal_did_meanwhile_is_told_once_at_the_start(
    world: World, nightly: FakeNightly, steps: Steps
) -> None:
    await choose_mod_room(world)
    await world.eventually(lambda: steps.waits(CLOCK))  # the first process has looked and found nothing
    rolled_back = night_cards.rolled_back("The operator", Serving("b"), Serving("a"))
    nightly.untold.queue += [verdict(Decision.ROLL_BACK), night(), rolled_back]
    await world.restart()
    await world.eventually(lambda: not nightly.untold.queue)
    await world.restart()
    nightly.left = night("2026-11-25")
    await world.restart()
    await world.eventually(lambda: len(world.replies("mod-room")) == 4)
    assert await titles(world, "mod-room") == [
        "The canary was rolled back",
        "Night 2026-11-24: I learned something, and it is better",
        "Rolled back",
        "Night 2026-11-25: I learned something, and it is better",
    ]


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
