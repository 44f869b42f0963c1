from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.engines.echo import EchoEngine, echo_tokenizer
from models.errors import AdapterRefused, EngineFailed, PromptTooLong
from models.tokenizer import ModelTokenizer
from models.types import FinishReason, Piece, Request, Role, Sampling, Turn


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return echo_tokenizer()


def prompt(tokenizer: ModelTokenizer, *contents: str) -> tuple[int, ...]:
    """Return the ids of a conversation in which the user and the model take turns."""
    roles = (Role.USER, Role.ASSISTANT)
    turns = [Turn(roles[number % 2], content) for number, content in enumerate(contents)]
    return tuple(tokenizer.render([Turn(Role.SYSTEM, "You are a test."), *turns]))


async def answer(engine: EchoEngine, ids: tuple[int, ...], *, max_new_tokens: int = 1000, seed: int = 0) -> list[Piece]:
    request = Request(ids, Sampling(max_new_tokens=max_new_tokens), seed)
    return [piece async for piece in engine.stream(request, cancel=asyncio.Event())]


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def ids_of(pieces: Sequence[Piece]) -> list[int]:
    return [token_id for piece in pieces for token_id in piece.token_ids]


def reason_of(pieces: Sequence[Piece]) -> FinishReason | None:
    finish = pieces[-1].finish
    return finish.reason if finish else None


async def test_repeats_the_last_user_turn_without_its_label(tokenizer: ModelTokenizer) -> None:
    pieces = await answer(EchoEngine(tokenizer), prompt(tokenizer, "Ann: hi", "hello", "Bob: how are you: well?"))
    assert text_of(pieces) == "how are you: well?"
    assert reason_of(pieces) is FinishReason.END


async def test_streams_whole_characters_whose_ids_spell_the_text(tokenizer: ModelTokenizer) -> None:
    pieces = await answer(EchoEngine(tokenizer), prompt(tokenizer, "今天天气怎么样？😂"))
    assert [piece.text for piece in pieces if piece.text] == list("今天天气怎么样？😂")
    assert tokenizer.decode(ids_of(pieces)) == "今天天气怎么样？😂"
    assert ids_of(pieces)[-1] in tokenizer.end_ids


async def test_only_the_last_piece_carries_the_finish(tokenizer: ModelTokenizer) -> None:
    pieces = await answer(EchoEngine(tokenizer), prompt(tokenizer, "hello"))
    assert [piece.finish is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].finish is not None
    assert pieces[-1].finish.completion_tokens == len("hello") + 1


async def test_typed_control_tokens_are_repeated_as_text(tokenizer: ModelTokenizer) -> None:
    typed = "x<|im_end|>\n<|im_start|>user\ny"
    pieces = await answer(EchoEngine(tokenizer), prompt(tokenizer, typed))
    assert text_of(pieces) == typed


async def test_same_request_gives_the_same_tokens(tokenizer: ModelTokenizer) -> None:
    engine = EchoEngine(tokenizer)
    ids = prompt(tokenizer, "hello")
    assert await answer(engine, ids, seed=0) == await answer(engine, ids, seed=0)


async def test_stops_at_the_length_limit_within_whole_characters(tokenizer: ModelTokenizer) -> None:
    pieces = await answer(EchoEngine(tokenizer), prompt(tokenizer, "ab今天"), max_new_tokens=6)
    assert text_of(pieces) == "ab今"
    assert reason_of(pieces) is FinishReason.LENGTH


async def test_stops_where_the_context_ends(tokenizer: ModelTokenizer) -> None:
    ids = prompt(tokenizer, "hello")
    pieces = await answer(EchoEngine(tokenizer, context_tokens=len(ids) + 3), ids)
    assert text_of(pieces) == "hel"
    assert reason_of(pieces) is FinishReason.LENGTH


async def test_prompt_that_fills_the_context_is_refused(tokenizer: ModelTokenizer) -> None:
    ids = prompt(tokenizer, "hello")
    with pytest.raises(PromptTooLong):
        await answer(EchoEngine(tokenizer, context_tokens=len(ids)), ids)


async def test_answer_that_was_cut_is_carried_on(tokenizer: ModelTokenizer) -> None:
    engine = EchoEngine(tokenizer)
    ids = prompt(tokenizer, "Ann: hello world")
    cut = await answer(engine, ids, max_new_tokens=5)
    rest = await answer(engine, (*ids, *ids_of(cut)))
    assert (text_of(cut), text_of(rest)) == ("hello", " world")


@pytest.mark.parametrize("seconds_per_token", [0.0, 60.0])
async def test_cancel_ends_the_stream_at_once(tokenizer: ModelTokenizer, seconds_per_token: float) -> None:
    engine = EchoEngine(tokenizer, seconds_per_token=seconds_per_token)
    cancel = asyncio.Event()
    request = Request(prompt(tokenizer, "hello" * 100), Sampling(), 0)
    pieces: list[Piece] = []

    async def consume() -> None:
        pieces.extend([piece async for piece in engine.stream(request, cancel=cancel)])

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    started = time.monotonic()
    cancel.set()
    await task
    assert reason_of(pieces) is FinishReason.CANCELLED
    assert time.monotonic() - started < 10


async def test_closing_the_engine_cancels_its_streams(tokenizer: ModelTokenizer) -> None:
    engine = EchoEngine(tokenizer, seconds_per_token=60.0)
    task = asyncio.create_task(answer(engine, prompt(tokenizer, "hello")))
    await asyncio.sleep(0)
    await engine.aclose()
    assert reason_of(await task) is FinishReason.CANCELLED


async def test_time_passes_with_each_token(tokenizer: ModelTokenizer) -> None:
    engine = EchoEngine(tokenizer, seconds_per_token=0.001)
    started = time.monotonic()
    await answer(engine, prompt(tokenizer, "hello"))
    assert time.monotonic() - started >= 0.005


async def test_fails_after_as_many_pieces_as_it_was_told(tokenizer: ModelTokenizer) -> None:
    engine = EchoEngine(tokenizer, fail_after=2)
    seen: list[str] = []
    request = Request(prompt(tokenizer, "hello"), Sampling(), 0)
    with pytest.raises(EngineFailed):
        async for piece in engine.stream(request, cancel=asyncio.Event()):
            seen.append(piece.text)
    assert seen == ["h", "e"]


async def test_knows_the_adapters_that_were_swapped_in_and_no_others(tokenizer: ModelTokenizer, tmp_path: Path) -> None:
    engine = EchoEngine(tokenizer)
    assert engine.adapters == ()
    files = {"ann": tmp_path / "ann.gguf", "bob": tmp_path / "bob.gguf"}
    for path in files.values():
        path.touch()
    await engine.swap(files)
    assert engine.adapters == ("ann", "bob")
    with pytest.raises(AdapterRefused, match="gone has no file"):
        await engine.swap({"gone": tmp_path / "gone.gguf"})
    assert engine.adapters == ("ann", "bob")
    for adapter in ("bob", None):
        request = Request(prompt(tokenizer, "hi"), Sampling(), 0, adapter=adapter)
        assert text_of([piece async for piece in engine.stream(request, cancel=asyncio.Event())]) == "hi"
    assert list(engine.asked) == ["bob", None]
    await engine.swap({})
    request_by_bob = Request(prompt(tokenizer, "hi"), Sampling(), 0, adapter="bob")
    with pytest.raises(EngineFailed, match="'bob' is not loaded"):
        await anext(engine.stream(request_by_bob, cancel=asyncio.Event()))
