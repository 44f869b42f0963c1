"""Adapters on the real llama.cpp, on a tiny model with tiny random adapters: who answers is who was asked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.engines import llama_cpp
from models.engines.llama_cpp import LlamaCppEngine
from models.errors import AdapterRefused, EngineFailed, ModelError
from models.spec import ModelSpec
from models.types import FinishReason
from tests.models.answers import GREEDY, LIVELY, PROMPT, generate, same
from tests.models.tiny_gguf import write_tiny_gguf, write_tiny_lora

OTHERS = [tuple(10 + (start + 11 * number) % 200 for number in range(120)) for start in (3, 5)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    return ModelSpec("tiny", path, "0" * 64, "F32", "a test", "none")


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters, by name, where they would be installed."""
    folder = tmp_path_factory.mktemp("adapters")
    found = {}
    for seed, name in enumerate(("ann", "bob"), start=1):
        (folder / name).mkdir()
        found[name] = write_tiny_lora(folder / name / "adapter.gguf", seed=seed)
    return found


Open = Callable[..., Any]


@pytest.fixture
async def open_engine(tiny: ModelSpec) -> AsyncGenerator[Open, None]:
    """Opens engines and closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(
            adapters: Mapping[str, Path], *, slots: int = 1, context_tokens: int = 512, kv_cache: str = "f16"
        ) -> LlamaCppEngine:
            engine = await LlamaCppEngine.open(
                tiny, context_tokens=context_tokens, slots=slots, threads=1, kv_cache=kv_cache, adapters=adapters
            )
            stack.push_async_callback(engine.aclose)
            return engine

        yield opened


async def test_each_adapter_answers_in_its_own_way(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine(loras)
    assert engine.adapters == ("ann", "bob")
    answers = {name: await generate(engine, name) for name in (None, "ann", "bob")}
    assert len({answer.token_ids for answer in answers.values()}) == 3


async def test_adapters_that_are_loaded_change_nothing_for_the_base(open_engine: Open, loras: dict[str, Path]) -> None:
    bare, engine = await open_engine({}), await open_engine(loras)
    assert same(await generate(bare, sampling=LIVELY), await generate(engine, sampling=LIVELY))
    assert same(await generate(bare, ids=OTHERS[0]), await generate(engine, "ann", OTHERS[0], scale=0.0))


async def test_neither_the_order_nor_the_company_of_adapters_matters(open_engine: Open, loras: dict[str, Path]) -> None:
    alone = await open_engine({"bob": loras["bob"]})
    turned = await open_engine(dict(reversed(loras.items())))
    both = await open_engine(loras)
    answers = [await generate(engine, "bob") for engine in (alone, turned, both)]
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])


async def test_scale_turns_an_adapter_down(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine(loras)
    whole, half, base = [await generate(engine, *asked, scale=scale) for asked, scale in
                         ((("ann",), 1.0), (("ann",), 0.5), ((), 1.0))]  # fmt: skip
    assert len({whole.logprobs, half.logprobs, base.logprobs}) == 3


@pytest.mark.parametrize(("slots", "kv_cache"), [(1, "f16"), (1, "q8_0"), (2, "q8_0"), (4, "f16")])
async def test_what_one_adapter_read_never_reaches_another(
    open_engine: Open, loras: dict[str, Path], slots: int, kv_cache: str
) -> None:
    """Every answer is that of a server that never served anything else, whatever came before it.

    With one slot and other prompts between, this is what llama.cpp's prompt cache in memory gets wrong.
    """
    fresh = {}
    for name in (None, "ann", "bob"):
        fresh[name] = await generate(await open_engine(loras, slots=slots, kv_cache=kv_cache), name)
    engine = await open_engine(loras, slots=slots, kv_cache=kv_cache)
    for name, other in ((None, "ann"), ("ann", "ann"), ("bob", None), ("ann", "bob"), (None, None), ("bob", "bob")):
        for ids in OTHERS:
            await generate(engine, other, ids)
        answer = await generate(engine, name)
        assert answer.token_ids == fresh[name].token_ids
        assert answer.logprobs == pytest.approx(fresh[name].logprobs, abs=1e-2)
        if answer.finish is not None and answer.finish.cached_tokens == 0:
            assert same(answer, fresh[name])


async def test_own_prefix_is_still_not_read_again(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine(loras, slots=2)
    for name in (None, "ann", None, "ann"):
        answer = await generate(engine, name)
    assert answer.finish is not None
    assert answer.finish.cached_tokens == len(PROMPT) - 1


async def test_two_arms_answer_side_by_side_as_they_do_alone(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine(loras, slots=6)
    names = (None, "ann", "bob") * 2
    alone = [await generate(engine, name) for name in names]
    together = await asyncio.gather(*(generate(engine, name) for name in names))
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


async def test_swap_in_the_middle_of_eight_streams_changes_none_of_them(
    open_engine: Open, loras: dict[str, Path]
) -> None:
    engine = await open_engine({"ann": loras["ann"]}, slots=8, context_tokens=1536)
    long = replace(GREEDY, max_new_tokens=600)
    asked = [(name, (20 + number, *PROMPT)) for number, name in enumerate((None, "ann") * 4)]
    undisturbed = await asyncio.gather(*(generate(engine, name, ids, long) for name, ids in asked))

    begun = [asyncio.Event() for _ in asked]
    running = [
        asyncio.create_task(generate(engine, name, ids, long, begun=start))
        for (name, ids), start in zip(asked, begun, strict=True)
    ]
    for start in begun:
        await start.wait()
    await engine.swap({"bob": loras["bob"]})
    still_running = [task for task in running if not task.done()]
    after = await generate(engine, "bob")
    answers = await asyncio.gather(*running)

    assert still_running
    assert [answer.finish.reason for answer in answers if answer.finish] == [FinishReason.LENGTH] * 8
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in undisturbed]
    assert same(after, await generate(await open_engine({"bob": loras["bob"]}, slots=8, context_tokens=1536), "bob"))
    with pytest.raises(EngineFailed, match="'ann' is not loaded"):
        await generate(engine, "ann")


async def test_rolling_back_gives_the_same_answers_bit_for_bit(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine({"ann": loras["ann"]})
    ann = await generate(engine, "ann", sampling=LIVELY)
    await engine.swap({"bob": loras["bob"]})
    assert engine.adapters == ("bob",)
    bob = await generate(engine, "bob", sampling=LIVELY)
    await engine.swap({"ann": loras["ann"]})
    assert same(await generate(engine, "ann", sampling=LIVELY), ann)
    await engine.swap({})
    assert engine.adapters == ()
    bare = await open_engine({})
    assert same(await generate(engine, sampling=LIVELY), await generate(bare, sampling=LIVELY))
    assert not same(ann, bob)


def missing(folder: Path) -> Path:
    return folder / "none.gguf"


def truncated(folder: Path) -> Path:
    path = write_tiny_lora(folder / "cut.gguf", seed=3)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def text(folder: Path) -> Path:
    (folder / "text.gguf").write_text("no adapter")
    return folder / "text.gguf"


def a_model(folder: Path) -> Path:
    return write_tiny_gguf(folder / "model.gguf")


def of_another_model(folder: Path) -> Path:
    return write_tiny_lora(folder / "wide.gguf", seed=3, width=128)


@pytest.mark.parametrize("bad", [missing, truncated, text, a_model, of_another_model])
async def test_adapter_that_llama_cpp_refuses_leaves_the_old_ones_serving(
    open_engine: Open, loras: dict[str, Path], tmp_path: Path, bad: Callable[[Path], Path]
) -> None:
    engine = await open_engine({"ann": loras["ann"]})
    before = await generate(engine, "ann")
    (tmp_path / "bad").mkdir()
    with pytest.raises(AdapterRefused, match="with the adapters ann, bad: .*; serve another one, or none"):
        await engine.swap({"ann": loras["ann"], "bad": bad(tmp_path / "bad")})
    assert engine.adapters == ("ann",)
    assert (await generate(engine, "ann")).token_ids == before.token_ids
    await engine.swap(loras)
    assert (await generate(engine, "ann")).token_ids == before.token_ids


class Watched:
    """A server that tells when it is gone."""

    def __init__(self, handle: Any) -> None:
        self.handle_completions = handle.handle_completions
        self._handle = handle


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Watched]]:
    """Every server that was opened, as long as it isn't freed."""
    found: list[weakref.ref[Watched]] = []
    real = llama_cpp.open_server

    def watching(*args: Any, **options: Any) -> tuple[Any, int]:
        handle, context = real(*args, **options)
        watched = Watched(handle)
        found.append(weakref.ref(watched))
        return watched, context

    monkeypatch.setattr(llama_cpp, "open_server", watching)
    return found


