"""Forgetting reaches the nights and the adapters that had read a member, and is finished whatever is killed."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.backups import restore
from bot.errors import StoreBusy
from bot.learning_records import Cause, Night, NightOutcome
from bot.night_work import NightWork
from bot.privacy.forget import Forget
from bot.privacy.journal import JOURNAL, Journal, RequestKind
from bot.privacy.members import members_of
from bot.privacy.notice import receipt_text
from bot.records import Provenance
from bot.store_privacy import Consent
from models.adapters import Serving
from models.manifest import MANIFEST
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.models.adapter_files import damage

MEI, LIN, SAM = 300_000_000_000_000_001, 300_000_000_000_000_002, 300_000_000_000_000_003


def forgetter(h: House) -> Forget:
    return Forget(h.store, Journal(h.folder / JOURNAL), h.nightly, h.promotion, nights=h.work.folder, clock=h.clock)


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as h:
        yield h


async def night_of(h: House, rater: int, author: int = LIN) -> Night:
    """Have a night learn from a reply to `author` that `rater` rated."""
    await vote(h.store, await ended_reply(h.store, author_id=author), rater)
    night = await h.nightly.run(Cause.COMMAND)
    assert night.outcome is NightOutcome.PROMOTED and night.adapter is not None
    return night


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)


# ---------------------------------------------------------------------- what a night holds


async def test_night_says_whose_data_it_holds_before_it_holds_any(h: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await vote(h.store, await ended_reply(h.store, author_id=LIN), MEI)
    seen = []

    def stop(path: Path, snapshot: object) -> str:
        seen.append(members_of(path.parent))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bot.night_work.write_snapshot", stop)
    await h.nightly.run(Cause.COMMAND)
    assert seen == [{1, 2, LIN, MEI}], "the prompt of the tests has the turns of 1 and 2"


async def test_night_notes_what_the_policy_allowed(h: House) -> None:
    await vote(h.store, await ended_reply(h.store, author_id=LIN, provenance=Provenance.DISCORD), MEI)
    await h.store.give_consent(MEI)
    night = await night_of(h, SAM)
    assert {name: night.figures[name] for name in ("discord_permitted", "members", "consenting")} == {
        "discord_permitted": False,
        "members": 2,
        "consenting": 1,
    }


# ---------------------------------------------------------------------- deletion


async def test_deletion_reaches_rows_nights_and_adapters(h: House) -> None:
    clean = await night_of(h, SAM)
    stale = await night_of(h, MEI)
    before = h.folder / "nights" / stale.id
    receipt = await forgetter(h).delete(MEI)
    assert receipt.rows is not None and receipt.rows["ratings"] == 1
    assert (receipt.nights, receipt.adapters, receipt.failures) == ((stale.id,), (stale.adapter,), ())
    assert (receipt.serving, receipt.changed) == (clean.adapter, True)
    assert h.promotion.serving.adapter == h.adapters.serving().adapter == clean.adapter
    assert not before.exists() and h.engine.adapters == (clean.adapter,)
    assert members_of(h.folder / "nights" / clean.id) == {1, 2, LIN, SAM}
    assert str(MEI).encode() not in everything(h.folder / "nights") + everything(h.folder / "adapters")
    assert await h.store.unfinished_deletions(Journal(h.folder / JOURNAL).read()) == []


async def test_later_night_that_read_the_member_too_leaves_the_base(h: House) -> None:
    await night_of(h, MEI)
    await night_of(h, SAM)  # its snapshot has Mei's vote as well
    receipt = await forgetter(h).delete(MEI)
    assert len(receipt.nights) == len(receipt.adapters) == 2
    assert (receipt.serving, receipt.changed) == (None, True)
    assert h.promotion.serving.adapter is None and h.engine.adapters == ()


async def test_who_was_in_no_night_changes_nothing_that_is_served(h: House) -> None:
    night = await night_of(h, SAM)
    receipt = await forgetter(h).delete(MEI)
    assert (receipt.nights, receipt.adapters, receipt.changed) == ((), (), False)
    assert h.promotion.serving.adapter == night.adapter


async def test_adapter_of_a_night_that_says_not_whose_it_is_goes_too(h: House) -> None:
    night = await night_of(h, SAM)
    shutil.rmtree(h.folder / "nights" / night.id)
    assert (await forgetter(h).delete(MEI)).adapters == (night.adapter,)


async def test_adapter_of_another_model_goes_too_for_the_day_when_that_model_is_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        stale = await night_of(h, MEI)
    async with house(tmp_path, model_sha256="e" * 64) as h:
        assert h.adapters.names() == ()
        assert (await forgetter(h).delete(MEI)).adapters == (stale.adapter,)
    async with house(tmp_path) as h:
        assert h.promotion.serving.adapter is None and h.adapters.names() == ()


async def test_damaged_adapter_stands_in_no_deletions_way(h: House) -> None:
    clean, stale = await night_of(h, SAM), await night_of(h, MEI)
    assert clean.adapter is not None and stale.adapter is not None
    damage(h.adapters, clean.adapter)
    (h.adapters.folder / stale.adapter / MANIFEST).write_text("{")
    receipt = await forgetter(h).delete(MEI)
    assert (receipt.adapters, receipt.serving, receipt.failures) == ((stale.adapter,), None, ())


async def test_next_scheduled_night_is_due_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, hour=4) as h:
        await night_of(h, MEI)
        assert not await h.nightly.due()
        receipt = await forgetter(h).delete(MEI)
        assert "I learn anew without you in the next night" in receipt_text(receipt)
        h.clock.now += 700  # the jitter
        assert await h.nightly.due()


@pytest.mark.parametrize(("hour", "frozen"), [(-1, False), (4, True)])
async def test_receipt_promises_no_night_where_none_comes(tmp_path: Path, hour: int, frozen: bool) -> None:
    async with house(tmp_path, hour=hour) as h:
        await night_of(h, MEI)
        if frozen:
            await h.nightly.freeze(9)
        told = receipt_text(await forgetter(h).delete(MEI))
        assert "the model as it came answers now." in told and "anew" not in told


async def test_night_under_way_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang") as h:
        await vote(h.store, await ended_reply(h.store), MEI)
        begun = asyncio.Event()
        told = lambda progress: begun.set() if progress.step == "train" else None  # noqa: E731
        running = asyncio.create_task(h.nightly.run(Cause.COMMAND, told))
        await begun.wait()
        receipt = await forgetter(h).delete(MEI)
        night = await running
        assert night.outcome is NightOutcome.RETRACTED and "took back" in night.sentences[0]
        assert receipt.nights == (night.id,)
        assert not (h.folder / "nights" / night.id).exists()
        assert await h.store.running_night() is None


@pytest.mark.parametrize("ask", ["delete", "withdraw_consent", "opt_out"])
async def test_night_that_collects_just_then_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    freeze, collected, go_on = NightWork._freeze, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        collected.set()
        assert go_on.wait(10)
        return freeze(*arguments)

    async with house(tmp_path, job="hang") as h:
        await vote(h.store, await ended_reply(h.store), MEI)
        monkeypatch.setattr(NightWork, "_freeze", slow)
        running = asyncio.create_task(h.nightly.run(Cause.COMMAND))
        assert await asyncio.to_thread(collected.wait, 10)
        asked = asyncio.create_task(getattr(forgetter(h), ask)(MEI))
        await asyncio.wait([asked], timeout=0.2)
        go_on.set()
        assert len((await asked).nights) == 1
        assert (await running).outcome is NightOutcome.RETRACTED
        assert str(MEI).encode() not in everything(tmp_path / "nights")


async def test_withdrawn_consent_unlearns_and_keeps_the_rows(h: House) -> None:
    night = await night_of(h, MEI)
    receipt = await forgetter(h).withdraw_consent(MEI)
    assert (receipt.rows, receipt.adapters) == (None, (night.adapter,))
    assert h.promotion.serving.adapter is None
    assert (await h.store.held(MEI))["ratings"]
    assert (await h.store.consent(MEI)).withdrawn_at == h.clock.now
    assert [asked.kind for asked in Journal(h.folder / JOURNAL).read()] == [RequestKind.WITHDRAW]


async def test_consent_from_before_an_opt_out_does_not_come_back_with_the_opt_in(h: House) -> None:
    forget = forgetter(h)
    await forget.give_consent(MEI)
    await forget.opt_in(MEI)
    assert (await h.store.consent(MEI)).given, "who hadn't opted out keeps it"
    await forget.opt_out(MEI)
    await forget.opt_in(MEI)
    assert (await h.store.consent(MEI)).withdrawn_at == h.clock.now
    assert await h.store.refusing() == {MEI}
    await h.store.opt_out(LIN, True)  # as an earlier version left it, or a kill
    await h.store.give_consent(LIN)
    await forget.opt_in(LIN)
    assert not (await h.store.consent(LIN)).given
    await forget.give_consent(MEI)
    assert await forget.finish_all() == []
    assert (await h.store.consent(MEI)).given and await h.store.refusing() == {LIN}


# ---------------------------------------------------------------------- kills and restores


@pytest.mark.parametrize("killed_in", ["erase", "retire", "_remove", "finish_deletion"])
async def test_deletion_that_a_kill_cut_short_is_finished_at_the_next_start(tmp_path: Path, killed_in: str) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    async with house(tmp_path) as h:
        await night_of(h, MEI)
        forget = forgetter(h)
        owner = {"erase": h.store, "finish_deletion": h.store, "retire": h.promotion}.get(killed_in, forget)
        setattr(owner, killed_in, die)
        with pytest.raises(Killed):
            await forget.delete(MEI)
    async with house(tmp_path) as h:
        receipts = await forgetter(h).finish_all()
        assert len(receipts) == 1 and receipts[0].failures == ()
        assert h.promotion.serving.adapter is None and h.adapters.names() == ()
        assert str(MEI).encode() not in everything(tmp_path / "nights")
        held = await h.store.held(MEI)
        assert {table for table, rows in held.items() if rows} == {"deletions"}
        assert await forgetter(h).finish_all() == []


@pytest.mark.parametrize("ask", ["withdraw_consent", "opt_out"])
@pytest.mark.parametrize("killed_in", ["keep_choice", "retire", "_remove"])
async def test_refusal_that_a_kill_cut_short_is_finished_at_the_next_start(
    tmp_path: Path, ask: str, killed_in: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    async with house(tmp_path) as h:
        await night_of(h, MEI)
        forget = forgetter(h)
        owner = {"keep_choice": h.store, "retire": h.promotion}.get(killed_in, forget)
        setattr(owner, killed_in, die)
        with pytest.raises(Killed):
            await getattr(forget, ask)(MEI)
    async with house(tmp_path) as h:
        await forgetter(h).finish_all()
        assert await h.store.refusing() == {MEI}
        assert h.promotion.serving == Serving() and h.adapters.names() == (), "nor is it there to go back to"
        assert str(MEI).encode() not in everything(tmp_path / "nights")
        assert await forgetter(h).finish_all() == []


async def test_withdrawal_asked_again_removes_what_was_stuck(h: House, monkeypatch: pytest.MonkeyPatch) -> None:
    night = await night_of(h, MEI)
    with monkeypatch.context() as stuck:
        stuck.setattr(Forget, "_remove", lambda *_: ([], ["stuck"]))
        assert (await forgetter(h).withdraw_consent(MEI)).failures == ("stuck",)
    assert (await forgetter(h).withdraw_consent(MEI)).nights == (night.id,)


async def test_restored_backup_is_purged_of_what_was_deleted_since(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await vote(h.store, await ended_reply(h.store, author_id=LIN), MEI)
        await h.store.backup(tmp_path / "backup.sqlite3")
        await forgetter(h).delete(MEI)
    await restore(tmp_path / "backup.sqlite3", tmp_path / "encore.sqlite3")
    async with house(tmp_path) as h:
        assert (await h.store.held(MEI))["ratings"], "the backup had it"
        assert len(await forgetter(h).finish_all()) == 1
        assert not (await h.store.held(MEI))["ratings"]


async def test_restored_backup_undoes_no_choice_that_was_made_since(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        forget = forgetter(h)
        await forget.give_consent(MEI)
        await forget.withdraw_consent(LIN)
        await forget.opt_out(SAM)
        await h.store.backup(tmp_path / "backup.sqlite3")
        h.clock.now += 60
        await forget.withdraw_consent(MEI)
        await forget.opt_out(MEI)
        await forget.give_consent(LIN)
        await forget.opt_in(SAM)
        night = await night_of(h, LIN)
    await restore(tmp_path / "backup.sqlite3", tmp_path / "encore.sqlite3")
    async with house(tmp_path) as h:
        assert (await h.store.consent(MEI)).given and await h.store.opted_out() == {SAM}, "the backup says so"
        assert await forgetter(h).finish_all() == []
        assert (await h.store.consent(MEI)).withdrawn_at == h.clock.now + 60
        assert (await h.store.consent(LIN)).given and await h.store.opted_out() == {MEI}
        assert h.promotion.serving.adapter == night.adapter, "who it learned from agrees"


async def test_deletion_ends_the_choice_that_a_backup_has(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        forget = forgetter(h)
        await forget.give_consent(MEI)
        await h.store.backup(tmp_path / "backup.sqlite3")
        await forget.withdraw_consent(MEI)
        await forget.delete(MEI)
    await restore(tmp_path / "backup.sqlite3", tmp_path / "encore.sqlite3")
    async with house(tmp_path) as h:
        await forgetter(h).finish_all()
        assert await h.store.consent(MEI) == Consent()


async def test_start_takes_away_what_was_learned_of_who_stands_as_refusing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        clean, stale = await night_of(h, SAM), await night_of(h, MEI)
        await h.store.withdraw_consent(MEI)  # as a restored backup says, of before anything was written down
    async with house(tmp_path) as h:
        [receipt] = await forgetter(h).finish_all()
        assert (receipt.nights, receipt.adapters) == ((stale.id,), (stale.adapter,))
        assert h.promotion.serving.adapter == clean.adapter and h.adapters.names() == (clean.adapter,)
        assert await forgetter(h).finish_all() == []


async def test_request_is_written_down_even_when_the_store_is_locked(h: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await vote(h.store, await ended_reply(h.store), MEI)
    forget, erase = forgetter(h), h.store.erase

    async def locked(*_: object) -> None:
        raise StoreBusy("locked")

    monkeypatch.setattr(h.store, "erase", locked)
    with pytest.raises(StoreBusy):
        await forget.delete(MEI)
    monkeypatch.setattr(h.store, "erase", erase)
    assert len(await forget.finish_all()) == 1
    assert not (await h.store.held(MEI))["ratings"]


async def test_folder_that_cannot_be_removed_is_told_and_tried_again(h: House, monkeypatch: pytest.MonkeyPatch) -> None:
    night = await night_of(h, MEI)
    rename = Path.replace

    def stuck(self: Path, target: Path) -> Path:
        if self.name == night.id:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", stuck)
    receipt = await forgetter(h).delete(MEI)
    assert receipt.failures == (f"The folder of the night {night.id} could not be removed (Permission denied).",)
    monkeypatch.setattr(Path, "replace", rename)
    (again,) = await forgetter(h).finish_all()
    assert again.nights == (night.id,) and again.failures == ()
