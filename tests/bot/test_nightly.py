"""Nights as they are asked for: one at a time, when they are due, frozen, taken up again, listed."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.errors import NightRefused, NightRunning
from bot.learning_records import Cause, Night, NightOutcome, NightState
from bot.records import Provenance
from models.adapters import Serving
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.bot.stores import Clock

BERLIN = ZoneInfo("Europe/Berlin")
_JITTER = 600.0
_STEP = 300.0


def at(text: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


async def test_a_night_that_proves_itself_is_served_and_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        told: list[str] = []
        night = await h.nightly.run(Cause.MODERATOR, lambda p: told.append(p.sentence), actor_id=9)
        assert (night.state, night.outcome, night.adapter) == (
            NightState.FINISHED,
            NightOutcome.PROMOTED,
            night.adapter,
        )
        assert night.adapter == f"{night.id}-kto"
        assert told == ["Collecting the ratings.", "Training."]
        assert h.adapters.serving().adapter == h.promotion.serving.adapter == night.adapter
        assert h.engine.adapters == (night.adapter,)
        assert await h.nightly.history(5) == [night]
        assert (await h.nightly.status()).running is None
        left = [path for path in (h.nightly.folder(night) / "adapters").rglob("*") if path.is_file()]
        assert left == [], "the bulk of a night isn't kept twice"


@pytest.mark.parametrize("job", ["reject", "insufficient"])
async def test_a_night_without_proof_leaves_what_is_served(tmp_path: Path, job: str) -> None:
    async with house(tmp_path, job=job) as h:
        await h.rate()
        night = await h.nightly.run(Cause.COMMAND)
        assert night.state is NightState.FINISHED
        assert night.outcome is not NightOutcome.PROMOTED
        assert night.more_ratings_needed == (40 if job == "insufficient" else None)
        assert h.adapters.serving().adapter is None
        assert h.engine.swaps == []


async def test_a_night_that_is_short_of_ratings_says_how_many_wait_for_consent(tmp_path: Path) -> None:
    async with house(tmp_path, job="insufficient") as h:
        replies = [await ended_reply(h.store, provenance=Provenance.OPERATOR) for _ in range(2)]
        for member in (2, 3, 4):
            await vote(h.store, replies[0], member)
        await vote(h.store, replies[1], 2)
        await h.store.give_consent(3)
        night = await h.nightly.run(Cause.COMMAND)
        assert night.sentences[-1] == "3 ratings wait for their members' consent: /mod consent posts the question."
        await h.store.give_consent(2)
        await h.store.withdraw_consent(4)
        assert "consent" not in " ".join((await h.nightly.run(Cause.COMMAND)).sentences)


async def test_a_second_night_at_the_same_time_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        begun = asyncio.Event()
        first = asyncio.create_task(h.nightly.run(Cause.COMMAND, lambda _: begun.set()))
        await begun.wait()
        for again in (h.nightly.run(Cause.MODERATOR), h.nightly.resume_unfinished()):
            with pytest.raises(NightRunning, match="under way"):
                await again
        assert (running := (await h.nightly.status()).running) is not None
        assert running.night_id
        (tmp_path / "nights" / "go").touch()
        assert (await first).outcome is NightOutcome.PROMOTED
        assert len(await h.nightly.history(9)) == 1


async def test_two_nights_of_a_day_have_two_names(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject") as h:
        first, second = await h.nightly.run(Cause.COMMAND), await h.nightly.run(Cause.COMMAND)
        assert second.id == f"{first.id}-2"


async def test_frozen_learning_begins_no_night_and_says_how_to_go_on(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4) as h:
        assert await h.nightly.freeze(9)
        assert not await h.nightly.freeze(9)
        with pytest.raises(NightRefused, match="/training unfreeze"):
            await h.nightly.run(Cause.COMMAND)
        status = await h.nightly.status()
        assert (status.frozen, status.next_at) == (True, None)
        assert await h.nightly.unfreeze(9)
        assert (await h.nightly.status()).next_at is not None


async def test_learning_that_is_frozen_during_a_night_promotes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        begun = asyncio.Event()
        running = asyncio.create_task(h.nightly.run(Cause.COMMAND, lambda _: begun.set()))
        await begun.wait()
        await h.nightly.freeze(9)
        (tmp_path / "nights" / "go").touch()
        night = await running
        assert night.outcome is NightOutcome.REJECTED
        assert "frozen" in night.sentences[0]
        assert h.adapters.serving().adapter is None


async def test_night_under_way_when_a_server_is_locked_computes_on_and_serves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        begun = asyncio.Event()
        running = asyncio.create_task(h.nightly.run(Cause.COMMAND, lambda _: begun.set()))
        await begun.wait()
        await h.lock()
        with pytest.raises(NightRefused, match="/unlock there ends that"):
            await h.nightly.unfreeze(9)
        (tmp_path / "nights" / "go").touch()
        assert (await running).outcome is NightOutcome.REJECTED
        assert h.served() == Serving()


async def test_night_left_by_a_kill_is_taken_up_in_a_locked_house_and_serves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang") as h:
        await h.rate()
        begun = asyncio.Event()
        running = asyncio.create_task(h.nightly.run(Cause.COMMAND, lambda _: begun.set()))
        await begun.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await h.lock()
    async with house(tmp_path) as h:
        night = await h.nightly.resume_unfinished()
        assert night is not None and night.outcome is NightOutcome.REJECTED
        assert h.served() == Serving()


async def test_a_cancelled_night_is_taken_up_at_the_next_start(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang") as h:
        await h.rate()
        begun = asyncio.Event()
        running = asyncio.create_task(
            h.nightly.run(Cause.COMMAND, lambda p: begun.set() if p.step == "train" else None)
        )
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (left,) = await h.nightly.history(9)
        assert left.state is NightState.RUNNING
    async with house(tmp_path) as h:
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert (night.id, night.attempts, night.outcome) == (left.id, 2, NightOutcome.PROMOTED)
        assert await h.nightly.resume_unfinished() is None


async def test_a_night_that_keeps_ending_encore_is_given_up(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang") as h:
        await h.store.begin_night(Night("2026-01-01", Cause.SCHEDULE, NightState.RUNNING, 1.0))
        for _ in range(2):
            await h.store.retry_night("2026-01-01")
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert night.state is NightState.FAILED
        assert "3 times" in night.sentences[0]


async def test_a_new_night_takes_up_what_was_left(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject") as h:
        await h.store.begin_night(Night("2026-01-01", Cause.SCHEDULE, NightState.RUNNING, 1.0))
        assert (await h.nightly.run(Cause.MODERATOR)).id == "2026-01-01"


async def test_figures_of_two_nights_are_set_side_by_side(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for night_id, figures in (("a", {"votes": 2, "objective": "kto"}), ("b", {"votes": 5, "gain": 0.1})):
            night = Night(night_id, Cause.COMMAND, NightState.RUNNING, 1.0)
            await h.store.begin_night(night)
            await h.store.end_night(replace(night, state=NightState.FAILED, figures=figures))
        assert [(c.name, c.a, c.b) for c in await h.nightly.compare("a", "b")] == [("votes", 2, 5), ("gain", None, 0.1)]
        with pytest.raises(NightRefused, match="no night c"):
            await h.nightly.compare("a", "c")


# ---------------------------------------------------------------------- when


async def _time_goes_on(h: House, until: float) -> list[float]:
    """Ask every few minutes until then, and run what is due; return when nights began."""
    began = []
    while h.clock.now < until:
        if await h.nightly.due():
            began.append(h.clock.now)
            await h.nightly.run(Cause.SCHEDULE)
        h.clock.now += _STEP
    return began


@pytest.fixture
def quick_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights that end at once: only when they begin matters."""
    from bot.night_work import NightWork

    async def work(self: NightWork, night: Night, on_progress: object) -> Night:
        return await self.end(replace(night, state=NightState.FINISHED, outcome=NightOutcome.REJECTED))

    monkeypatch.setattr(NightWork, "work", work)


