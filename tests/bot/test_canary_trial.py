"""The canary's trial: what its judge is told, how it ends by itself, by a night or a rollback, what answers then."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bot.errors import NightRefused
from bot.learning_records import Cause
from models.arms import Arm, CanaryVerdict, Decision
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.bot.stores import new_ask

_DAY = 86_400.0


async def _rated_in_both_arms(h: House, canary: str) -> None:
    for channel in range(20):
        choice = await h.arms.place(new_ask(channel_id=channel))
        reply = await ended_reply(h.store, placement=choice.placement, adapter=choice.adapter)
        await vote(h.store, reply, 3, 1.0 if choice.adapter == canary else -1.0)


async def test_watch_is_told_the_arm_and_propensity_of_every_vote(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.2) as h:
        await h.promote("a")
        await _rated_in_both_arms(h, "a")
        assert await h.nightly.watch_canary() is not None
        (ratings,) = h.judge.asked
        assert len(ratings) == 20
        assert {(r.arm, r.propensity, r.good) for r in ratings} == {
            (Arm.CANDIDATE, 0.2, 1.0),
            (Arm.INCUMBENT, 0.8, 0.0),
        }
        await h.nightly.watch_canary()
        assert len(h.judge.asked) == 1, "the same ratings aren't judged twice"


async def test_canary_is_shown_in_the_report_of_the_night_that_made_it_while_that_is_there(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.2) as h:
        await h.promote("a")
        await _rated_in_both_arms(h, "a")
        await h.nightly.watch_canary()
        (tmp_path / "nights" / h.adapters.manifest("a").night).mkdir(parents=True)
        await _rated_in_both_arms(h, "a")
        await h.nightly.watch_canary()
        assert h.judge.shown_in == [None, tmp_path / "nights" / "a"]


async def test_canary_that_members_like_answers_all(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        h.judge.decision = Decision.KEEP
        verdict = await h.nightly.watch_canary()
        assert verdict is not None
        assert (h.served().adapter, h.served().canary) == ("a", None)
        assert await h.nightly.watch_canary() is None


async def test_canary_serves_no_more_conversations_while_learning_is_frozen(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        await h.nightly.freeze(9)
        h.judge.decision = Decision.KEEP
        told = await h.nightly.watch_canary()
        assert told is not None
        assert told.decision is Decision.CONTINUE, "moderators aren't told that it stays"
        assert h.served().canary is not None
        await h.nightly.unfreeze(9)
        await h.nightly.watch_canary()
        assert (h.served().adapter, h.served().canary) == ("a", None)


async def test_frozen_canary_that_is_worse_is_rolled_back_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        await h.nightly.freeze(9)
        h.judge.decision = Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert (h.served().adapter, h.served().canary) == (None, None)


async def test_canary_that_is_worse_is_rolled_back_by_itself_and_told(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        h.judge.decision = Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert (h.served().adapter, h.served().canary) == (None, None)
        assert any("a was rolled back" in warning for warning in (await h.nightly.status()).warnings)
        (entry,) = await h.store.audit(None, 5)
        assert (entry.action, entry.actor_id) == ("learning canary", 0)


async def test_canary_that_cannot_be_judged_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        h.judge.decision = None
        assert await h.nightly.watch_canary() is None
        assert h.served().canary is not None


async def _settled_by_a_night(h: House, cause: Cause = Cause.MODERATOR) -> CanaryVerdict:
    """Run a night and return how it told that it ended the canary."""
    told: list[CanaryVerdict] = []

    async def tell(verdict: CanaryVerdict) -> None:
        told.append(verdict)

    await h.nightly.run(cause, on_canary=tell)
    (verdict,) = told
    return verdict


@pytest.mark.parametrize(("worse", "stays"), [(0.2, True), (0.7, False)])
async def test_next_night_ends_an_undecided_canary_by_what_is_likelier_and_tells(
    tmp_path: Path, worse: float, stays: bool
) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await h.promote("a")
        h.judge.worse, h.judge.conversations = worse, (10, 10)
        verdict = await _settled_by_a_night(h)
        assert (h.served().adapter, h.served().canary) == ("a" if stays else None, None)
        assert verdict.decision is (Decision.KEEP if stays else Decision.ROLL_BACK)


@pytest.mark.parametrize("conversations", [(0, 0), (50, 9), (6, 6)])
@pytest.mark.parametrize("cause", [Cause.MODERATOR, Cause.SCHEDULE])
async def test_canary_that_was_hardly_heard_goes_on_and_no_night_begins(
    tmp_path: Path, conversations: tuple[int, int], cause: Cause
) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        h.judge.conversations = conversations
        for left in ("7 days", "6 days", "5 days", "4 days", "3 days", "48 h", "24 h"):
            with pytest.raises(NightRefused) as refused:
                await h.nightly.run(cause)
            assert str(refused.value) == (
                f"The trial of the adapter a goes on, as members have rated {conversations[0]} of its conversations "
                f"and {conversations[1]} of the others: the next night begins when 10 of each are rated, or in {left}; "
                "/training rollback ends the trial at once."
            )
            assert h.served().canary is not None
            h.clock.now += _DAY
        assert await h.nightly.history(1) == []


async def test_canary_of_a_server_that_learns_from_its_rating_room_alone_is_kept(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await h.promote("a")
        for day in (1, 2):  # 12 prompts a day
            h.clock.now += _DAY
            h.judge.conversations = (6 * day, 6 * day)
            await _rated_in_both_arms(h, "a")
            with contextlib.suppress(NightRefused):
                await h.nightly.run(Cause.SCHEDULE)
        assert (h.served().adapter, h.served().canary) == ("a", None)


@pytest.mark.parametrize("by_a_night", [True, False], ids=["night", "watch"])
@pytest.mark.parametrize("conversations", [(0, 0), (50, 2), (2, 50)])
async def test_canary_that_nobody_was_heard_on_goes_back_after_a_week(
    tmp_path: Path, conversations: tuple[int, int], by_a_night: bool
) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await h.promote("a")
        h.judge.conversations = conversations
        h.clock.now += 7 * _DAY
        verdict = await _settled_by_a_night(h) if by_a_night else await h.nightly.watch_canary()
        assert verdict is not None
        assert (h.served().adapter, h.served().canary) == (None, None)
        assert verdict.decision is Decision.ROLL_BACK
        assert verdict.sentence == (
            f"It was not heard enough to stay: members have rated {conversations[0]} of its conversations and "
            f"{conversations[1]} of the others. The adapter stays on disk; /training rollback a serves it again."
        )
        assert (await h.nightly.rollback("a", 9)).adapter == "a"


@pytest.mark.parametrize(("worse", "stays"), [(0.2, True), (0.7, False)])
async def test_canary_of_few_rated_conversations_ends_after_a_week_by_what_is_likelier(
    tmp_path: Path, worse: float, stays: bool
) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        h.judge.worse, h.judge.conversations = worse, (3, 9)
        h.clock.now += 7 * _DAY - 1
        await h.nightly.watch_canary()
        assert h.served().canary is not None
        h.clock.now += 1
        verdict = await h.nightly.watch_canary()
        assert verdict is not None
        assert (h.served().adapter, h.served().canary) == ("a" if stays else None, None)
        assert verdict.decision is (Decision.KEEP if stays else Decision.ROLL_BACK)


@pytest.mark.parametrize("undecided", [Decision.CONTINUE, None])
@pytest.mark.parametrize("conversations", [(0, 0), (2, 9), (3, 3), (12, 12)])
@pytest.mark.parametrize("worse", [0.1, 0.5, 0.9])
async def test_no_canary_is_on_trial_for_ever_or_stays_without_evidence(
    tmp_path: Path, undecided: Decision | None, conversations: tuple[int, int], worse: float
) -> None:
    async with house(tmp_path, share=0.5) as h:  # where no night is planned
        await h.promote("a")
        h.judge.decision, h.judge.conversations, h.judge.worse = undecided, conversations, worse
        for _ in range(8):
            await h.nightly.watch_canary()
            h.clock.now += _DAY
        assert h.served().canary is None
        is_heard = undecided is not None and min(conversations) >= 3 and worse <= 0.5
        assert h.served().adapter == ("a" if is_heard else None)


async def test_canary_that_cannot_be_judged_goes_back_after_a_week_and_does_not_end_learning(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await h.promote("a")
        h.judge.decision = None
        with pytest.raises(NightRefused, match="of the adapter a goes on, as its ratings can't be judged now"):
            await h.nightly.run(Cause.COMMAND)
        assert h.served().canary is not None
        h.clock.now += 7 * _DAY
        verdict = await _settled_by_a_night(h, Cause.COMMAND)
        assert (h.served().adapter, h.served().canary) == (None, None)
        assert "nan" not in verdict.sentence
        assert "its ratings can't be judged now" in verdict.sentence
        assert len(await h.nightly.history(2)) == 1


async def test_canary_that_began_while_the_clock_was_ahead_gets_its_time_and_no_more(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        h.clock.now += 365 * _DAY
        await h.promote("a")
        h.clock.now -= 365 * _DAY
        await h.nightly.watch_canary()
        with pytest.raises(NightRefused, match="in 7 days"):
            await h.nightly.run(Cause.SCHEDULE)
    async with house(tmp_path, job="reject", share=0.5) as h:
        h.clock.now += 7 * _DAY
        await _settled_by_a_night(h, Cause.SCHEDULE)
        assert h.served().canary is None


async def test_canary_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
    async with house(tmp_path, share=0.5) as h:
        served = h.served()
        assert served.canary is not None
        assert served.canary.adapter == "a"


async def test_rollback_to_base_ends_a_canary(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        assert await h.nightly.rollback(None, 9) == h.served()
        assert h.served().canary is None
