"""kill -9 of Encore's own process at each step of a night that the bot does: collect, hand over, swap, pointer, canary.

The processes are real ones, forked from a server that has imported the bot once. Each kills itself with SIGKILL inside
the function that a step goes through, or is killed from outside at a moment that nobody chose.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from bot.learning_records import Cause, NightOutcome, NightState
from models.arms import Decision
from models.learning.files import write_json
from tests.bot.learning import ended_reply, vote
from tests.bot.nights import House, house
from tests.faults.harness import served_whole

if not hasattr(signal, "SIGKILL"):  # pragma: no cover
    pytest.skip("there is no SIGKILL here", allow_module_level=True)

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.test_promotion_kill"])
_RANDOM_KILLS = 24
_ANOTHER_RATER = 3
_STARTED_SECONDS = 60.0


def _die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it outlived SIGKILL")


async def _die_async(*_: object, **__: object) -> NoReturn:
    _die()


def _write_and_die(path: Path, content: Any) -> NoReturn:
    write_json(path, content)
    _die()


async def _nothing() -> None:
    pass


_PLACES: dict[str, Callable[[House], Any]] = {
    "collect": lambda h: mock.patch.object(h.store, "learnable", _die_async),
    "snapshot": lambda h: mock.patch("bot.night_work.write_snapshot", _die),
    "job": lambda h: mock.patch("bot.night_work.jobs.write_job", _die),
    "process": lambda h: mock.patch("bot.night_work.run_job", _die_async),
    "swap": lambda h: mock.patch.object(h.engine, "swap", _die_async),
    "last check": lambda h: mock.patch.object(h.work, "_require_standing", _die_async),
    "pointer": lambda h: mock.patch("models.adapters.write_json", _die),
    "after the pointer": lambda h: mock.patch("models.adapters.write_json", _write_and_die),
    "prune": lambda h: mock.patch.object(h.adapters, "prune", _die),
    "row": lambda h: mock.patch.object(h.store, "end_night", _die_async),
    "tidying": lambda h: mock.patch.object(h.work, "_tidy", _die),
}


def _in_a_process(target: Callable[..., None], *arguments: Any) -> Any:
    process = _PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


def _killed(target: Callable[..., None], *arguments: Any) -> None:
    process = _in_a_process(target, *arguments)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _night(folder: Path, place: str, share: float, replies: list[int]) -> None:
    async def main() -> None:
        async with house(folder, share=share) as h:
            for reply in replies:
                await vote(h.store, reply, _ANOTHER_RATER)
            with _PLACES[place](h):
                await h.nightly.run(Cause.SCHEDULE)

    asyncio.run(main())


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_killed_in_a_night_it_comes_to_the_same_end_at_the_next_start(
    tmp_path: Path, place: str, share: float
) -> None:
    async with house(tmp_path, share=share) as h:
        replies = await h.rate(3)
    await asyncio.to_thread(_killed, _night, tmp_path, place, share, replies)
    served_whole(tmp_path)
    async with house(tmp_path, share=share) as h:
        assert {reply: len(await h.store.votes(reply)) for reply in replies} == dict.fromkeys(replies, 2)
        await h.nightly.resume_unfinished()
        (night,) = await h.nightly.history(9)
        assert (night.state, night.outcome) == (NightState.FINISHED, NightOutcome.PROMOTED)
        served = h.adapters.serving()
        assert served == h.promotion.serving
        assert (served.canary.adapter if served.canary else served.adapter) == night.adapter
        assert night.adapter in h.engine.adapters


def _waiting_night(folder: Path) -> None:
    async def main() -> None:
        async with house(folder, job="wait") as h:
            await h.nightly.run(Cause.COMMAND, lambda told: (folder / told.step).touch())

    asyncio.run(main())


async def test_killed_while_its_job_trains_it_loses_no_rating_and_the_night_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        replies = await h.rate(3)
    process = _in_a_process(_waiting_night, tmp_path)
    async with asyncio.timeout(_STARTED_SECONDS):
        while not (tmp_path / "train").exists():
            await asyncio.sleep(0.01)
    process.kill()
    process.join()
    (tmp_path / "nights" / "go").touch()
    async with house(tmp_path) as h:
        (left,) = await h.nightly.history(9)
        assert left.state is NightState.RUNNING
        assert [len(await h.store.votes(reply)) for reply in replies] == [1, 1, 1]
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert (night.outcome, night.attempts) == (NightOutcome.PROMOTED, 2)
        assert served_whole(tmp_path).adapter == night.adapter


def _settling(folder: Path, keep: bool, place: str) -> None:
    async def main() -> None:
        async with house(folder, share=0.5) as h:
            h.judge.decision = Decision.KEEP if keep else Decision.ROLL_BACK
            with _PLACES[place](h):
                await h.nightly.watch_canary()

    asyncio.run(main())


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("place", ["pointer", "after the pointer"])
async def test_killed_while_a_canary_is_settled_it_serves_somethingserved_whole(
    tmp_path: Path, keep: bool, place: str
) -> None:
    async with house(tmp_path, share=0.5) as h:
        await h.promotion.promote(h.install("a"), last_check=_nothing)
    await asyncio.to_thread(_killed, _settling, tmp_path, keep, place)
    assert (served_whole(tmp_path).canary is not None) == (place == "pointer")
    async with house(tmp_path, share=0.5) as h:
        h.judge.decision = Decision.KEEP if keep else Decision.ROLL_BACK
        await h.nightly.watch_canary()
        assert h.adapters.serving() == h.promotion.serving
        assert h.adapters.serving().adapter == ("a" if keep else None)


# ---------------------------------------------------------------------- at moments that nobody chose


def _busy(folder: Path, number: int) -> None:
    """Promote, settle, roll back and run nights while members vote, until killed; note each vote that was taken."""

    async def votes(h: House, noted: int) -> None:
        for asked in itertools.count(number * 1_000_000):
            reply = await ended_reply(h.store, asked=asked)
            await vote(h.store, reply, 2)
            os.write(noted, f"{reply}\n".encode())

    async def changes(h: House) -> None:
        for turn in itertools.count():
            await h.promotion.promote(h.install(f"of-{number}-{turn}"), last_check=_nothing)
            h.judge.decision = Decision.KEEP if turn % 2 else Decision.ROLL_BACK
            await h.nightly.watch_canary()
            await h.nightly.run(Cause.COMMAND)
            await h.nightly.rollback(None, 9)

    async def main() -> None:
        noted = os.open(folder / "noted", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        async with house(folder, share=0.5) as h:
            (folder / f"begun-{number}").touch()
            await asyncio.gather(votes(h, noted), changes(h))

    asyncio.run(main())


async def test_killed_at_random_moments_it_always_starts_whole_and_keeps_every_vote(tmp_path: Path) -> None:
    chance = random.Random(5)
    outcomes = []
    for number in range(_RANDOM_KILLS):
        process = _in_a_process(_busy, tmp_path, number + 1)
        async with asyncio.timeout(_STARTED_SECONDS):
            while not (tmp_path / f"begun-{number + 1}").exists():
                await asyncio.sleep(0.002)
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL
        served = served_whole(tmp_path)
        async with house(tmp_path, share=0.5) as h:
            taken = [int(line) for line in (tmp_path / "noted").read_text().split("\n")[:-1]]
            assert [len(await h.store.votes(reply)) for reply in taken] == [1] * len(taken)
            assert h.promotion.serving == served
            assert all(h.adapters.gguf(name).is_file() for name in h.engine.adapters)
            night = await h.nightly.resume_unfinished()
            assert h.promotion.serving == served_whole(tmp_path)
            assert all(night.state is not NightState.RUNNING for night in await h.nightly.history(99))
            outcomes.append(night and night.state)
    assert NightState.FINISHED in outcomes, "no kill hit a night"