@pytest.mark.usefixtures("quick_job")
async def test_a_night_a_day_begins_within_minutes_of_its_hour(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4, timezone=BERLIN, clock=Clock(at("2026-06-01T12:00"))) as h:
        began = await _time_goes_on(h, at("2026-06-04T12:00"))
        for day, begun in zip((2, 3, 4), began, strict=True):
            assert 0 <= begun - at(f"2026-06-{day:02}T04:00") <= _JITTER + _STEP


@pytest.mark.usefixtures("quick_job")
@pytest.mark.parametrize(
    ("first", "last"), [("2026-03-27T12:00", "2026-03-31T12:00"), ("2026-10-23T12:00", "2026-10-27T12:00")]
)
async def test_summer_time_makes_no_night_twice_and_leaves_none_out(tmp_path: Path, first: str, last: str) -> None:
    # At 02:30 the clock skips the hour in March, and shows it twice in October.
    async with house(tmp_path, hour=2, timezone=BERLIN, clock=Clock(at(first))) as h:
        began = await _time_goes_on(h, at(last))
        assert len(began) == 4
        for earlier, later in itertools.pairwise(began):
            assert 23 * 3600 - _STEP <= later - earlier <= 25 * 3600 + _STEP


@pytest.mark.usefixtures("quick_job")
async def test_a_clock_set_back_makes_no_night_twice_and_the_next_one_comes(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4, timezone=BERLIN, clock=Clock(at("2026-06-01T12:00"))) as h:
        assert len(await _time_goes_on(h, at("2026-06-02T05:00"))) == 1
        h.clock.now = at("2026-06-02T03:30")
        assert await _time_goes_on(h, at("2026-06-02T12:00")) == []
        assert len(await _time_goes_on(h, at("2026-06-03T05:00"))) == 1


