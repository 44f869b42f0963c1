"""One night from its row to its end: what it freezes, how its process may end, and what may not be promoted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NightRefused, StoreFull
from bot.learning_records import Cause, Night, NightOutcome, NightState
from bot.night_job import environment
from bot.night_work import NightWork
from bot.records import Provenance
from bot.settings import Settings
from models.learning import job as jobs
from models.learning.report import tell_end
from models.learning.snapshot import read_snapshot
from models.spec import ECHO
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.nights import House, house
from tests.models.adapter_files import stage


async def _night(h: House, during: Any = None) -> Night:
    """Run a night whose job waits until `during` was done."""
    begun = asyncio.Event()
    running = asyncio.create_task(
        h.nightly.run(Cause.COMMAND, lambda told: begun.set() if told.step == "train" else None)
    )
    await begun.wait()
    if during is not None:
        await during()
    (h.folder / "nights" / "go").touch()
    return await running


async def test_job_gets_the_frozen_ratings_and_what_serves(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject") as h:
        replies = await h.rate(3)
        night = await h.nightly.run(Cause.COMMAND)
        folder = h.nightly.folder(night)
        job = jobs.read_job(folder)
        snapshot = read_snapshot(folder / jobs.SNAPSHOT, sha256=job.dataset_sha256)
        assert [reply.reply_id for reply in snapshot.replies] == replies
        assert len(snapshot.votes) == 3
        assert (job.incumbent, job.now, job.limit_seconds) == (None, h.clock.now, 3600.0)
        assert job.adapters_dir == h.adapters.folder.absolute()
        assert job.system_prompt == Settings().system_prompt, "a persona's catchphrase is no plant"


async def test_clock_that_was_ahead_does_not_end_learning_until_that_date(tmp_path: Path) -> None:
    """What was rated then is old from the next night on, and what is rated after that night can judge again."""
    async with house(tmp_path, job="reject") as h:
        right, ahead = h.clock.now, h.clock.now + 365 * 86_400
        h.clock.now = ahead
        await h.rate(2)
        staged = stage(tmp_path / "ahead", "a", base_sha256=MODEL_SHA, training_cut=ahead, created_at=ahead)
        h.adapters.install(staged)
        await h.promotion.rollback("a", 9)

        h.clock.now = right + 3600
        first = await h.nightly.run(Cause.COMMAND)
        manifest = h.adapters.manifest("a")
        assert manifest.training_cut == manifest.created_at == h.clock.now
        h.clock.now += 3600
        (new,) = await h.rate(1)
        h.clock.now += 3600
        second = await h.nightly.run(Cause.COMMAND)

        assert h.adapters.manifest("a").training_cut == first.started_at
        snapshot = read_snapshot(h.nightly.folder(second) / jobs.SNAPSHOT)
        assert {vote.reply_id for vote in snapshot.votes if vote.rated_at > first.started_at} == {new}
        assert {reply.created_at for reply in snapshot.replies if reply.reply_id != new} == {first.started_at}


async def test_report_that_says_all_already_is_not_drawn_again(tmp_path: Path) -> None:
    for job in ("promote", "reject"):
        async with house(tmp_path / job, job=job) as h:
            await h.rate()
            await h.nightly.run(Cause.COMMAND)
            assert h.drawn == []


async def test_report_says_how_many_ratings_wait_for_consent_as_the_card_does(tmp_path: Path) -> None:
    async with house(tmp_path, job="insufficient") as h:
        reply = await ended_reply(h.store, provenance=Provenance.OPERATOR)
        await vote(h.store, reply, 2)
        night = await h.nightly.run(Cause.COMMAND)
        assert night.sentences[-1] == "1 rating waits for its member's consent: /mod consent posts the question."
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])]
        report = await asyncio.to_thread(tell_end, h.nightly.folder(night))
        assert "1 rating waits for its member&#39;s consent: /mod consent posts the question." in report.read_text()


async def test_second_night_is_judged_against_what_the_first_made(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        first = await h.nightly.run(Cause.COMMAND)
        second = await h.nightly.run(Cause.COMMAND)
        assert jobs.read_job(h.nightly.folder(second)).incumbent == first.adapter
        assert h.adapters.serving().adapter == second.adapter


@pytest.mark.parametrize(
    ("job", "told"),
    [("die", "killed by signal 9"), ("quiet", "left no result"), ("garble", "can't be read"), ("failed", "It ended")],
)
async def test_job_that_ends_badly_is_a_failed_night_in_a_sentence(tmp_path: Path, job: str, told: str) -> None:
    async with house(tmp_path, job=job) as h:
        await h.rate()
        night = await h.nightly.run(Cause.COMMAND)
        assert (night.state, night.outcome) == (NightState.FAILED, None)
        assert told in night.sentences[0]
        assert h.adapters.serving().adapter is None
        told_by_job = job == "failed"
        assert h.drawn == ([] if told_by_job else [(h.nightly.folder(night), night.sentences[0])])


async def test_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang", limit_hours=0.5 / 3600) as h:
        await h.rate()
        night = await h.nightly.run(Cause.COMMAND)
        assert night.state is NightState.FAILED
        assert "NIGHT_LIMIT_HOURS" in night.sentences[0]
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])]


async def test_job_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "secret" not in environment(1).values()
    assert environment(3)["OMP_NUM_THREADS"] == "3"


async def test_rating_taken_back_during_the_night_keeps_its_adapter_from_being_served(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait", hour=4) as h:
        kept, gone = await h.rate(2)

        async def take_back() -> None:
            await h.store.retract_vote(gone, 2, "button")

        night = await _night(h, take_back)
        assert (night.outcome, night.adapter) == (NightOutcome.RETRACTED, None)
        assert "taken back" in night.sentences[0]
        assert h.adapters.serving().adapter is None
        assert h.adapters.names() == (), "what was learned from it is gone"
        left = {path.name for path in h.nightly.folder(night).rglob("*") if path.is_file()}
        assert not left & {jobs.SNAPSHOT, "standing.json", "labelled.jsonl", "pairs.jsonl"}, "and its data"
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])]
        assert await h.nightly.due(), "it is trained anew"
        again = await h.nightly.run(Cause.COMMAND)
        assert again.outcome is NightOutcome.PROMOTED
        snapshot = read_snapshot(h.nightly.folder(again) / jobs.SNAPSHOT)
        assert [reply.reply_id for reply in snapshot.replies] == [kept]


async def test_rater_who_is_banned_during_the_night_does_not_count(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        first, _ = await h.rate(2)
        await vote(h.store, first, 3)

        async def ban() -> None:
            await h.store.ban_rater(7, 2, 9)

        night = await _night(h, ban)
        assert (night.outcome, night.adapter) == (NightOutcome.RETRACTED, None)
        assert night.sentences[0].startswith("2 ratings of its data were taken back or banned meanwhile")
        assert h.served().adapter is None
        again = await _night(h)
        assert again.outcome is NightOutcome.PROMOTED, "who is banned already is no news"


async def test_rating_turned_round_counts_as_taken_back_and_a_new_one_does_not(tmp_path: Path) -> None:
    async with house(tmp_path / "turned", job="wait") as h:
        (reply,) = await h.rate(1)
        assert (await _night(h, lambda: vote(h.store, reply, 2, -1.0))).outcome is NightOutcome.RETRACTED
    async with house(tmp_path / "new", job="wait") as h:
        (reply,) = await h.rate(1)
        assert (await _night(h, lambda: vote(h.store, reply, 3))).outcome is NightOutcome.PROMOTED


async def test_adapter_proved_against_another_than_serves_is_not_promoted(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        name = h.install("other")

        async def roll() -> None:
            await h.nightly.rollback(name, 9)

        night = await _night(h, roll)
        assert night.outcome is NightOutcome.REJECTED
        assert "changed meanwhile" in night.sentences[0]
        assert h.adapters.serving().adapter == "other"
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])], "its job's report said that it may answer"


async def test_freeze_while_the_adapter_is_loaded_keeps_it_from_being_served(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        swap = h.engine.swap

        async def freeze_and_swap(adapters: Mapping[str, Path]) -> None:
            await h.nightly.freeze(9)
            await swap(adapters)

        h.engine.swap = freeze_and_swap  # type: ignore[method-assign]
        night = await h.nightly.run(Cause.COMMAND)
        assert night.outcome is NightOutcome.REJECTED
        assert "frozen meanwhile" in night.sentences[0]
        assert h.served().adapter is None
        assert night.adapter in h.adapters.names(), "a rollback may name it"
        assert h.drawn == [(h.nightly.folder(night), night.sentences[0])]


async def test_rollback_under_way_when_the_night_ends_is_not_overrun(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.promote("a")
        await h.promote("b")
        await h.rate()
        h.engine.adapters = ("b",)
        swap, is_loading, may_load = h.engine.swap, asyncio.Event(), asyncio.Event()
        rollbacks: list[asyncio.Task[Any]] = []

        async def slow(adapters: Mapping[str, Path]) -> None:
            is_loading.set()
            await may_load.wait()
            await swap(adapters)

        async def roll() -> None:
            h.engine.swap = slow  # type: ignore[method-assign]
            rollbacks.append(asyncio.create_task(h.nightly.rollback("a", 9)))
            await is_loading.wait()

        night_ends = asyncio.create_task(_night(h, roll))
        await is_loading.wait()
        while not list((tmp_path / "nights").glob("*/result.json")):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # the bot reads the result and waits for the rollback
        may_load.set()
        night = await night_ends
        await rollbacks[0]
        assert night.outcome is NightOutcome.REJECTED
        assert "changed meanwhile" in night.sentences[0]
        assert h.served().adapter == "a"


async def test_engine_that_refuses_makes_a_failed_night(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()

        def broken() -> None:
            raise RuntimeError("llama")

        h.engine.on_swap = broken
        night = await h.nightly.run(Cause.COMMAND)
        assert night.state is NightState.FAILED
        assert "RuntimeError" in night.sentences[0]
        assert h.adapters.serving().adapter is None


async def test_full_disk_at_the_snapshot_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as h:
        await h.rate()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("models.learning.files.os.fsync", full)
        night = await h.nightly.run(Cause.COMMAND)
        monkeypatch.undo()
        assert night.state is NightState.FAILED
        assert "make room" in night.sentences[0]


async def test_night_whose_end_the_store_did_not_take_ends_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        await h.rate()

        async def full(*_: object) -> None:
            raise StoreFull("The disk is full.")

        monkeypatch.setattr(h.store, "end_night", full)
        night = await h.nightly.run(Cause.COMMAND)
        assert night.outcome is NightOutcome.PROMOTED
    async with house(tmp_path, job="die") as h:
        ended = await h.nightly.resume_unfinished()
        assert ended is not None
        assert (ended.outcome, ended.adapter, ended.attempts) == (NightOutcome.PROMOTED, night.adapter, 2)
        assert h.adapters.serving().adapter == night.adapter


async def test_night_of_another_model_is_not_taken_up(tmp_path: Path) -> None:
    async with house(tmp_path, job="hang") as h:
        await h.rate()
        begun = asyncio.Event()
        running = asyncio.create_task(
            h.nightly.run(Cause.COMMAND, lambda told: begun.set() if told.step == "train" else None)
        )
        await begun.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with house(tmp_path, model_sha256="ef" * 32) as h:
        night = await h.nightly.resume_unfinished()
        assert night is not None
        assert night.state is NightState.FAILED
        assert "model was changed" in night.sentences[0]


async def test_model_without_weights_cannot_learn_and_says_what_can(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        work = NightWork(h.store, ECHO, h.promotion, Settings(), folder=tmp_path / "nights")
        assert not work.can_learn
        with pytest.raises(NightRefused, match="MODEL=embedded"):
            work.require_learning()


async def test_who_shows_the_progress_cannot_end_the_night(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.rate()

        def broken(_: object) -> None:
            raise RuntimeError("the message was deleted")

        assert (await h.nightly.run(Cause.COMMAND, broken)).outcome is NightOutcome.PROMOTED


async def test_names_of_an_unwritable_folder_are_told(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        (tmp_path / "nights").write_text("no folder")
        with pytest.raises(NightRefused, match="make room"):
            await h.nightly.run(Cause.COMMAND)


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="no priorities here")
async def test_job_runs_at_the_lowest_priority(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate()
        seen: list[int] = []

        async def look() -> None:
            for status in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if str(tmp_path) in status.read_text() and "fake_night" in status.read_text():
                        seen.append(os.getpriority(os.PRIO_PROCESS, int(status.parent.name)))
                except OSError:
                    continue

        await _night(h, look)
        assert seen == [19] or not Path("/proc").exists()


async def test_job_of_a_night_is_complete_json(tmp_path: Path) -> None:
    async with house(tmp_path, job="reject") as h:
        night = await h.nightly.run(Cause.COMMAND)
        told = json.loads((h.nightly.folder(night) / jobs.JOB).read_text())
        assert told["night_id"] == night.id
        assert replace(night) == await h.nightly.night(night.id)


@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (
            NightOutcome.PROMOTED,
            {
                "train.json",
                "raters.json",
                "phrases.json",
                "loss.png",
                "report.html",
                "neutral.jsonl",
                "result.json",
                "end.json",
            },
        ),
        (NightOutcome.RETRACTED, {"result.json", "end.json"}),
    ],
)
async def test_night_that_ended_keeps_what_its_report_is_drawn_from_unless_it_was_taken_back(
    tmp_path: Path, outcome: NightOutcome, left: set[str]
) -> None:
    async with house(tmp_path) as h:
        await h.rate()
        night = replace(await h.nightly.run(Cause.COMMAND), outcome=outcome)
        folder = h.nightly.folder(night)
        shutil.rmtree(folder)
        for name in ("train/kto/train.json", "train/kto/adapter/adapter_model.safetensors", "adapters/kto/adapter.gguf",
                     "evidence/neutral.jsonl", "raters.json", "phrases.json", "loss.png", "report.html",
                     "result.json"):  # fmt: skip
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        await h.nightly._work.end(night)
        assert {path.name for path in folder.rglob("*") if path.is_file()} == left
