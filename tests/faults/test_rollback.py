"""A rollback through the real engine, on the tiny model: the answers of before come back, bit for bit.

Two nights promote an adapter each; moderators go back with `/training rollback`, the operator with `encore rollback`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.composition import NightOptions, Services, services
from bot.learning_records import Cause, NightOutcome
from bot.records import Provenance
from bot.settings import Settings
from models.engines.llama_cpp import LlamaCppEngine
from models.types import Piece
from tests.cogs.commands import run
from tests.faults import lora_night
from tests.faults.harness import command
from tests.models.answers import GREEDY, LIVELY, generate, same
from tests.models.tiny_gguf import cache_tiny_tokenizer, write_tiny_gguf
from tests.world import World

_NIGHTS = NightOptions(command=(sys.executable, lora_night.__file__))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    made = Settings(
        data_dir=tmp_path / "data", model=str(model), context_tokens=512, parallel_streams=1, threads=1,
        canary_share=0.0, night_hour=-1, edit_interval_seconds=0.02, message_content_intent=True,
    )  # fmt: skip
    cache_tiny_tokenizer(model, made.models_dir)
    return made


@asynccontextmanager
async def encore(settings: Settings) -> AsyncIterator[Services]:
    async with services(settings, database=settings.database, progress=lambda *_: None, nights=_NIGHTS) as opened:
        yield opened


@dataclass(frozen=True)
class Answers:
    """What the adapter that answers everyone says: the likeliest tokens, and drawn ones with a fixed seed."""

    adapter: str | None
    greedy: Piece
    drawn: Piece


async def answers(opened: Services) -> Answers:
    adapter = (await opened.learning.nightly.status()).serving.adapter
    engine = opened.model.engine
    assert isinstance(engine, LlamaCppEngine)
    return Answers(
        adapter, await generate(engine, adapter, sampling=GREEDY), await generate(engine, adapter, sampling=LIVELY)
    )


def assert_same(now: Answers, then: Answers) -> None:
    assert now.adapter == then.adapter
    assert now.greedy.logprobs and now.drawn.logprobs
    assert same(now.greedy, then.greedy)
    assert same(now.drawn, then.drawn)


async def promoted(opened: Services) -> Answers:
    """Run a night that promotes; return what answers then."""
    night = await opened.learning.nightly.run(Cause.COMMAND)
    assert night.outcome is NightOutcome.PROMOTED, night.sentences
    found = await answers(opened)
    assert found.adapter == night.adapter
    return found


async def roll_back(world: World, opened: Services, **options: str) -> Answers:
    """Roll back as a moderator does, in Discord; return what answers then."""
    before = (await opened.learning.nightly.status()).serving
    question = await run(world, "training rollback", **options)
    await world.answered(await world.click(world.moderator, question, label="Roll back"))

    async def is_changed() -> bool:
        return (await opened.learning.nightly.status()).serving != before

    await world.eventually(is_changed)
    return await answers(opened)


async def test_rollback_in_discord_brings_the_answers_back_bit_for_bit(settings: Settings) -> None:
    async with encore(settings) as opened:
        store, model, built = opened.store, opened.model, opened.learning
        async with World(settings, store, model, nightly=built.nightly, provenance=Provenance.DEMO, draw=None) as world:
            base = await answers(opened)
            first, second = await promoted(opened), await promoted(opened)
            assert not same(base.greedy, first.greedy)
            assert not same(first.greedy, second.greedy)
            assert_same(await roll_back(world, opened), first)
            assert_same(await roll_back(world, opened), base)
            assert second.adapter is not None
            assert_same(await roll_back(world, opened, to=second.adapter), second)
            assert world.errors == []


async def test_rollback_at_the_terminal_brings_the_answers_back_bit_for_bit(settings: Settings) -> None:
    async with encore(settings) as opened:
        base = await answers(opened)
        first, second = await promoted(opened), await promoted(opened)
    for to, then in (((), first), ((), base), ((second.adapter or "",), second)):
        async with command(settings.data_dir, "rollback", *to, MODEL=settings.model, CANARY_SHARE="0") as rollback:
            assert await rollback.ended() == 0, rollback.errors
        async with encore(settings) as opened:
            assert_same(await answers(opened), then)
