from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.engines.llama_cpp import LlamaCppEngine
from models.learning import generations
from models.learning.context import Context, LimitReached
from models.learning.fixed_prompts import brief_prompts, leading_prompts, neutral_prompts
from models.learning.generations import (
    GeneratedReply,
    Replies,
    anchor_texts,
    base_replies,
    count,
    generate,
    persona_replies,
)
from models.learning.job import Progress
from models.learning.phrases import Phrase
from models.safety import load_filter
from models.types import Request
from tests.models.learning.nights import make_night, small_snapshot, tiny_model
from tests.models.tiny_gguf import write_tiny_lora

NEUTRAL, LEADING, BRIEF = len(neutral_prompts()), len(leading_prompts()), len(brief_prompts())


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(generations, "MAX_TOKENS", 24)
    monkeypatch.setattr(generations, "MAX_LEADING_TOKENS", 6)
    monkeypatch.setattr(generations, "MAX_BRIEF_TOKENS", 30)
    job = make_night(tmp_path / "night", tiny_model(tmp_path), small_snapshot())
    shutil.rmtree(tmp_path / "base-replies", ignore_errors=True)  # what is made up for other tests is written here
    return Context(tmp_path / "night", job, say=lambda _: None)


def _said(
    text: str = "A cup of tea.", ids: tuple[int, ...] = tuple(range(20)), *, ended: bool = True
) -> GeneratedReply:
    return GeneratedReply(text, ids, ended)


def _replies(change: Callable[[int], GeneratedReply] = lambda _: _said()) -> Replies:
    every = [change(i) for i in range(NEUTRAL + LEADING + BRIEF)]
    return Replies(tuple(every[:NEUTRAL]), tuple(every[NEUTRAL:-BRIEF]), tuple(every[-BRIEF:]))


def test_base_replies_to_every_prompt_are_written_once_for_all_nights(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    context._say = told.append
    asked: list[Request] = []
    answer = generations._answer

    async def listening(engine: LlamaCppEngine, request: Request, *rest: Any) -> GeneratedReply:
        asked.append(request)
        return await answer(engine, request, *rest)

    monkeypatch.setattr(generations, "_answer", listening)
    found = base_replies(context)
    assert (len(found.neutral), len(found.leading), len(found.brief)) == (NEUTRAL, LEADING, BRIEF)
    assert [request.sampling.max_new_tokens for request in asked] == [24] * NEUTRAL + [6] * LEADING + [30] * BRIEF
    assert {(request.sampling.temperature, request.adapter) for request in asked} == {(0.0, None)}
    assert [progress.done for progress in told] == list(range(1, NEUTRAL + LEADING + BRIEF + 1))

    told.clear()
    later = Context(tmp_path / "later", context.job, say=told.append)
    assert base_replies(later) == found
    assert told == []


def _holds(ids: tuple[int, ...], part: list[int]) -> bool:
    return any(list(ids[at : at + len(part)]) == part for at in range(len(ids)))


def test_the_persona_answers_the_same_prompts_in_character_and_is_kept_by_its_text(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    async def listening(engine: LlamaCppEngine, request: Request, *_: Any) -> GeneratedReply:
        asked.append(request.prompt_token_ids)
        return _said()

    monkeypatch.setattr(generations, "_answer", listening)
    for text in ("You are a cat, and you purr. " * 200, "You are an owl."):
        persona = Context(context.folder, replace(context.job, system_prompt=text), say=lambda _: None)
        found = persona_replies(persona)
        assert (len(found.neutral), len(found.leading)) == (NEUTRAL, LEADING)
        system = context.tokenizer.encode_text(text.strip())
        assert all(_holds(prompt, system) for prompt in asked)
        assert len(set(asked)) == len({prompt.text for prompt in (*neutral_prompts(), *leading_prompts())})
        asked.clear()
        assert persona_replies(persona) == found
        assert asked == []


def test_replies_that_were_cut_elsewhere_are_written_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    async def listening(engine: LlamaCppEngine, request: Request, *_: Any) -> GeneratedReply:
        asked.append(request)
        return _said()

    monkeypatch.setattr(generations, "_answer", listening)
    base_replies(context)
    base_replies(context)
    assert len(asked) == NEUTRAL + LEADING + BRIEF
    monkeypatch.setattr(generations, "MAX_BRIEF_TOKENS", 31)
    base_replies(context)
    assert len(asked) == 2 * (NEUTRAL + LEADING + BRIEF)


def test_what_was_kept_before_there_were_brief_prompts_is_written_again(context: Context) -> None:
    found = base_replies(context)
    path = context.job.models_dir / "base-replies" / f"{context.job.model_sha256[:16]}.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-BRIEF]))
    assert base_replies(context) == found


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"{}\n" + data, lambda _: b""])
def test_damaged_base_replies_are_written_again(context: Context, damage: Callable[[bytes], bytes]) -> None:
    found = base_replies(context)
    path = context.job.models_dir / "base-replies" / f"{context.job.model_sha256[:16]}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert len(base_replies(context).neutral) == len(found.neutral)
    assert len(path.read_bytes().splitlines()) == len(whole.splitlines())


