"""A night that would only judge again what the last one judged: the planned one stays out, one asked for says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.errors import NothingNew
from bot.learning_records import Cause, NightOutcome, NightState
from tests.bot.learning import vote
from tests.bot.nights import House, house

_DAY = 86_400.0


async def _judged(folder: Path, job: str = "reject") -> None:
    """Rate two replies and run a night."""
    async with house(folder, job=job) as h:
        await h.rate()
        await h.nightly.run(Cause.SCHEDULE)


async def _nights(h: House, days: int) -> int:
    """Have a night planned every day, and return how many began."""
    before = len(await h.nightly.history(99))
    for _ in range(days):
        h.clock.now += _DAY
        assert await h.nightly.due()
        try:
            await h.nightly.run(Cause.SCHEDULE)
        except NothingNew as error:
            assert "would be a lottery" in str(error)
        assert not await h.nightly.due(), "it is asked again tomorrow"
    return len(await h.nightly.history(99)) - before


@pytest.mark.parametrize("job", ["reject", "insufficient"])
async def test_idle_server_has_its_ratings_judged_once_and_not_until_luck_promotes(tmp_path: Path, job: str) -> None:
    async with house(tmp_path, job=job, hour=4) as h:
        await h.rate()
        assert not await h.nightly.due()
        assert await _nights(h, 20) == 1
        await h.rate(1)
        assert await _nights(h, 3) == 1


async def test_one_thumb_a_day_has_almost_the_same_judged_no_more_often_than_it_becomes_another(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject", hour=4) as h:
        await h.rate(60)
        assert not await h.nightly.due()
        assert await _nights(h, 1) == 1
        began = []
        for day in range(10):
            await h.rate(1)
            began.append(await _nights(h, 1))
            if day == 1:
                night = await h.nightly.run(Cause.MODERATOR)
                assert night.outcome is NightOutcome.REJECTED, "who asks for a night gets it"
        assert began == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("turned", [3, 4])
async def test_a_vote_turned_round_is_as_new_as_a_new_one(tmp_path: Path, turned: int) -> None:
    async with house(tmp_path, job="reject") as h:
        replies = await h.rate(80)
        await h.nightly.run(Cause.MODERATOR)
        for reply in replies[:turned]:
            await vote(h.store, reply, 2, -1.0)
        if turned < 4:
            with pytest.raises(NothingNew, match="only 3 replies since the night 2026-05-28, .* waits for 4;"):
                await h.nightly.run(Cause.SCHEDULE)
        else:
            assert (await h.nightly.run(Cause.SCHEDULE)).id == "2026-05-28-2"


async def test_promoted_night_is_followed_by_one_against_the_new_adapter_and_no_more(tmp_path: Path) -> None:
    await _judged(tmp_path, "promote")
    async with house(tmp_path, job="reject", hour=4) as h:
        await h.nightly.due()
        assert await _nights(h, 5) == 1


async def _vote_again(h: House) -> None:
    await vote(h.store, 1, 2, 1.0)


async def _nothing(h: House) -> None:
    h.clock.now += 30 * _DAY  # accounts are older now


@pytest.mark.parametrize("change", [_nothing, _vote_again])
async def test_what_says_nothing_new_begins_no_night(
    tmp_path: Path, change: Callable[[House], Awaitable[None]]
) -> None:
    await _judged(tmp_path)
    async with house(tmp_path) as h:
        await change(h)
        with pytest.raises(NothingNew, match="since the night 2026-05-28,"):
            await h.nightly.run(Cause.SCHEDULE)


async def _rate(h: House) -> None:
    await h.rate(1)


async def _retract(h: House) -> None:
    await h.store.retract_vote(1, 2, "button")


async def _trust(h: House) -> None:
    await h.store.trust_rater(7, 2, 9, True)


async def _label(h: House) -> None:
    await h.store.label_gold(1, True, 9)


async def _serve_another(h: House) -> None:
    await h.nightly.rollback(h.install("other"), 9)


async def _lose_the_data(h: House) -> None:
    (h.folder / "nights" / "2026-05-28" / "examples.jsonl").write_text("")


@pytest.mark.parametrize("change", [_rate, _retract, _trust, _label, _serve_another, _lose_the_data])
async def test_any_news_lets_the_planned_night_begin(
    tmp_path: Path, change: Callable[[House], Awaitable[None]]
) -> None:
    await _judged(tmp_path)
    async with house(tmp_path) as h:
        await change(h)
        assert (await h.nightly.run(Cause.SCHEDULE)).id == "2026-05-28-2"


async def test_another_model_lets_the_planned_night_begin(tmp_path: Path) -> None:
    await _judged(tmp_path)
    async with house(tmp_path, model_sha256="ef" * 32) as h:
        assert (await h.nightly.run(Cause.SCHEDULE)).id == "2026-05-28-2"


@pytest.mark.parametrize("cause", [Cause.MODERATOR, Cause.COMMAND, Cause.DEMO])
async def test_night_that_is_asked_for_says_that_nothing_changed_and_ends_at_once(tmp_path: Path, cause: Cause) -> None:
    await _judged(tmp_path)
    async with house(tmp_path, job="promote") as h:
        for number in (2, 3):
            night = await h.nightly.run(cause)
            assert (night.id, night.state, night.outcome, night.sentences) == (
                f"2026-05-28-{number}",
                NightState.FINISHED,
                NightOutcome.INSUFFICIENT,
                (
                    "Nothing that I learn from has changed since the night 2026-05-28, and to judge the same ratings "
                    "again would be a lottery: rate some replies first.",
                ),
            )
            assert await h.nightly.night(night.id) == night
        assert h.promotion.serving.adapter is None


async def test_night_after_a_failed_one_begins_though_nothing_was_said(tmp_path: Path) -> None:
    await _judged(tmp_path, "failed")
    async with house(tmp_path, job="reject") as h:
        assert (await h.nightly.run(Cause.SCHEDULE)).outcome is NightOutcome.REJECTED


async def _during(h: House, change: Callable[[], Awaitable[object]]) -> None:
    """Run a night and do something while it works."""
    night = asyncio.create_task(h.nightly.run(Cause.SCHEDULE))
    while not list((h.folder / "nights").glob("*/job.json")):
        await asyncio.sleep(0.01)
    await change()
    (h.folder / "nights" / "go").touch()
    assert (await night).outcome is not NightOutcome.PROMOTED


async def test_night_after_a_retracted_one_begins_though_the_rating_is_back(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        await _during(h, lambda: h.store.retract_vote(1, 2, "button"))
        await vote(h.store, 1, 2)
        assert (await h.nightly.run(Cause.SCHEDULE)).outcome is NightOutcome.PROMOTED


async def test_proven_adapter_that_a_freeze_kept_from_serving_is_proven_anew_after_it(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        await _during(h, lambda: h.nightly.freeze(9))
        await h.nightly.unfreeze(9)
        assert (await h.nightly.run(Cause.SCHEDULE)).outcome is NightOutcome.PROMOTED
