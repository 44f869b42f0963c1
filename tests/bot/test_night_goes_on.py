"""A night that failed goes on from its finished steps where it can, and within one limit of hours over all attempts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bot.learning_records import Cause, Night, NightOutcome, NightState
from bot.night_budget import SPENT, spending, spent_seconds
from bot.night_job import draw_report
from models.learning import job as jobs
from models.learning.files import write_json
from tests.bot.learning import vote
from tests.bot.nights import House, house
from tests.bot.stores import Clock

_DAY = 86_400.0
_STEP = Path("train", "adapter.safetensors")


async def _failed(folder: Path, job: str = "full", *, clock: Clock | None = None, limit_hours: float = 1.0) -> Night:
    """Rate two replies and run a night that fails."""
    async with house(folder, job=job, clock=clock, limit_hours=limit_hours) as h:
        await h.rate()
        night = await h.nightly.run(Cause.SCHEDULE)
        assert night.state is NightState.FAILED
        return night


@pytest.mark.parametrize("job", ["full", "die", "quiet"])
async def test_failed_night_goes_on_from_its_finished_steps(tmp_path: Path, job: str) -> None:
    failed = await _failed(tmp_path, job)
    if job == "full":
        assert (tmp_path / "nights" / failed.id / _STEP).is_file()
    async with house(tmp_path) as h:
        told: list[str] = []
        night = await h.nightly.run(Cause.MODERATOR, lambda progress: told.append(progress.sentence))
        assert (night.id, night.attempts, night.outcome) == (failed.id, 2, NightOutcome.PROMOTED)
        assert told[0] == "Going on where this night had stopped."
        assert "went on" in night.sentences[-1]
        assert await h.nightly.history(9) == [night]
        assert not (tmp_path / "nights" / failed.id / _STEP).exists(), "the bulk is kept no longer than that"


@pytest.mark.parametrize("job", ["failed", "garble"])
async def test_night_that_would_fail_again_is_followed_by_a_new_one(tmp_path: Path, job: str) -> None:
    failed = await _failed(tmp_path, job)
    async with house(tmp_path, job="reject") as h:
        assert (await h.nightly.run(Cause.MODERATOR)).id != failed.id


async def _retract(h: House) -> None:
    await h.store.retract_vote(1, 2, "button")


async def _turn_round(h: House) -> None:
    await vote(h.store, 1, 2, -1.0)


async def _wait_three_days(h: House) -> None:
    h.clock.now += 3 * _DAY


async def _serve_another(h: House) -> None:
    await h.nightly.rollback(h.install("other"), 9)


@pytest.mark.parametrize("change", [_retract, _turn_round, _wait_three_days, _serve_another])
async def test_failed_night_whose_ground_has_gone_is_followed_by_a_new_one(tmp_path: Path, change: object) -> None:
    failed = await _failed(tmp_path)
    async with house(tmp_path) as h:
        await change(h)  # type: ignore[operator]
        night = await h.nightly.run(Cause.MODERATOR)
        assert night.id != failed.id
        assert night.outcome is NightOutcome.PROMOTED
        assert not (tmp_path / "nights" / failed.id / _STEP).exists()


async def test_failed_night_of_another_model_is_followed_by_a_new_one(tmp_path: Path) -> None:
    failed = await _failed(tmp_path)
    async with house(tmp_path, job="reject", model_sha256="ef" * 32) as h:
        assert (await h.nightly.run(Cause.MODERATOR)).id != failed.id


async def test_rating_that_came_meanwhile_does_not_keep_it_from_going_on(tmp_path: Path) -> None:
    failed = await _failed(tmp_path)
    async with house(tmp_path) as h:
        await h.rate(1)
        assert (await h.nightly.run(Cause.SCHEDULE)).id == failed.id


async def test_night_is_attempted_three_times_and_then_a_new_one_begins(tmp_path: Path) -> None:
    failed = await _failed(tmp_path)
    async with house(tmp_path, job="full") as h:
        nights = [await h.nightly.run(Cause.COMMAND) for _ in range(3)]
        assert [(night.id, night.attempts) for night in nights] == [
            (failed.id, 2),
            (failed.id, 3),
            (f"{failed.id}-2", 1),
        ]


async def test_attempt_that_is_killed_is_not_told_as_the_one_before_it(tmp_path: Path) -> None:
    await _failed(tmp_path)
    async with house(tmp_path, job="die") as h:
        night = await h.nightly.run(Cause.COMMAND)
        assert "killed by signal 9" in night.sentences[0]


# ---------------------------------------------------------------------- the limit


async def test_limit_counts_the_hours_of_all_attempts(tmp_path: Path) -> None:
    failed = await _failed(tmp_path)
    folder = tmp_path / "nights" / failed.id
    write_json(folder / SPENT, {"seconds": 3599.5})
    async with house(tmp_path, job="hang") as h:
        night = await h.nightly.run(Cause.COMMAND)
        assert (night.id, night.attempts) == (failed.id, 2)
        assert "longer than 1 hours" in night.sentences[0]
        job = jobs.read_job(folder)
        assert (job.limit_seconds, job.spent_seconds) == (3600.0, 3599.5)
        assert spent_seconds(folder) >= 3600.0
        assert not await h.work.can_go_on(night)
    async with house(tmp_path, limit_hours=2.0) as h:
        again = await h.nightly.run(Cause.COMMAND)
        assert (again.id, again.outcome) == (failed.id, NightOutcome.PROMOTED)
        assert jobs.read_job(folder).limit_seconds == 7200.0


async def test_killed_night_that_has_no_hours_left_is_not_begun_again(tmp_path: Path) -> None:
    failed = await _failed(tmp_path)
    write_json(tmp_path / "nights" / failed.id / SPENT, {"seconds": 3600.0})
    async with house(tmp_path) as h:
        await h.store.retry_night(failed.id)  # and killed
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert "NIGHT_LIMIT_HOURS" in night.sentences[0]


async def test_hours_are_kept_while_the_night_works(tmp_path: Path) -> None:
    async with spending(tmp_path, every_seconds=0.01):
        async with asyncio.timeout(10):
            while not spent_seconds(tmp_path):
                await asyncio.sleep(0.01)
    kept = spent_seconds(tmp_path)
    async with spending(tmp_path):
        await asyncio.sleep(0.01)
    assert spent_seconds(tmp_path) > kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": "many"}', '{"seconds": -5}', '{"seconds": NaN}'])
def test_count_that_is_damaged_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / SPENT).write_text(text)
    assert spent_seconds(tmp_path) == 0.0


# ---------------------------------------------------------------------- the report


async def test_night_that_could_not_tell_its_end_has_a_report_all_the_same(tmp_path: Path) -> None:
    failed = await _failed(tmp_path, "die")
    folder = tmp_path / "nights" / failed.id
    await draw_report(folder)
    assert "killed by signal 9" in (folder / "report.html").read_text()


async def test_report_that_cannot_be_drawn_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "night").write_text("no folder")
    await draw_report(tmp_path / "night")
    assert "has no report" in caplog.text


async def test_night_that_ended_encore_too_often_has_a_report(tmp_path: Path) -> None:
    failed = await _failed(tmp_path, "die")
    async with house(tmp_path) as h:
        for _ in range(2):
            await h.store.retry_night(failed.id)
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert night.state is NightState.FAILED
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])]
        assert replace(night) == await h.nightly.night(failed.id)
