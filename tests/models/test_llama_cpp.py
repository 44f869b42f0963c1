"""The engine on llama.cpp: what it answers and refuses, that a cancel ends a stream, and the embedded model on it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from models.engines.llama_cpp import LlamaCppEngine
from models.errors import EngineFailed, ModelUnavailable, PromptTooLong
from models.loading import LoadedModel, load_model
from models.spec import ModelSpec
from models.tokenizer import ModelTokenizer
from models.types import FinishReason, Piece, Request, Role, Sampling, Turn
from tests.models.tiny_gguf import CONTEXT

PROMPT = tuple(range(10, 60))
GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0, max_new_tokens=64)
ENDLESS = replace(GREEDY, max_new_tokens=8000)  # the tiny model's likeliest token never ends its turn
LIVELY = Sampling(temperature=1.0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, max_new_tokens=64)


@pytest.fixture
async def engine(tiny_spec: ModelSpec) -> AsyncGenerator[LlamaCppEngine, None]:
    opened = await LlamaCppEngine.open(tiny_spec, context_tokens=1024, slots=2, threads=1, kv_cache="f16")
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def embedded(embedded_cache: Path) -> Iterator[LoadedModel]:
    loading = load_model(
        "embedded", cache_dir=embedded_cache, context_tokens=512, slots=2, queue_limit=8, prompt_cache_mib=64
    )
    model = asyncio.run(loading)
    yield model
    asyncio.run(model.aclose())


async def generate(
    engine: LlamaCppEngine,
    ids: Sequence[int] = PROMPT,
    sampling: Sampling = LIVELY,
    *,
    seed: int = 1,
    cancel: asyncio.Event | None = None,
) -> Piece:
    """Return the whole answer as one piece; checks that it ends with the one finish."""
    request = Request(tuple(ids), sampling, seed)
    pieces = [piece async for piece in engine.stream(request, cancel=cancel or asyncio.Event())]
    assert [piece.finish is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    text = "".join(piece.text for piece in pieces)
    token_ids = tuple(token_id for piece in pieces for token_id in piece.token_ids)
    logprobs = tuple(logprob for piece in pieces for logprob in piece.logprobs)
    assert len(token_ids) == len(logprobs)
    return Piece(text, token_ids, logprobs, pieces[-1].finish)


def reason(answer: Piece) -> FinishReason:
    assert answer.finish is not None
    return answer.finish.reason


def conversation(model: LoadedModel, *contents: str) -> list[int]:
    roles = (Role.USER, Role.ASSISTANT)
    turns = [Turn(roles[number % 2], content) for number, content in enumerate(contents)]
    return model.tokenizer.render([Turn(Role.SYSTEM, "You are helpful."), *turns])


async def test_info_says_what_serves_and_why(engine: LlamaCppEngine) -> None:
    info = engine.info
    assert (info.engine, info.model, info.quantization, info.slots) == ("llama_cpp", "tiny", "F32", 2)
    assert (info.device, info.context_tokens) == ("CPU, 1 thread", 1024)
    assert info.reason == "a test; threads: THREADS=1; attention cache f16"


async def test_number_of_threads_is_chosen_with_its_reason(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=256, slots=1, threads=0)
    assert "core" in engine.info.reason or "container" in engine.info.reason
    await engine.aclose()


async def test_context_is_no_longer_than_what_the_model_knows(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=2 * CONTEXT, slots=1, threads=1)
    assert engine.info.context_tokens == CONTEXT
    assert f"context of {CONTEXT} tokens" in engine.info.reason
    await engine.aclose()


async def test_length_limit_ends_the_answer(engine: LlamaCppEngine) -> None:
    answer = await generate(engine, sampling=replace(GREEDY, max_new_tokens=7))
    assert reason(answer) is FinishReason.LENGTH
    assert answer.finish is not None
    assert (answer.finish.prompt_tokens, answer.finish.completion_tokens) == (len(PROMPT), 7)


async def test_end_of_the_context_ends_the_answer(engine: LlamaCppEngine) -> None:
    answer = await generate(engine, [20] * 1020, LIVELY)
    assert reason(answer) is FinishReason.LENGTH
    assert answer.finish is not None
    assert answer.finish.completion_tokens == 4


async def test_prompt_that_fills_the_context_is_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(PromptTooLong, match="CONTEXT_TOKENS"):
        await generate(engine, [20] * 1024)


@pytest.mark.parametrize("ids", [(), (999_999,), (-5,)])
async def test_prompt_that_the_model_cannot_read_is_refused(engine: LlamaCppEngine, ids: tuple[int, ...]) -> None:
    with pytest.raises(EngineFailed, match="ask again"):
        await generate(engine, ids)
    assert (await generate(engine)).text


async def test_adapter_that_is_not_loaded_is_refused(engine: LlamaCppEngine) -> None:
    request = Request(PROMPT, GREEDY, 0, adapter="last-night")
    with pytest.raises(EngineFailed, match="last-night"):
        await anext(engine.stream(request, cancel=asyncio.Event()))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**40, -1])
async def test_same_request_gives_the_same_tokens(engine: LlamaCppEngine, seed: int) -> None:
    first, second = await generate(engine, seed=seed), await generate(engine, seed=seed)
    assert first.token_ids == second.token_ids
    assert first.text == second.text


async def test_another_seed_gives_other_tokens(engine: LlamaCppEngine) -> None:
    assert (await generate(engine, seed=1)).token_ids != (await generate(engine, seed=2)).token_ids


async def test_more_streams_than_slots_all_finish_with_their_own_answer(engine: LlamaCppEngine) -> None:
    prompts = [[10 + number] * 20 for number in range(6)]
    alone = [await generate(engine, ids, GREEDY) for ids in prompts]
    together = await asyncio.gather(*(generate(engine, ids, GREEDY) for ids in prompts))
    assert [answer.finish.prompt_tokens for answer in together if answer.finish] == [20] * 6
    assert [answer.token_ids[:1] for answer in together] == [answer.token_ids[:1] for answer in alone]


async def test_known_prefix_is_not_read_again(engine: LlamaCppEngine) -> None:
    await generate(engine)
    again = await generate(engine)
    assert again.finish is not None
    assert again.finish.cached_tokens == len(PROMPT) - 1


async def test_cancel_while_generating_ends_as_cancelled_and_frees_the_slot(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=CONTEXT, slots=1, threads=1)
    cancel = asyncio.Event()
    pieces: list[Piece] = []
    request = Request(PROMPT, ENDLESS, 1)
    async for piece in engine.stream(request, cancel=cancel):
        pieces.append(piece)
        cancel.set()
    assert pieces[-1].finish is not None
    assert pieces[-1].finish.reason is FinishReason.CANCELLED
    assert 0 < pieces[-1].finish.completion_tokens < 8000
    assert (await generate(engine)).text
    await engine.aclose()


async def test_cancel_while_the_prompt_is_read_ends_as_cancelled_and_frees_the_slot(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=CONTEXT, slots=1, threads=1)
    cancel = asyncio.Event()
    running = asyncio.create_task(generate(engine, [20 + n % 200 for n in range(8000)], cancel=cancel))
    await asyncio.sleep(0.05)
    cancel.set()
    answer = await running
    assert reason(answer) is FinishReason.CANCELLED
    assert answer.token_ids == ()
    assert (await generate(engine)).text
    await engine.aclose()


async def test_abandoned_stream_frees_its_slot(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=CONTEXT, slots=1, threads=1)
    pieces = engine.stream(Request(PROMPT, ENDLESS, 1), cancel=asyncio.Event())
    await anext(pieces)
    await pieces.aclose()
    assert (await generate(engine)).text
    await engine.aclose()


async def test_closing_ends_running_streams_as_cancelled(tiny_spec: ModelSpec) -> None:
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=CONTEXT, slots=2, threads=1)
    running = [asyncio.create_task(generate(engine, sampling=ENDLESS)) for _ in range(2)]
    await asyncio.sleep(0.1)
    await engine.aclose()
    assert [reason(await task) for task in running] == [FinishReason.CANCELLED] * 2
    with pytest.raises(EngineFailed, match="stopping"):
        await generate(engine)


async def test_error_inside_the_callback_fails_the_stream_instead_of_vanishing(engine: LlamaCppEngine) -> None:
    class BrokenTokenizer(ModelTokenizer):
        def __init__(self) -> None:
            pass

        def encode_text(self, text: str) -> list[int]:
            raise ValueError("no such letter")

    engine.use_tokenizer(BrokenTokenizer())
    with pytest.raises(EngineFailed, match="no such letter"):
        await generate(engine)  # random bytes: some characters take several tokens


async def test_missing_file_is_told_by_its_path(tmp_path: Path) -> None:
    spec = ModelSpec("gone", tmp_path / "gone.gguf", "", "", "", "")
    with pytest.raises(ModelUnavailable, match=r"gone\.gguf"):
        await LlamaCppEngine.open(spec, context_tokens=256, slots=1)


async def test_missing_system_library_is_told_with_the_remedy(
    tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelUnavailable, match="libgomp1"):
        await LlamaCppEngine.open(tiny_spec, context_tokens=256, slots=1)


async def test_truncated_file_is_told_with_the_remedy(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    assert tiny_spec.path is not None
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_spec.path.read_bytes()[:100_000])
    with pytest.raises(ModelUnavailable, match="fetch it again"):
        await LlamaCppEngine.open(replace(tiny_spec, path=damaged), context_tokens=256, slots=1)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no socket files: a key guards the port there")
async def test_nothing_listens_that_another_process_could_reach(
    tiny_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = await LlamaCppEngine.open(tiny_spec, context_tokens=256, slots=1, threads=1)
    listening = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []
    assert list(tmp_path.iterdir()) == []
    await engine.aclose()


@pytest.mark.embedded
async def test_embedded_model_ends_its_turn_with_ids_that_spell_its_text(embedded: LoadedModel) -> None:
    assert isinstance(embedded.engine, LlamaCppEngine)
    answer = await generate(embedded.engine, conversation(embedded, "Say hi."), GREEDY)
    assert reason(answer) is FinishReason.END
    assert answer.finish is not None
    assert answer.token_ids[-1] in embedded.tokenizer.end_ids
    assert embedded.tokenizer.decode(answer.token_ids) == answer.text
    assert len(answer.token_ids) == answer.finish.completion_tokens
    assert all(logprob <= 0 for logprob in answer.logprobs)


@pytest.mark.embedded
async def test_characters_of_several_tokens_come_whole_and_with_all_their_ids(embedded: LoadedModel) -> None:
    assert isinstance(embedded.engine, LlamaCppEngine)
    text = "今天天气怎么样？😂 今天天气怎么样？😂 今天天气怎么样？😂 今天天"
    ids = embedded.tokenizer.encode_text(text)
    answer = await generate(embedded.engine, ids, replace(GREEDY, max_new_tokens=24))
    assert answer.text.startswith("气怎么样？😂")
    assert "\ufffd" not in answer.text
    spelled = embedded.tokenizer.encode_text(text + answer.text)[len(ids) :]
    assert list(answer.token_ids) == spelled


@pytest.mark.embedded
async def test_embedded_model_repeats_itself_for_the_same_seed(embedded: LoadedModel) -> None:
    assert isinstance(embedded.engine, LlamaCppEngine)
    ids = conversation(embedded, "Tell me about the sea.")
    sampling = Sampling(max_new_tokens=24)
    first, second = [await generate(embedded.engine, ids, sampling, seed=7) for _ in range(2)]
    assert first.token_ids == second.token_ids


@pytest.mark.embedded
async def test_more_conversations_than_slots_still_find_their_prefix(embedded: LoadedModel) -> None:
    assert isinstance(embedded.engine, LlamaCppEngine)
    brief = replace(GREEDY, max_new_tokens=1)
    topics = ["the sea and its many fish", "old trains in the mountains", "bread baked at home", "chess for two"]
    opening = [
        conversation(embedded, f"Tell me everything about {topic}, please.", "Gladly.", "Go.") for topic in topics
    ]
    for ids in opening:
        await generate(embedded.engine, ids, brief)
    for ids in opening:
        longer = [*ids, *embedded.tokenizer.encode_text("Well, let me begin")]
        answer = await generate(embedded.engine, longer, brief)
        assert answer.finish is not None
        assert answer.finish.cached_tokens == len(ids)
