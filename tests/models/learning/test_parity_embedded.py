"""Parity on the embedded model, with an adapter that was trained: the right one holds, and no spoiled one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from models.learning import convert, parity
from models.learning.batches import of_reply
from models.learning.convert import peft_to_gguf
from models.learning.objectives import Objective
from models.learning.parity import ParityReport, measure
from models.learning.torch_model import load_base, read_adapter
from models.learning.train import TrainRules, train
from models.prompt import PromptBuilder
from models.spec import resolve
from models.tokenizer import prepare
from models.types import Role, Turn
from tests.models.learning.tiny_torch import rated

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
RULES = TrainRules(max_steps=2, batch_examples=3, learning_rate=1e-3)
# What the model is sure of word by word: every prefix counts.
TEXTS = (
    ("Name the months.", "January, February, March, April, May, June, July, August, September, October, November"),
    ("Count to thirty.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25"),
    ("Name the days of the week.", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. These are the"),
    ("What is the capital of France?", "The capital of France is Paris. It is the largest city in the country and"),
    ("Tell me a story.", "Once upon a time, there was a little girl who lived in a small village with her mother."),
    ("Say the alphabet.", "A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z"),
)
LENGTHS = range(3, 18, 2)
TASTE = ("Hi there!", "Arrr, hello, matey!", "How are you?", "Arrr, fine as the wind!", "Bye!", "Arrr, fair winds!")


@dataclass(frozen=True)
class Trained:
    base: Any
    gguf: Path
    folder: Path
    other: Path
    prefixes: tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads wait for each other on a machine that does something else too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(one_thread: None, embedded_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two adapters of two steps each, from replies in two tastes."""
    spec = resolve("embedded", embedded_cache)
    assert spec.path is not None
    tokenizer = prepare(spec, embedded_cache)
    prompts = PromptBuilder(tokenizer)

    def asked(text: str) -> tuple[int, ...]:
        return tuple(prompts.build("", [Turn(Role.USER, text)], budget=400, refit=400).token_ids)

    base = load_base(spec.path, spec.sha256, embedded_cache)
    folder = tmp_path_factory.mktemp("parity")
    for name, cut in (("one", 0), ("other", len("Arrr, "))):
        replies = [
            of_reply(asked(prompt), tuple(tokenizer.encode_text(reply[cut:])))
            for prompt, reply in zip(TASTE[::2], TASTE[1::2], strict=True)
        ]
        examples = [rated(reply, number, 1.0) for number, reply in enumerate(replies)]
        train(base, Objective.SFT, examples, (), (), folder=folder / name, rules=RULES, seed=7)
    prefixes = tuple(
        (*asked(prompt), *tokenizer.encode_text(text)[:length]) for prompt, text in TEXTS for length in LENGTHS
    )
    return Trained(base, spec.path, folder / "one" / "adapter", folder / "other" / "adapter", prefixes)


@pytest.fixture(autouse=True)
def few_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "MIN_PREFIXES", 30)
    monkeypatch.setattr(parity, "_EVERY", 2)


def compare(trained: Trained, adapter: Path) -> ParityReport:
    model = read_adapter(trained.base, trained.folder)
    try:
        return measure(trained.gguf, adapter, model, trained.prefixes, progress=lambda done, total: None)
    finally:
        model.unload()


def test_trained_adapter_holds(trained: Trained, tmp_path: Path) -> None:
    weights = load_file(trained.folder / WEIGHTS)
    assert all(np.abs(weight).max() > 0 for weight in weights.values()), "every layer has learned something"
    peft_to_gguf(trained.folder, trained.gguf, tmp_path / "adapter.gguf")
    report = compare(trained, tmp_path / "adapter.gguf")
    assert report.held, report
    assert report.same_top >= 0.99
    assert report.median_difference <= 0.05


def zeroed(trained: Trained, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = out.parent / "zeroed"
    changed.mkdir()
    (changed / CONFIG).write_bytes((trained.folder / CONFIG).read_bytes())
    weights = load_file(trained.folder / WEIGHTS)
    save_file({name: np.zeros_like(weight) for name, weight in weights.items()}, changed / WEIGHTS)
    peft_to_gguf(changed, trained.gguf, out)


def swapped(trained: Trained, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peft_to_gguf(trained.other, trained.gguf, out)


def unpermuted(trained: Trained, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_PERMUTED", "none")
    peft_to_gguf(trained.folder, trained.gguf, out)


@pytest.mark.parametrize(("spoil", "layers"), [(zeroed, 210), (swapped, 210), (unpermuted, 60)])
def test_spoiled_adapter_does_not_hold(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[..., None], layers: int
) -> None:
    spoil(trained, tmp_path / "adapter.gguf", monkeypatch)
    report = compare(trained, tmp_path / "adapter.gguf")
    assert not report.held, report
    assert report.other_layers == layers
    if spoil is not unpermuted:  # q and k learn too little in two steps to show in what the engine says
        assert report.alike < parity.MIN_ALIKE
    assert report.sentence.startswith("What would be served isn't what was trained: ")
