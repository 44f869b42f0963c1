"""What a disk does to the adapters that the bot serves: power cut at every write, full, and files that were changed.

Whatever happens, the next start serves a whole adapter and says in a sentence what it didn't serve. Processes that are
killed are in test_promotion_kill.py and test_night_kill.py.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from bot.errors import AdapterChangeRefused
from bot.learning_records import Cause, NightState
from models.adapters import Adapters, Serving
from models.arms import Decision
from models.errors import AdapterRefused
from models.manifest import GGUF
from tests.bot.learning import MODEL_SHA
from tests.bot.nights import House, house
from tests.faults.harness import served_whole
from tests.models.adapter_files import full_at, killed_at, stage


async def _nothing() -> None:
    pass


# ---------------------------------------------------------------------- the pointer, cut at every write


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("change", ["promote", "settle", "rollback"])
async def test_power_cut_at_any_write_of_a_change_leaves_the_old_or_the_new(
    tmp_path: Path, change: str, share: float
) -> None:
    number = writes = 0
    while number <= writes:
        folder = tmp_path / f"{number}"
        async with house(folder, share=share) as h:
            await h.promotion.promote(h.install("a"), last_check=_nothing)
            if share:
                h.adapters.settle(True)
                h.promotion.serving = h.adapters.serving()
            if change == "settle":
                await h.promotion.promote(h.install("b"), last_check=_nothing)
            staged = stage(folder / "staged", "c", base_sha256=MODEL_SHA)
            before = h.adapters.serving()
        adapters = Adapters(folder / "adapters", MODEL_SHA)
        with killed_at(number) as count:
            if change == "promote":
                adapters.promote(adapters.install(staged), share=share or None, since=1.0)
            elif change == "settle":
                adapters.settle(True)
            else:
                adapters.rollback(None)
        writes = count()
        served = served_whole(folder)
        if served.canary is None:
            assert served.adapter in {before.adapter, "c", "b", None}
        else:
            assert served.canary.adapter in {"b", "c"}
        assert (folder / "adapters" / "a" / GGUF).is_file(), "what was served can still be gone back to"
        number += 1
    assert writes > 0


# ---------------------------------------------------------------------- a disk that is full


async def _changed(h: House, change: str, staged: Path) -> None:
    if change == "install":
        await asyncio.to_thread(h.adapters.install, staged)
    elif change == "promote":
        await h.promotion.promote("c", last_check=_nothing)
    elif change == "settle":
        h.judge.decision = Decision.KEEP
        await h.promotion.watch()
    else:
        await h.promotion.rollback(None, 9)


@pytest.mark.parametrize("change", ["install", "promote", "settle", "rollback"])
async def test_disk_full_at_any_write_of_a_change_is_told_and_the_change_works_when_there_is_room(
    tmp_path: Path, change: str
) -> None:
    number = writes = refused = 0
    while number <= writes:
        folder = tmp_path / f"{number}"
        async with house(folder, share=0.5 if change == "settle" else 0.0) as h:
            await h.promotion.promote(h.install("a"), last_check=_nothing)
            if change != "settle":
                await h.promotion.promote(h.install("b"), last_check=_nothing)
            if change == "promote":
                h.install("c")
            before = h.promotion.serving
            staged = stage(folder / "staged", "d", base_sha256=MODEL_SHA)
            with full_at(number) as count:
                try:
                    await _changed(h, change, staged)
                except (AdapterRefused, AdapterChangeRefused) as error:
                    refused += 1
                    assert "make room" in str(error)
                    assert h.promotion.serving == before
                except OSError as error:  # a night that installs tells it in its own sentence
                    assert (change, error.errno) == ("install", errno.ENOSPC)
                    refused += 1
            writes = count()
            assert served_whole(folder) == h.promotion.serving == h.adapters.serving()
            if h.promotion.serving == before:
                await _changed(h, change, staged)
            assert (h.promotion.serving != before) == (change != "install")
            assert served_whole(folder) == h.promotion.serving
        number += 1
    assert refused > 0


async def test_disk_full_at_the_pointer_fails_the_night_and_the_old_adapter_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        first = await h.nightly.run(Cause.COMMAND)

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("models.adapters.write_json", full)
            night = await h.nightly.run(Cause.COMMAND)
        assert night.state is NightState.FAILED
        assert "make room" in night.sentences[0]
        assert h.adapters.serving() == h.promotion.serving == Serving(first.adapter, previous=(None,))


# ---------------------------------------------------------------------- what lies on the disk at a start


async def test_truncated_adapter_is_refused_at_the_start_and_what_was_before_answers(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for name in ("a", "b"):
            await h.promotion.promote(h.install(name), last_check=_nothing)
        (h.adapters.folder / "b" / GGUF).write_bytes(b"")
    async with house(tmp_path) as h:
        assert h.promotion.serving.adapter == "a"
        (warning,) = (await h.nightly.status()).warnings
        assert "adapter.gguf of the adapter b has 0 bytes" in warning
        assert "The adapter a answers instead." in warning


async def test_swapped_adapter_file_is_refused_at_the_start(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for name in ("a", "b"):
            await h.promotion.promote(h.install(name), last_check=_nothing)
        a, b = (h.adapters.folder / name / GGUF for name in ("a", "b"))
        b.write_bytes(a.read_bytes())
    async with house(tmp_path) as h:
        assert h.promotion.serving.adapter == "a"


async def test_model_changed_under_an_adapter_is_told_in_a_sentence_and_the_base_answers(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.promotion.promote(h.install("a"), last_check=_nothing)
    async with house(tmp_path, model_sha256="ef" * 32) as h:
        assert h.promotion.serving.adapter is None
        (warning,) = (await h.nightly.status()).warnings
        assert "made for the model" in warning
        assert "The base model answers instead." in warning
        assert h.nightly.adapters() == ()
