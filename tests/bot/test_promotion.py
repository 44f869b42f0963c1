"""What is served after promotions, canaries and rollbacks: engine, pointer and arms agree, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.errors import AdapterChangeRefused, NightRefused, StoreFull
from bot.learning_records import Cause
from bot.promotion import BASE, Retired
from models.adapters import Serving
from models.arms import Arm, CanaryVerdict, Decision
from models.errors import AdapterRefused, EngineFailed, ModelError
from models.manifest import GGUF
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.bot.stores import new_ask


async def _nothing() -> None:
    pass


async def _promote(h: House, name: str) -> None:
    await h.promotion.promote(h.install(name), last_check=_nothing)


def _served(h: House) -> Serving:
    """Return what is served, which engine, disk and memory agree on."""
    on_disk = h.adapters.serving()
    assert on_disk == h.promotion.serving
    assert {n for n in (on_disk.adapter, on_disk.canary and on_disk.canary.adapter) if n} <= set(h.engine.adapters)
    return on_disk


async def test_promoted_adapter_answers_all_at_once_without_a_canary(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.0) as h:
        await _promote(h, "a")
        assert (_served(h).adapter, _served(h).canary) == ("a", None)
        choice = await h.arms.place(new_ask())
        assert (choice.adapter, choice.placement.arm) == ("a", None)


async def test_promoted_adapter_is_a_canary_at_first(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        served = _served(h)
        assert served.adapter is None
        assert served.canary is not None
        assert (served.canary.adapter, served.canary.share, served.canary.since) == ("a", 0.5, h.clock.now)


@pytest.mark.parametrize("error", [EngineFailed("no memory"), AdapterRefused("not for this model")])
async def test_engine_that_refuses_the_adapter_leaves_all_as_it_was(tmp_path: Path, error: ModelError) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")

        def refuse() -> None:
            raise error

        h.engine.on_swap = refuse
        with pytest.raises(type(error)):
            await _promote(h, "b")
        assert _served(h).adapter == "a"
        assert h.engine.adapters == ("a",)


async def test_last_check_that_fails_leaves_the_pointer(tmp_path: Path) -> None:
    async with house(tmp_path) as h:

        async def fail() -> None:
            raise AdapterRefused("no more")

        with pytest.raises(AdapterRefused):
            await h.promotion.promote(h.install("a"), last_check=fail)
        assert _served(h).adapter is None


async def test_full_disk_at_the_pointer_is_told_and_leaves_what_was_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")
        h.install("b")

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("models.adapters.write_json", full)
        with pytest.raises(AdapterRefused, match="make room"):
            await h.promotion.promote("b", last_check=_nothing)
        with pytest.raises(AdapterChangeRefused, match="make room"):
            await h.promotion.rollback(BASE, 9)
        assert _served(h).adapter == "a"


async def test_cancelled_promotion_is_done_nevertheless(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.install("a")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await go_on.wait()

        promotion = asyncio.create_task(h.promotion.promote("a", last_check=wait))
        await begun.wait()
        promotion.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await promotion
        assert _served(h).adapter == "a"


async def test_rollback_goes_back_step_by_step_and_to_names(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")
        await _promote(h, "b")
        assert h.nightly.adapters() == ("b", "a")
        assert (await h.nightly.rollback(None, 9)).adapter == "a"
        assert (await h.nightly.rollback(None, 9)).adapter is None
        with pytest.raises(AdapterChangeRefused, match="Nothing was served before"):
            await h.nightly.rollback(None, 9)
        assert (await h.nightly.rollback("b", 9)).adapter == "b"
        assert (await h.nightly.rollback(BASE, 9)).adapter is None
        assert _served(h).adapter is None
        with pytest.raises(AdapterChangeRefused, match="no adapter gone"):
            await h.nightly.rollback("gone", 9)
        audit = await h.store.audit(None, 10)
        assert [entry.action for entry in audit] == ["learning rollback"] * 4
        assert {entry.actor_id for entry in audit} == {9}


async def test_rollback_works_while_what_is_served_is_damaged(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")
        await _promote(h, "b")
        h.engine.adapters = ("b",)  # a was freed meanwhile
        (h.adapters.folder / "b" / GGUF).write_bytes(b"damaged")
        assert (await h.nightly.rollback("a", 9)).adapter == "a"
        assert _served(h).adapter == "a"


async def test_rollback_counts_though_the_store_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")

        async def full(*_: object) -> None:
            raise StoreFull("The disk is full.")

        monkeypatch.setattr(h.store, "add_audit", full)
        assert (await h.nightly.rollback(BASE, 9)).adapter is None
        assert _served(h).adapter is None


async def test_what_waits_in_the_queue_still_finds_its_adapter(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")
        await _promote(h, "b")
        assert set(h.engine.adapters) == {"a", "b"}, "a reply may have chosen a just before"
        h.clock.now += 3600
        await _promote(h, "c")
        assert set(h.engine.adapters) == {"b", "c"}


async def test_only_the_newest_adapters_are_kept(tmp_path: Path) -> None:
    async with house(tmp_path, keep=2) as h:
        for name in ("a", "b", "c", "d"):
            await _promote(h, name)
        assert h.nightly.adapters() == ("d", "c")


# ---------------------------------------------------------------------- the canary


async def _rated_in_both_arms(h: House, canary: str) -> None:
    for channel in range(20):
        choice = await h.arms.place(new_ask(channel_id=channel))
        reply = await ended_reply(h.store, placement=choice.placement, adapter=choice.adapter)
        await vote(h.store, reply, 3, 1.0 if choice.adapter == canary else -1.0)


async def test_watch_is_told_the_arm_and_propensity_of_every_vote(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.2) as h:
        await _promote(h, "a")
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
        await _promote(h, "a")
        await _rated_in_both_arms(h, "a")
        await h.nightly.watch_canary()
        (tmp_path / "nights" / h.adapters.manifest("a").night).mkdir(parents=True)
        await _rated_in_both_arms(h, "a")
        await h.nightly.watch_canary()
        assert h.judge.shown_in == [None, tmp_path / "nights" / "a"]


async def test_canary_that_members_like_answers_all(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        h.judge.decision = Decision.KEEP
        verdict = await h.nightly.watch_canary()
        assert verdict is not None
        assert (_served(h).adapter, _served(h).canary) == ("a", None)
        assert await h.nightly.watch_canary() is None


async def test_canary_serves_no_more_conversations_while_learning_is_frozen(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        await h.nightly.freeze(9)
        h.judge.decision = Decision.KEEP
        await h.nightly.watch_canary()
        assert _served(h).canary is not None
        await h.nightly.unfreeze(9)
        await h.nightly.watch_canary()
        assert (_served(h).adapter, _served(h).canary) == ("a", None)


async def test_frozen_canary_that_is_worse_is_rolled_back_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        await h.nightly.freeze(9)
        h.judge.decision = Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert (_served(h).adapter, _served(h).canary) == (None, None)


async def test_canary_that_is_worse_is_rolled_back_by_itself_and_told(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        h.judge.decision = Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert (_served(h).adapter, _served(h).canary) == (None, None)
        assert any("a was rolled back" in warning for warning in (await h.nightly.status()).warnings)
        (entry,) = await h.store.audit(None, 5)
        assert (entry.action, entry.actor_id) == ("learning canary", 0)


async def test_canary_that_cannot_be_judged_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        h.judge.decision = None
        assert await h.nightly.watch_canary() is None
        assert _served(h).canary is not None


@pytest.mark.parametrize("heard", ["ratings", "hours"])
@pytest.mark.parametrize(("worse", "stays"), [(0.2, True), (0.7, False)])
async def test_next_night_ends_an_undecided_canary_by_what_is_likelier_and_tells(
    tmp_path: Path, worse: float, stays: bool, heard: str
) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await _promote(h, "a")
        h.judge.worse = worse
        if heard == "ratings":
            h.judge.conversations = (10, 10)
        else:
            h.clock.now += 12 * 3600
        told: list[CanaryVerdict] = []

        async def tell(verdict: CanaryVerdict) -> None:
            told.append(verdict)

        await h.nightly.run(Cause.MODERATOR, on_canary=tell)
        assert (_served(h).adapter, _served(h).canary) == ("a" if stays else None, None)
        assert [verdict.decision for verdict in told] == [Decision.KEEP if stays else Decision.ROLL_BACK]


@pytest.mark.parametrize("conversations", [(0, 0), (50, 9)])
@pytest.mark.parametrize("cause", [Cause.MODERATOR, Cause.SCHEDULE])
async def test_canary_that_was_hardly_heard_is_not_kept_by_asking_for_another_night(
    tmp_path: Path, conversations: tuple[int, int], cause: Cause
) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        h.judge.conversations = conversations
        h.clock.now += 3600
        with pytest.raises(NightRefused, match="in 11 h, or end the trial with /training rollback"):
            await h.nightly.run(cause)
        assert _served(h).canary is not None
        assert await h.nightly.history(1) == []


async def test_canary_that_cannot_be_judged_does_not_end_learning(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject", share=0.5) as h:
        await _promote(h, "a")
        h.judge.decision = None
        with pytest.raises(NightRefused, match="on trial"):
            await h.nightly.run(Cause.COMMAND)
        h.clock.now += 12 * 3600
        await h.nightly.run(Cause.COMMAND)
        assert _served(h).adapter == "a"


async def test_canary_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
    async with house(tmp_path, share=0.5) as h:
        served = _served(h)
        assert served.canary is not None
        assert served.canary.adapter == "a"


async def test_rollback_to_base_ends_a_canary(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "a")
        assert await h.nightly.rollback(None, 9) == _served(h)
        assert _served(h).canary is None


# ---------------------------------------------------------------------- taken out of service for good


def _of(*nights: str) -> Callable[[str], bool]:
    return lambda night: night in nights


async def _chain(h: House, *names: str) -> None:
    for name in names:
        await _promote(h, name)


async def test_retired_adapter_hands_over_to_the_last_clean_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b", "c")
        nights = {name: h.adapters.manifest(name).night for name in "abc"}
        assert len(set(nights.values())) == 3
        retired = await h.promotion.retire(_of(nights["b"], nights["c"]))
        assert (retired.adapters, retired.serving, retired.changed, retired.failures) == (("b", "c"), "a", True, ())
        assert _served(h).adapter == "a"
        assert h.adapters.names() == ("a",) and h.engine.adapters == ("a",)
        assert not (h.adapters.folder / "c").exists()
        assert h.adapters.before() is None
        assert (await h.promotion.retire(_of(nights["b"], nights["c"]))).adapters == ()


async def test_without_a_clean_one_the_base_answers(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b")
        retired = await h.promotion.retire(lambda night: True)
        assert (retired.adapters, retired.serving, retired.changed) == (("a", "b"), None, True)
        assert _served(h).adapter is None
        assert h.engine.adapters == () and h.adapters.names() == ()
        assert [entry.action for entry in await h.store.audit(None, 1)] == ["learning retire"]


async def test_retired_canary_ends_and_what_answered_beside_it_stays(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.0) as h:
        await _promote(h, "a")
    async with house(tmp_path, share=0.5) as h:
        await _promote(h, "b")
        retired = await h.promotion.retire(_of(h.adapters.manifest("b").night))
        assert (retired.adapters, retired.serving, retired.changed) == (("b",), "a", True)
        served = _served(h)
        assert (served.adapter, served.canary) == ("a", None)
        assert h.engine.adapters == ("a",)


async def test_what_no_longer_answers_is_retired_without_a_change(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b")
        retired = await h.promotion.retire(_of(h.adapters.manifest("a").night))
        assert (retired.adapters, retired.serving, retired.changed) == (("a",), "b", False)
        assert _served(h).adapter == "b"
        with pytest.raises(AdapterChangeRefused):
            await h.promotion.rollback("a", 1)


async def test_nothing_to_retire_is_no_news(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _promote(h, "a")
        assert await h.promotion.retire(lambda night: False) == Retired(serving="a")
        assert await h.store.audit(None, 5) == []
