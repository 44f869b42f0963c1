"""What is served after promotions, canaries and rollbacks: engine, pointer and arms agree, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.errors import AdapterChangeRefused, StoreFull
from bot.promotion import BASE, Retired
from models.errors import AdapterRefused, EngineFailed, ModelError
from models.manifest import GGUF
from tests.bot.nights import House, house
from tests.bot.stores import new_ask


async def _nothing() -> None:
    pass


async def test_promoted_adapter_answers_all_at_once_without_a_canary(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.0) as h:
        await h.promote("a")
        assert (h.served().adapter, h.served().canary) == ("a", None)
        choice = await h.arms.place(new_ask())
        assert (choice.adapter, choice.placement.arm) == ("a", None)


async def test_promoted_adapter_is_a_canary_at_first(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promote("a")
        served = h.served()
        assert served.adapter is None
        assert served.canary is not None
        assert (served.canary.adapter, served.canary.share, served.canary.since) == ("a", 0.5, h.clock.now)


@pytest.mark.parametrize("error", [EngineFailed("no memory"), AdapterRefused("not for this model")])
async def test_engine_that_refuses_the_adapter_leaves_all_as_it_was(tmp_path: Path, error: ModelError) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")

        def refuse() -> None:
            raise error

        h.engine.on_swap = refuse
        with pytest.raises(type(error)):
            await h.promote("b")
        assert h.served().adapter == "a"
        assert h.engine.adapters == ("a",)


async def test_last_check_that_fails_leaves_the_pointer(tmp_path: Path) -> None:
    async with house(tmp_path) as h:

        async def fail() -> None:
            raise AdapterRefused("no more")

        with pytest.raises(AdapterRefused):
            await h.promotion.promote(h.install("a"), last_check=fail)
        assert h.served().adapter is None


async def test_full_disk_at_the_pointer_is_told_and_leaves_what_was_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")
        h.install("b")

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("models.adapters.write_json", full)
        with pytest.raises(AdapterRefused, match="make room"):
            await h.promotion.promote("b", last_check=_nothing)
        with pytest.raises(AdapterChangeRefused, match="make room"):
            await h.promotion.rollback(BASE, 9)
        assert h.served().adapter == "a"


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
        assert h.served().adapter == "a"


async def test_rollback_goes_back_step_by_step_and_to_names(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")
        await h.promote("b")
        assert h.nightly.adapters() == ("b", "a")
        assert (await h.nightly.rollback(None, 9)).adapter == "a"
        assert (await h.nightly.rollback(None, 9)).adapter is None
        with pytest.raises(AdapterChangeRefused, match="Nothing was served before"):
            await h.nightly.rollback(None, 9)
        assert (await h.nightly.rollback("b", 9)).adapter == "b"
        assert (await h.nightly.rollback(BASE, 9)).adapter is None
        assert h.served().adapter is None
        with pytest.raises(AdapterChangeRefused, match="no adapter gone"):
            await h.nightly.rollback("gone", 9)
        audit = await h.store.audit(None, 10)
        assert [entry.action for entry in audit] == ["learning rollback"] * 4
        assert {entry.actor_id for entry in audit} == {9}


async def test_rollback_works_while_what_is_served_is_damaged(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")
        await h.promote("b")
        h.engine.adapters = ("b",)  # a was freed meanwhile
        (h.adapters.folder / "b" / GGUF).write_bytes(b"damaged")
        assert (await h.nightly.rollback("a", 9)).adapter == "a"
        assert h.served().adapter == "a"


async def test_rollback_counts_though_the_store_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")

        async def full(*_: object) -> None:
            raise StoreFull("The disk is full.")

        monkeypatch.setattr(h.store, "add_audit", full)
        assert (await h.nightly.rollback(BASE, 9)).adapter is None
        assert h.served().adapter is None


async def test_what_waits_in_the_queue_still_finds_its_adapter(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")
        await h.promote("b")
        assert set(h.engine.adapters) == {"a", "b"}, "a reply may have chosen a just before"
        h.clock.now += 3600
        await h.promote("c")
        assert set(h.engine.adapters) == {"b", "c"}


async def test_only_the_newest_adapters_are_kept(tmp_path: Path) -> None:
    async with house(tmp_path, keep=2) as h:
        for name in ("a", "b", "c", "d"):
            await h.promote(name)
        assert h.nightly.adapters() == ("d", "c")


# ---------------------------------------------------------------------- taken out of service for good


def _of(*nights: str) -> Callable[[str], bool]:
    return lambda night: night in nights


async def _chain(h: House, *names: str) -> None:
    for name in names:
        await h.promote(name)


async def test_retired_adapter_hands_over_to_the_last_clean_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b", "c")
        nights = {name: h.adapters.manifest(name).night for name in "abc"}
        assert len(set(nights.values())) == 3
        retired = await h.promotion.retire(_of(nights["b"], nights["c"]))
        assert (retired.adapters, retired.serving, retired.changed, retired.failures) == (("b", "c"), "a", True, ())
        assert h.served().adapter == "a"
        assert h.adapters.names() == ("a",) and h.engine.adapters == ("a",)
        assert not (h.adapters.folder / "c").exists()
        assert h.adapters.before() is None
        assert (await h.promotion.retire(_of(nights["b"], nights["c"]))).adapters == ()


async def test_without_a_clean_one_the_base_answers(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b")
        retired = await h.promotion.retire(lambda night: True)
        assert (retired.adapters, retired.serving, retired.changed) == (("a", "b"), None, True)
        assert h.served().adapter is None
        assert h.engine.adapters == () and h.adapters.names() == ()
        assert [entry.action for entry in await h.store.audit(None, 1)] == ["learning retire"]


async def test_retired_canary_ends_and_what_answered_beside_it_stays(tmp_path: Path) -> None:
    async with house(tmp_path, share=0.0) as h:
        await h.promote("a")
    async with house(tmp_path, share=0.5) as h:
        await h.promote("b")
        retired = await h.promotion.retire(_of(h.adapters.manifest("b").night))
        assert (retired.adapters, retired.serving, retired.changed) == (("b",), "a", True)
        served = h.served()
        assert (served.adapter, served.canary) == ("a", None)
        assert h.engine.adapters == ("a",)


async def test_what_no_longer_answers_is_retired_without_a_change(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _chain(h, "a", "b")
        retired = await h.promotion.retire(_of(h.adapters.manifest("a").night))
        assert (retired.adapters, retired.serving, retired.changed) == (("a",), "b", False)
        assert h.served().adapter == "b"
        with pytest.raises(AdapterChangeRefused):
            await h.promotion.rollback("a", 1)


async def test_nothing_to_retire_is_no_news(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.promote("a")
        assert await h.promotion.retire(lambda night: False) == Retired(serving="a")
        assert await h.store.audit(None, 5) == []
