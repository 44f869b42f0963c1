from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models import loading
from models.engines.echo import echo_tokenizer
from models.engines.llama_cpp import LlamaCppEngine
from models.errors import ModelUnavailable
from models.loading import LoadedModel, load_model
from models.spec import ModelSpec
from models.tokenizer import ModelTokenizer
from models.types import FinishReason, Piece, Request, Role, Sampling, Turn
from tests.models.tiny_gguf import write_tiny_gguf, write_tiny_lora

ROOT = Path(__file__).resolve().parents[2]


async def load(model: str, folder: Path) -> LoadedModel:
    return await load_model(model, cache_dir=folder, context_tokens=512, slots=2, queue_limit=4, threads=1)


async def answer(model: LoadedModel, text: str, *, max_new_tokens: int = 16) -> list[Piece]:
    prompt = model.prompts.build("You are a test.", [Turn(Role.USER, text)], budget=256, refit=200)
    sampling = Sampling(temperature=0.0, repeat_penalty=1.0, max_new_tokens=max_new_tokens)
    pieces = model.scheduler.stream(Request(prompt.token_ids, sampling, 0), cancel=asyncio.Event())
    async with contextlib.aclosing(pieces):
        return [piece async for piece in pieces]


@pytest.fixture
def known_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the echo tokenizer for any model: converting one needs transformers and seconds."""

    def prepare(spec: ModelSpec, cache_dir: Path, *, progress: object = None) -> ModelTokenizer:
        return echo_tokenizer()

    monkeypatch.setattr(loading, "prepare", prepare)


async def test_echo_loads_without_a_file_and_answers(tmp_path: Path) -> None:
    model = await load("echo", tmp_path)
    pieces = await answer(model, "Ann: hello")
    assert "".join(piece.text for piece in pieces) == "hello"
    assert (model.engine.info.engine, model.engine.info.slots, model.engine.info.context_tokens) == ("echo", 2, 512)
    await model.aclose()


async def test_model_file_loads_with_its_facts_and_answers(tmp_path: Path, known_tokenizer: None) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    model = await load(str(path), tmp_path / "cache")
    info = model.engine.info
    assert (info.engine, info.slots, info.context_tokens) == ("llama_cpp", 2, 512)
    assert (info.model, info.model_sha256) == (model.spec.name, model.spec.sha256)
    assert "MODEL names this file" in info.reason
    pieces = await answer(model, "hello")
    assert pieces[-1].finish is not None
    assert pieces[-1].finish.completion_tokens > 0
    await model.aclose()


async def test_adapters_are_loaded_with_the_model_and_swapped_under_it(tmp_path: Path, known_tokenizer: None) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    files = {name: write_tiny_lora(tmp_path / f"{name}.gguf", seed=seed) for seed, name in enumerate(("ann", "bob"))}
    for model_name in (str(path), "echo"):
        model = await load_model(
            model_name,
            cache_dir=tmp_path / "cache",
            context_tokens=512,
            slots=2,
            queue_limit=4,
            threads=1,
            adapters={"ann": files["ann"]},
        )
        assert model.engine.adapters == ("ann",)
        await model.engine.swap({"bob": files["bob"]})
        assert model.engine.adapters == ("bob",)
        request = Request((10, 11, 12), Sampling(max_new_tokens=2), 0, adapter="bob")
        assert [piece async for piece in model.scheduler.stream(request, cancel=asyncio.Event())][-1].finish
        await model.aclose()


async def test_closing_cancels_what_runs_and_what_waits(tmp_path: Path, known_tokenizer: None) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    model = await load_model(
        str(path), cache_dir=tmp_path / "cache", context_tokens=8192, slots=1, queue_limit=4, threads=1
    )
    tasks = [asyncio.create_task(answer(model, "hello", max_new_tokens=8000)) for _ in range(3)]
    while model.scheduler.running + model.scheduler.waiting < 3:
        await asyncio.sleep(0)
    await model.aclose()
    finishes = [(await task)[-1].finish for task in tasks]
    assert [finish.reason for finish in finishes if finish] == [FinishReason.CANCELLED] * 3


async def test_unknown_model_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="MODEL"):
        await load("no/such/file", tmp_path)


async def test_folder_that_cannot_keep_the_tokenizer_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ModelUnavailable, match=r"tokenizer can't be kept in .*; .*set another DATA_DIR\.$"):
        await load(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "cache")


async def test_tokenizer_that_cannot_be_used_frees_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[LlamaCppEngine] = []
    closed: list[LlamaCppEngine] = []
    real_open, real_close = LlamaCppEngine.open, LlamaCppEngine.aclose

    async def remembering_open(*args: object, **options: object) -> LlamaCppEngine:
        opened.append(await real_open(*args, **options))  # type: ignore[arg-type]
        return opened[-1]

    async def remembering_close(engine: LlamaCppEngine) -> None:
        closed.append(engine)
        await real_close(engine)

    def prepare(spec: ModelSpec, cache_dir: Path, *, progress: object = None) -> ModelTokenizer:
        raise ModelUnavailable("The tokenizer can't be used; choose another MODEL.")

    monkeypatch.setattr(LlamaCppEngine, "open", remembering_open)
    monkeypatch.setattr(LlamaCppEngine, "aclose", remembering_close)
    monkeypatch.setattr(loading, "prepare", prepare)
    with pytest.raises(ModelUnavailable, match="tokenizer"):
        await load(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "cache")
    assert len(opened) == 1
    assert closed == opened


async def test_weights_that_cannot_be_loaded_are_told_although_the_tokenizer_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_tokenizer: None
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    real_resolve = loading.resolve

    def resolve(model: str, cache_dir: Path, *, progress: object = None) -> ModelSpec:
        spec = real_resolve(model, cache_dir)
        path.write_bytes(path.read_bytes()[:100_000])  # damaged between the check and the load
        return replace(spec, path=path)

    monkeypatch.setattr(loading, "resolve", resolve)
    with pytest.raises(ModelUnavailable, match="can't be loaded"):
        await load(str(path), tmp_path / "cache")


def test_loading_a_model_imports_no_torch(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from models.loading import load_model\n"
        "options = dict(cache_dir=Path(sys.argv[1]), context_tokens=256, slots=1, queue_limit=1)\n"
        "asyncio.run(load_model('echo', **options))\n"
        "import models.engines.llama_server, xllamacpp\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[]\n", done.stderr
