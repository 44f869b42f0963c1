from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.learning import convert, parity
from models.learning.convert import peft_to_gguf
from models.learning.parity import NothingToCompare, ParityReport, measure
from models.learning.torch_model import save_adapter
from tests.models.learning.served import strong_adapter, tiny_base
from tests.models.tiny_gguf import write_tiny_gguf

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def trained(base: Path) -> tuple[Any, Path]:
    """An adapter in torch, and the folder that it was saved in."""
    model = strong_adapter(tiny_base(base), seed=1)
    save_adapter(model, base.parent / "adapter")
    return model, base.parent / "adapter"


@pytest.fixture(scope="module")
def prefixes() -> tuple[tuple[int, ...], ...]:
    chance = random.Random(0)
    texts = [tuple(chance.randrange(10, 260) for _ in range(36)) for _ in range(130)]
    return tuple(text[:length] for text in texts for length in (8, 15, 22, 29, 36))


def compare(model: Any, base: Path, adapter: Path, prefixes: tuple[tuple[int, ...], ...]) -> ParityReport:
    told: list[tuple[int, int]] = []
    report = measure(base, adapter, model, prefixes, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, told[-1][1]) for done in range(1, len(told) + 1)]
    assert told[-1][0] == told[-1][1]
    return report


def test_converted_adapter_holds(
    trained: tuple[Any, Path], base: Path, prefixes: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    peft_to_gguf(trained[1], base, tmp_path / "adapter.gguf")
    report = compare(trained[0], base, tmp_path / "adapter.gguf", prefixes)
    assert report.held, report
    assert report.prefixes >= 200
    assert report.median_difference < 1e-2
    assert report.alike > 0.99
    assert report.strength == pytest.approx(1, abs=0.01)
    assert report.other_layers == 0
    assert "same token is likeliest" in report.sentence


def test_too_few_prefixes_never_hold(trained: tuple[Any, Path], base: Path, tmp_path: Path) -> None:
    peft_to_gguf(trained[1], base, tmp_path / "adapter.gguf")
    report = compare(trained[0], base, tmp_path / "adapter.gguf", ((10, 11, 12), (10, 11, 12, 13)))
    assert not report.held
    assert "of the 200 prefixes" in report.sentence


def zeroed(folder: Path, base: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_file(folder / WEIGHTS)
    changed = out.parent / "zeroed"
    changed.mkdir()
    (changed / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    save_file({name: np.zeros_like(tensor) for name, tensor in weights.items()}, changed / WEIGHTS)
    peft_to_gguf(changed, base, out)


def swapped(folder: Path, base: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_adapter(strong_adapter(tiny_base(base), seed=2), out.parent / "other")
    peft_to_gguf(out.parent / "other", base, out)


def unpermuted(folder: Path, base: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_PERMUTED", "none")
    peft_to_gguf(folder, base, out)


@pytest.mark.parametrize(("spoil", "layers"), [(zeroed, 14), (swapped, 14), (unpermuted, 4)])
def test_another_adapter_than_the_trained_one_does_not_hold(
    trained: tuple[Any, Path],
    base: Path,
    prefixes: tuple[tuple[int, ...], ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
    layers: int,
) -> None:
    spoil(trained[1], base, tmp_path / "adapter.gguf", monkeypatch)
    report = compare(trained[0], base, tmp_path / "adapter.gguf", prefixes)
    assert not report.held
    assert report.prefixes >= 200
    assert report.other_layers == layers
    assert report.alike < parity.MIN_ALIKE
    assert report.sentence.startswith("What would be served isn't what was trained: ")


@pytest.mark.parametrize(
    ("differences", "same", "changes", "served", "told"),
    [
        ([0.01] * 200, 197, [1.0, -1.0], [1.0, -1.0], "98.5%"),
        ([0.06] * 200, 200, [1.0, -1.0], [1.0, -1.0], "0.060 nat"),
        ([math.inf] * 200, 200, [1.0, -1.0], [1.0, -1.0], "inf nat"),
        ([0.01] * 199, 199, [1.0, -1.0], [1.0, -1.0], "only 199"),
        ([0.01] * 200, 200, [1.0, -1.0], [0.0, 0.0], "alike by 0.00"),
        ([0.01] * 200, 200, [1.0, -1.0], [1.0, 1.0], "alike by 0.00"),
        ([0.01] * 200, 200, [1.0, -1.0], [2.0, -2.0], "2.00 times"),
        ([0.01] * 200, 200, [0.0, 0.0], [0.0, 0.0], "alike by 0.00"),
        ([], 0, [], [], "only 0"),
    ],
)
def test_each_bar_fails_by_itself(
    differences: list[float], same: int, changes: list[float], served: list[float], told: str
) -> None:
    report = parity._judged(differences, same, changes, served)
    assert not report.held
    assert told in report.sentence
    assert parity._judged([0.01] * 200, 198, [1.0, -1.0], [1.05, -1.0]).held


def test_a_single_layer_of_other_numbers_fails_by_itself() -> None:
    report = parity._judged([0.01] * 200, 200, [1.0, -1.0], [1.0, -1.0], other=("blk.0.attn_q.weight",))
    assert not report.held
    assert "1 of its layers have other numbers, such as blk.0.attn_q.weight" in report.sentence


def test_rounding_that_turns_one_reading_does_not_turn_their_mean() -> None:
    mean = parity._mean([{1: -1.0, 2: -1.1}, {1: -1.4, 2: -1.0, 3: -0.1}, {1: -1.2, 2: -1.0}])
    assert mean == {1: pytest.approx(-1.2), 2: pytest.approx(-3.1 / 3)}


@pytest.mark.parametrize(("always", "same_top"), [(False, 1.0), (True, 0.97)])
def test_what_rounding_turned_is_read_again_and_what_stays_turned_counts(
    trained: tuple[Any, Path],
    base: Path,
    prefixes: tuple[tuple[int, ...], ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    always: bool,
    same_top: float,
) -> None:
    peft_to_gguf(trained[1], base, tmp_path / "adapter.gguf")
    read = parity._Served.read

    def turned(served: Any, places: Any, scale: float) -> list[dict[int, float]]:
        places = list(places)
        found = read(served, places, scale)
        for place, following in zip(places, found, strict=True):
            if place % 25 == 0 and (always or scale == 1.0):
                first, second = sorted(following, key=following.__getitem__, reverse=True)[:2]
                following[first], following[second] = following[second], following[first]
        return found

    monkeypatch.setattr(parity._Served, "read", turned)
    report = measure(base, tmp_path / "adapter.gguf", trained[0], prefixes, progress=lambda done, total: None)
    assert report.same_top == pytest.approx(same_top, abs=0.015)
    assert report.held is not always


def test_a_base_that_writes_too_little_is_a_sentence(trained: tuple[Any, Path], base: Path) -> None:
    with pytest.raises(NothingToCompare, match="choose another MODEL"):
        measure(base, base, trained[0], (), progress=lambda done, total: None)
