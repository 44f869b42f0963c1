"""Members who take votes back while nights learn from them: neither one nor several can keep nights from ending."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import pytest

from bot.learning_records import LEFT_OUT_DAYS, Cause, Night, NightOutcome
from bot.privacy.forget import Forget
from bot.privacy.journal import JOURNAL, Journal
from bot.records import Correction, Preference
from models.learning import job as jobs
from models.learning.snapshot import read_snapshot
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house

MEI, LIN, SAM = 300_000_000_000_000_001, 300_000_000_000_000_002, 300_000_000_000_000_003


async def _replies(h: House) -> list[int]:
    """Make two replies that Lin and Sam like."""
    replies = [await ended_reply(h.store) for _ in range(2)]
    for reply in replies:
        for member in (LIN, SAM):
            await vote(h.store, reply, member)
    return replies


async def _night(h: House, during: Callable[[], Awaitable[object]] | None = None) -> Night:
    """Run a night of a job that waits until `during` was done."""
    go = h.folder / "nights" / "go"
    go.unlink(missing_ok=True)
    begun = asyncio.Event()
    running = asyncio.create_task(
        h.nightly.run(Cause.COMMAND, lambda told: begun.set() if told.step == "train" else None)
    )
    await begun.wait()
    if during is not None:
        await during()
    go.touch()
    return await running


async def _spoilt(h: House, reply: int, *members: int) -> Night:
    """Run a night during which members take their votes on a reply back, cast just before."""
    for member in members:
        await vote(h.store, reply, member, -1.0)

    async def take_back() -> None:
        for member in members:
            await h.store.retract_vote(reply, member, "button")

    night = await _night(h, take_back)
    assert night.outcome is NightOutcome.RETRACTED
    return night


def _raters(h: House, night: Night) -> set[int]:
    return {vote.rater_id for vote in read_snapshot(h.nightly.folder(night) / jobs.SNAPSHOT).votes}


async def test_member_who_ends_two_nights_by_taking_votes_back_does_not_end_the_third(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, second = await _replies(h)
        await _spoilt(h, first, MEI)
        await _spoilt(h, first, MEI)
    async with house(tmp_path, job="wait") as h:
        await vote(h.store, first, MEI, -1.0)
        await vote(h.store, second, MEI, -1.0)
        night = await _night(h, lambda: h.store.retract_vote(first, MEI, "button"))
        assert (night.outcome, night.members_left_out) == (NightOutcome.PROMOTED, (MEI,))
        assert _raters(h, night) == {LIN, SAM}
        end = jobs.read_end(h.nightly.folder(night))
        assert end is not None and "learned without the ratings of 1 member" in end.warnings[0], "for the report"

        h.clock.now += (LEFT_OUT_DAYS - 1) * 86_400
        again = await _night(h)
        assert (again.outcome, again.members_left_out) == (NightOutcome.PROMOTED, (MEI,))
        h.clock.now += 2 * 86_400
        last = await _night(h)
        assert (last.outcome, last.members_left_out) == (NightOutcome.PROMOTED, ())
        assert _raters(h, last) == {LIN, SAM, MEI}


async def test_members_who_take_turns_spoil_a_night_each_and_are_left_out_from_the_second_on(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await _replies(h)
        left_out = [(await _spoilt(h, first, member)).members_left_out for member in (MEI, MEI + 10, MEI + 20)]
        assert left_out == [(), (), (MEI, MEI + 10)]
        assert (await _night(h)).members_left_out == (MEI, MEI + 10, MEI + 20)
        await _spoilt(h, first, MEI + 30)
        assert (await _night(h)).members_left_out == (MEI, MEI + 10, MEI + 20), "a night that ended forgives nobody"


async def test_who_takes_a_vote_back_once_is_not_left_out(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await _replies(h)
        await _spoilt(h, first, MEI)
        assert (await _night(h)).outcome is NightOutcome.PROMOTED
        await _spoilt(h, first, MEI)
        assert (await _night(h)).members_left_out == (), "there was a good night between Mei's two"


async def test_night_that_failed_between_two_that_were_spoilt_forgives_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await _replies(h)
        await _spoilt(h, first, MEI)
    async with house(tmp_path, job="failed") as h:
        await h.nightly.run(Cause.COMMAND)
    async with house(tmp_path, job="wait") as h:
        await _spoilt(h, first, MEI)
        assert (await _night(h)).members_left_out == (MEI,)


async def test_reply_of_which_nobody_else_thinks_anything_is_not_learned_from(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await _replies(h)
        alone = await ended_reply(h.store)
        await vote(h.store, alone, MEI)
        for _ in range(2):
            await _spoilt(h, first, MEI)
        night = await _night(h)
        snapshot = read_snapshot(h.nightly.folder(night) / jobs.SNAPSHOT)
        assert alone not in {reply.reply_id for reply in snapshot.replies}


# ---------------------------------------------------------------------- whose doing it is


async def _ban(h: House, reply: int) -> None:
    await h.store.ban_rater(7, MEI, 9)


async def _withdraw(h: House, reply: int) -> None:
    await h.store.withdraw_consent(MEI)


async def _delete_the_reply(h: House, reply: int) -> None:
    await h.store.prune_replies(h.clock.now + 1)


async def _never_learn(h: House, reply: int) -> None:
    async with h.store._database.transaction() as connection:
        await connection.execute_fetchall("INSERT INTO never_learn VALUES (?, 0)", (reply,))


async def _take_back(h: House, reply: int) -> None:
    await h.store.retract_vote(reply, MEI, "button")


async def _turn_round(h: House, reply: int) -> None:
    await vote(h.store, reply, MEI, -1.0)


async def _compare_anew(h: House, reply: int) -> None:
    await h.store.record_preference(reply, reply + 1, MEI, Preference.NEITHER)


@pytest.mark.parametrize(
    ("change", "by"),
    [
        (_take_back, (MEI,)),
        (_turn_round, (MEI,)),
        (_compare_anew, (MEI,)),
        (_ban, ()),
        (_withdraw, ()),
        (_delete_the_reply, ()),
        (_never_learn, ()),
    ],
)
async def test_only_what_members_took_back_themselves_is_theirs(
    tmp_path: Path, change: Callable[[House, int], Awaitable[None]], by: Collection[int]
) -> None:
    async with house(tmp_path, job="wait") as h:
        earlier = await ended_reply(h.store, asked=1)
        later = await ended_reply(h.store, asked=1, variant=1)
        await vote(h.store, earlier, MEI)
        await h.store.add_correction(Correction(later, MEI, ("wrong",), "", ""))
        await h.store.record_preference(earlier, later, MEI, Preference.A)
        night = await _night(h, lambda: change(h, earlier))
        assert (night.outcome, night.taken_back_by) == (NightOutcome.RETRACTED, by)


async def test_night_forgets_a_deleted_member_whom_it_did_without(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await _replies(h)
        for _ in range(2):
            await _spoilt(h, first, MEI)
        assert (await _night(h)).members_left_out == (MEI,)
        forget = Forget(h.store, Journal(h.folder / JOURNAL), h.nightly, h.promotion, nights=h.work.folder)
        await forget.delete(MEI)
        assert [(n.members_left_out, n.taken_back_by) for n in await h.nightly.history(3)] == [((), ())] * 3
        assert str(MEI) not in str(await h.nightly.history(3))
