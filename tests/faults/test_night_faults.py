"""kill -9 around a night in the bot: whatever dies, the next start serves a whole adapter and loses no rating.

Power is cut at every write to the disk of a promotion, a canary's end and a rollback; the task is cancelled and the
store refuses at every step; and a real process with a night in it is killed by SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.learning_records import Cause, NightOutcome, NightState
from models.adapters import Adapters, Serving
from models.arms import Decision
from models.manifest import GGUF
from tests.bot.learning import MODEL_SHA
from tests.bot.nights import FakeEngine, House, house
from tests.models.adapter_files import killed_at, stage

_ROOT = Path(__file__).resolve().parents[2]
_STARTED_SECONDS = 60.0


def _whole(folder: Path) -> Serving:
    """Return what a start serves, after it was found whole."""
    adapters = Adapters(folder / "adapters", MODEL_SHA)
    served, _ = adapters.heal()
    assert adapters.serving() == served
    return served


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
        served = _whole(folder)
        if served.canary is None:
            assert served.adapter in {before.adapter, "c", "b", None}
        else:
            assert served.canary.adapter in {"b", "c"}
        assert (folder / "adapters" / "a" / GGUF).is_file(), "what was served can still be gone back to"
        number += 1
    assert writes > 0


# ---------------------------------------------------------------------- the services, ended at each await


class _Ended(BaseException):
    """Stands for the end of the process: no handler of an Exception sees it."""


_PLACES: dict[str, Callable[[House, pytest.MonkeyPatch], None]] = {}


def _place(function: Callable[[House, pytest.MonkeyPatch], None]) -> Callable[[House, pytest.MonkeyPatch], None]:
    _PLACES[function.__name__.removeprefix("_at_")] = function
    return function


def _die(*_: object, **__: object) -> None:
    raise _Ended


async def _die_async(*_: object, **__: object) -> None:
    raise _Ended


@_place
def _at_collect(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(h.store, "learnable", _die_async)


@_place
def _at_snapshot(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bot.night_work.write_snapshot", _die)


@_place
def _at_job(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bot.night_work.jobs.write_job", _die)


@_place
def _at_process(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bot.night_work.run_job", _die_async)


@_place
def _at_swap(h: House, patch: pytest.MonkeyPatch) -> None:
    h.engine.on_swap = _die


@_place
def _at_last_check(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(h.work, "_require_standing", _die_async)


@_place
def _at_pointer(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("models.adapters.write_json", _die)


@_place
def _at_prune(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(h.adapters, "prune", _die)


@_place
def _at_row(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(h.store, "end_night", _die_async)


@_place
def _at_tidying(h: House, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bot.night_work.NightWork._tidy", _die)


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_encore_that_ends_in_a_night_comes_to_the_same_end_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, share: float
) -> None:
    async with house(tmp_path, share=share) as h:
        replies = await h.rate(3)
        with monkeypatch.context() as patch:
            _PLACES[place](h, patch)
            with pytest.raises(_Ended):
                await h.nightly.run(Cause.SCHEDULE)
    _whole(tmp_path)
    async with house(tmp_path, share=share) as h:
        assert {reply: len(await h.store.votes(reply)) for reply in replies} == dict.fromkeys(replies, 1)
        await h.nightly.resume_unfinished()
        (night,) = await h.nightly.history(9)
        assert (night.state, night.outcome) == (NightState.FINISHED, NightOutcome.PROMOTED)
        served = h.adapters.serving()
        assert served == h.promotion.serving
        assert (served.canary.adapter if served.canary else served.adapter) == night.adapter
        assert night.adapter in h.engine.adapters


@pytest.mark.parametrize("keep", [True, False])
async def test_encore_that_ends_while_a_canary_is_settled_serves_something_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promotion.promote(h.install("a"), last_check=_nothing)
        h.judge.decision = Decision.KEEP if keep else Decision.ROLL_BACK
        with monkeypatch.context() as patch:
            patch.setattr("models.adapters.write_json", _die)
            with pytest.raises(_Ended):
                await h.nightly.watch_canary()
    assert _whole(tmp_path).canary is not None
    async with house(tmp_path, share=0.5) as h:
        h.judge.decision = Decision.KEEP if keep else Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert h.adapters.serving().adapter == ("a" if keep else None)


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


# ---------------------------------------------------------------------- a real process, killed

_CHILD = """
import asyncio, sys
from pathlib import Path
from bot.learning_records import Cause
from tests.bot.nights import house

async def main():
    async with house(Path(sys.argv[1]), job="wait") as h:
        replies = await h.rate(3)
        await h.nightly.run(Cause.COMMAND, lambda told: print(told.step, *replies, flush=True))

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
async def test_killed_process_loses_no_rating_and_its_night_goes_on(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(tmp_path),
        env={**os.environ, "PYTHONPATH": str(_ROOT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(_STARTED_SECONDS):
        step, *replies = (await process.stdout.readline()).split()
        while step != b"train":
            step, *replies = (await process.stdout.readline()).split()
    process.kill()
    await process.communicate()
    with sqlite3.connect(tmp_path / "encore.sqlite3") as database:
        assert database.execute("SELECT state FROM nights").fetchall() == [("running",)]
    database.close()
    (tmp_path / "nights" / "go").touch()
    async with house(tmp_path, engine=FakeEngine()) as h:
        assert all([len(await h.store.votes(int(reply))) == 1 for reply in replies])
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert (night.outcome, night.attempts) == (NightOutcome.PROMOTED, 2)
        assert _whole(tmp_path).adapter == night.adapter