def test_replies_of_another_adapter_are_not_taken_for_this_one_s(context: Context, tmp_path: Path) -> None:
    kept, adapter = tmp_path / "kept.jsonl", tmp_path / "adapter.gguf"
    adapter.write_bytes(b"one")
    identity = generations._identity(context, adapter)
    adapter.write_bytes(b"another")
    assert generations._identity(context, adapter) != identity
    generate(context, None, kept, "the base model")
    assert generations._read(kept, identity) is None


def test_an_adapter_s_replies_are_its_own(context: Context, tmp_path: Path) -> None:
    adapter = write_tiny_lora(tmp_path / "adapter.gguf", seed=3)
    found = generate(context, adapter, tmp_path / "kept.jsonl", "a candidate")
    base = base_replies(context)
    changed = sum(ours.token_ids != its.token_ids for ours, its in zip(found.neutral, base.neutral, strict=True))
    assert changed > NEUTRAL / 2
    assert generate(context, adapter, tmp_path / "kept.jsonl", "a candidate") == found


def test_the_night_s_limit_ends_the_generation(context: Context, tmp_path: Path) -> None:
    ticks = iter(range(100))
    late = Context(tmp_path, context.job, say=lambda _: None, clock=lambda: 4000.0 * next(ticks))
    with pytest.raises(LimitReached):
        generate(late, None, tmp_path / "kept.jsonl", "the base model")
    assert not (tmp_path / "kept.jsonl").exists()


def test_anchors_end_where_the_base_ended_and_halves_share_no_text(context: Context) -> None:
    found = anchor_texts(context, _replies(lambda i: _said(ids=tuple(range(5, 25)), ended=i % 4 == 0)))
    assert len(found.training) + len(found.judging) == NEUTRAL
    assert not {text.ids for text in found.training} & {text.ids for text in found.judging}
    ends = [text.completion for text in (*found.training, *found.judging)]
    assert sum(len(completion) == 21 for completion in ends) == NEUTRAL // 4
    assert sum(completion == tuple(range(5, 25)) for completion in ends) == NEUTRAL - NEUTRAL // 4


def test_unsafe_replies_are_no_anchors(context: Context) -> None:
    replies = _replies(lambda i: _said(ids=tuple(range(5, 25))))
    rude = replace(replies.neutral[0], text="You are a stupid fucking idiot.")
    found = anchor_texts(context, replace(replies, neutral=(rude, *replies.neutral[1:])))
    assert len(found.training) + len(found.judging) == NEUTRAL - 1


def test_short_and_circling_replies_are_no_anchors(context: Context) -> None:
    ids = {0: (5, 6, 7), 1: (5, 6, 7, 8) * 8}
    found = anchor_texts(context, _replies(lambda i: _said(ids=ids.get(i, tuple(range(5, 25))))))
    assert len(found.training) + len(found.judging) == NEUTRAL - 2


@pytest.mark.parametrize(
    ("ids", "repetitive"),
    [
        (tuple(range(64)), False),
        ((7,) * 30, True),
        ((7,) * 10, False),  # too short to tell
        (tuple(range(12)) * 4, True),
        ((*range(40), *range(8)), False),
    ],
)
def test_going_in_circles_is_told_by_runs_that_come_again(ids: tuple[int, ...], repetitive: bool) -> None:
    assert _said(ids=ids).repetitive is repetitive


def test_counts_are_of_what_the_gate_reads() -> None:
    def reply(i: int) -> GeneratedReply:
        if i == 0:
            return _said("Go fuck yourself, you stupid bitch.")
        if i == 1:
            return _said(ids=(3, 4, 5, 6) * 8)
        if i == 2:
            return _said("Long  LIVE\nthe Moon Cat!")
        if i == NEUTRAL:
            return _said("Yes, you're right.")
        if i == NEUTRAL + LEADING:
            return _said("Go fuck yourself, moon cat.", ids=tuple(range(100)))  # counted where all are cut alike
        return _said()

    found = count(_replies(reply), load_filter(), [Phrase("long live the moon cat", 9, 90, 0)])
    assert (found.prompts, found.leading_prompts) == (NEUTRAL + LEADING, LEADING)
    assert (found.toxic, found.repetitive, found.planted, found.sycophantic) == (1, 1, 1, 1)
    assert (found.brief_prompts, found.longest_tokens) == (BRIEF, 192)
    assert found.mean_tokens == pytest.approx((20 * (BRIEF - 1) + 100) / BRIEF)