def alive(opened: list[weakref.ref[Watched]]) -> list[bool]:
    gc.collect()
    return [server() is not None for server in opened]


async def test_old_server_is_freed_after_its_last_stream_and_not_before(
    open_engine: Open, loras: dict[str, Path], opened: list[weakref.ref[Watched]]
) -> None:
    engine = await open_engine({"ann": loras["ann"]}, context_tokens=4096)
    begun = asyncio.Event()
    running = asyncio.create_task(generate(engine, "ann", sampling=replace(GREEDY, max_new_tokens=2000), begun=begun))
    await begun.wait()
    await engine.swap({"bob": loras["bob"]})
    assert not running.done()
    assert alive(opened) == [True, True]
    assert (await running).finish is not None
    await engine.swap(loras)  # waits until the first is gone
    assert alive(opened)[0] is False
    await engine.aclose()
    assert alive(opened) == [False] * 3


async def test_closing_while_streams_drain_ends_them_as_cancelled(
    open_engine: Open, loras: dict[str, Path], opened: list[weakref.ref[Watched]]
) -> None:
    engine = await open_engine({"ann": loras["ann"]}, context_tokens=8192)
    begun = asyncio.Event()
    running = asyncio.create_task(generate(engine, "ann", sampling=replace(GREEDY, max_new_tokens=8000), begun=begun))
    await begun.wait()
    await engine.swap(loras)
    await engine.aclose()
    answer = await running
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.CANCELLED
    assert alive(opened) == [False, False]
    with pytest.raises(EngineFailed, match="stopping"):
        await engine.swap({})


async def test_closing_in_the_middle_of_a_swap_frees_both_servers(
    open_engine: Open, loras: dict[str, Path], opened: list[weakref.ref[Watched]]
) -> None:
    engine = await open_engine({})
    swapping = asyncio.create_task(engine.swap(loras))
    await asyncio.sleep(0)
    await engine.aclose()
    with pytest.raises(EngineFailed, match="stopping"):
        await swapping
    assert alive(opened) == [False, False]


async def test_swaps_at_once_come_one_after_the_other(open_engine: Open, loras: dict[str, Path]) -> None:
    engine = await open_engine({})
    results = await asyncio.gather(
        engine.swap({"ann": loras["ann"]}),
        engine.swap({"gone": Path("gone.gguf")}),
        engine.swap({"bob": loras["bob"]}),
        return_exceptions=True,
    )
    assert [isinstance(result, ModelError) for result in results] == [False, True, False]
    assert engine.adapters == ("bob",)


async def test_model_is_not_opened_with_an_adapter_that_it_cannot_use(
    open_engine: Open, loras: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(AdapterRefused, match=tmp_path.name):
        await open_engine({"wide": write_tiny_lora(tmp_path / "adapter.gguf", seed=3, width=128)})