@pytest.mark.usefixtures("quick_job")
async def test_a_clock_that_was_years_ahead_does_not_end_learning(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4, timezone=BERLIN, clock=Clock(at("2031-06-01T03:00"))) as h:
        assert len(await _time_goes_on(h, at("2031-06-02T05:00"))) == 2
        h.clock.now = at("2026-06-01T12:00")
        assert len(await _time_goes_on(h, at("2026-06-03T12:00"))) == 2


async def test_a_night_that_was_taken_back_while_the_clock_was_ahead_is_repeated_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4) as h:
        h.clock.now += 40 * 86_400
        night = Night("ahead", Cause.SCHEDULE, NightState.RUNNING, h.clock.now)
        await h.store.begin_night(night)
        await h.work.end(replace(night, state=NightState.FINISHED, outcome=NightOutcome.RETRACTED))
        h.clock.now -= 40 * 86_400
        assert await h.nightly.due()


@pytest.mark.usefixtures("quick_job")
async def test_a_night_missed_while_encore_was_off_is_caught_up_once(tmp_path: Path) -> None:
    clock = Clock(at("2026-06-01T12:00"))
    async with house(tmp_path, hour=4, timezone=BERLIN, clock=clock) as h:
        assert await _time_goes_on(h, at("2026-06-01T13:00")) == [], "a new store has missed none"
    clock.now = at("2026-06-05T20:00")
    async with house(tmp_path, hour=4, timezone=BERLIN, clock=clock) as h:
        began = await _time_goes_on(h, at("2026-06-06T03:00"))
        assert len(began) == 1
        assert began[0] - at("2026-06-05T20:00") <= _JITTER + _STEP


@pytest.mark.usefixtures("quick_job")
async def test_no_night_is_due_where_they_are_off(tmp_path: Path) -> None:
    async with house(tmp_path, hour=-1, timezone=BERLIN, clock=Clock(at("2026-06-01T12:00"))) as h:
        assert await _time_goes_on(h, at("2026-06-02T12:00")) == []
        assert (await h.nightly.status()).next_at is None
