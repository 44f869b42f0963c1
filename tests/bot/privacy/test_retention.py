"""When what is older than its limit goes: every day, but never under a night that learns from it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bot.backups import gone_by, kept_aside, restore
from bot.database import beside
from bot.learning_records import MEMBERS_LEFT_OUT, TAKEN_BACK_BY, Cause, Night, NightOutcome, NightState
from bot.moderation.limits import Count, Scope, day_of
from bot.privacy.members import MEMBERS
from bot.privacy.retention import Pruned, Retention
from bot.records import Correction, Provenance
from bot.settings import Settings
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import house
from tests.bot.stores import new_reply

_DAY = 86_400.0


class _Sleeps:
    """Lets the rounds go on one at a time, and notes how long they wanted to wait."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._let_go = asyncio.Semaphore(0)
        self._asked = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._asked.set()
        await self._let_go.acquire()

    async def next(self) -> float:
        """Return how long a round waits, and let the one after it begin."""
        await self._asked.wait()
        self._asked.clear()
        self._let_go.release()
        return self.asked[-1]


async def test_nothing_is_removed_under_a_night_which_would_read_as_taken_back(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate(3)
        h.clock.now += 364 * _DAY
        await h.rate(3)
        night = asyncio.create_task(h.nightly.run(Cause.COMMAND))
        while not list(h.work.folder.glob("*/job.json")):
            await asyncio.sleep(0.01)
        h.clock.now += 2 * _DAY
        sleep = _Sleeps()
        rounds = asyncio.create_task(
            Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock, sleep=sleep).keep()
        )
        assert await sleep.next() == 3600.0
        assert await sleep.next() == 3600.0
        (h.work.folder / "go").touch()
        assert (await night).outcome is NightOutcome.PROMOTED
        while await sleep.next() == 3600.0:
            pass
        rounds.cancel()
        assert sleep.asked[-1] == _DAY
        assert await h.store.reply(1) is None, "the night is over"
        assert await h.store.reply(4) is not None


async def test_yesterdays_counts_go_while_encore_runs(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        today = day_of(h.clock.now)
        await h.store.keep_usage([Count(7, Scope.MEMBER, 3, today - 1, 5, 99), Count(7, Scope.MEMBER, 4, today, 1, 9)])
        await Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock).prune()
        held = [(await h.store.held(member))["member_usage"] for member in (3, 4)]
        assert [len(rows) for rows in held] == [0, 1]


async def test_reply_that_never_ended_goes_and_what_was_imported_stays(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        left = await new_reply(h.store, 501)
        imported = await ended_reply(h.store, provenance=Provenance.IMPORT)
        h.clock.now += 366 * _DAY
        assert (await Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock).prune()).replies == 1
        assert await h.store.reply(left) is None and await h.store.reply(imported) is not None


async def test_copies_kept_aside_go_30_days_after_they_were_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.store.backup(tmp_path / "saved.sqlite3")
    copies = []
    for days_ago in (31, 29):
        kept = await restore(tmp_path / "saved.sqlite3", h.store.path, clock=lambda: h.clock.now - days_ago * _DAY)  # noqa: B023
        assert kept is not None
        copies.append(kept)
    damaged = h.store.path.with_name(f"{h.store.path.name}.damaged-20200101-000000-2")
    named_by_hand = h.store.path.with_name(f"{h.store.path.name}.damaged-keep")
    for path in (damaged, beside(damaged, "-wal"), named_by_hand):
        path.touch()
    async with house(tmp_path) as h:
        retention = Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock)
        assert (await retention.prune()).copies == 2
        assert kept_aside(h.store.path) == [copies[1], named_by_hand]
        assert not beside(damaged, "-wal").exists() and copies[1].stat().st_size > 0
        assert (await retention.prune()).copies == 0
        h.clock.now += 2 * _DAY
        assert gone_by([copies[1]]) == datetime.fromtimestamp(h.clock.now, UTC).date()
        assert gone_by([copies[1], named_by_hand]) is None, "nobody knows when"
        assert (await retention.prune()).copies == 1
        assert kept_aside(h.store.path) == [named_by_hand]


async def test_what_is_known_of_raters_goes_with_their_last_rating_but_not_what_moderators_said(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for rater in (3, 4, 5, 6):
            await h.store.note_rater(7, rater, trusted=False, joined_at=1.7e9)
            await vote(h.store, await ended_reply(h.store), rater)
        await h.store.ban_rater(7, 4, 9)
        await h.store.trust_rater(7, 5, 9, False)
        h.clock.now += 400 * _DAY
        new = await ended_reply(h.store)
        await h.store.add_correction(Correction(new, 6, ("wrong",), "", "no"))
        forever = Settings(retention_days_replies=0)
        await Retention(h.store, forever, nights=h.work.folder, clock=h.clock).prune()
        assert len(await h.store.raters()) == 4
        await Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock).prune()
        assert {rater.member_id for rater in await h.store.raters()} == {4, 5, 6}


async def test_old_nights_name_nobody_and_stay_in_the_history(tmp_path: Path) -> None:
    mei, lin = 300_000_000_000_000_001, 300_000_000_000_000_002
    async with house(tmp_path) as h:
        for number in (1, 2):
            night = Night(f"night-{number}", Cause.MODERATOR, NightState.RUNNING, h.clock.now, actor_id=mei)
            await h.store.begin_night(night)
            ended = replace(
                night,
                state=NightState.FINISHED,
                outcome=NightOutcome.RETRACTED,
                finished_at=h.clock.now,
                sentences=("Nothing new.",),
                warnings=(f"The raters {mei}, {lin} vote as one.",),
                figures={"members": 2, MEMBERS_LEFT_OUT: [mei, lin], TAKEN_BACK_BY: [lin]},
            )
            await h.store.end_night(ended)
            h.clock.now += 60 * _DAY
        await Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock).prune()
        new, old = await h.store.nights(9)
        assert new == ended, "90 days haven't passed"
        assert (old.id, old.actor_id, old.outcome) == ("night-1", None, NightOutcome.RETRACTED)
        assert old.figures == {"members": 2, MEMBERS_LEFT_OUT: [0, 0], TAKEN_BACK_BY: [0]}
        assert old.sentences == ("Nothing new.",) and "2 members vote as one" in old.warnings[0]
        [named] = (await h.store.held(mei))["nights_that_name_you"]
        assert named["id"] == "night-2"


async def test_old_nights_keep_only_whose_data_they_held(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        old = await h.nightly.run(Cause.COMMAND)
        h.clock.now += 100 * _DAY
        await h.rate()
        new = await h.nightly.run(Cause.COMMAND)
        retention = Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock)
        assert await retention.prune() == Pruned(replies=0, audit=0, nights=1)
        assert [path.name for path in (h.work.folder / old.id).iterdir()] == [MEMBERS]
        assert (h.work.folder / new.id / "examples.jsonl").exists()
        assert await retention.prune() == Pruned(replies=0, audit=0, nights=0)


async def test_limits_of_zero_keep_for_ever(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate(1)
        await h.nightly.run(Cause.COMMAND)
        h.clock.now += 1e9
        settings = Settings(retention_days_replies=0, retention_days_audit=0, retention_days_nights=0)
        assert await Retention(h.store, settings, nights=h.work.folder, clock=h.clock).prune() == Pruned(0, 0, 0)
        assert await Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock).prune() == Pruned(1, 0, 1)
