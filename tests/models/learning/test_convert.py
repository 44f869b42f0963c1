from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.learning import convert
from models.learning.convert import NotConvertible, peft_to_gguf
from models.learning.torch_model import save_adapter
from tests.models.learning.served import served_logprobs, strong_adapter, tiny_base, torch_logprobs
from tests.models.tiny_gguf import write_tiny_gguf, write_tiny_lora

PROMPT = tuple(10 + (7 * number) % 200 for number in range(40))
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def trained(base: Path) -> tuple[Any, Path]:
    """An adapter in torch, and the folder that it was saved in."""
    model = strong_adapter(tiny_base(base), seed=1)
    folder = base.parent / "adapter"
    save_adapter(model, folder)
    return model, folder


@pytest.fixture
def copied(trained: tuple[Any, Path], tmp_path: Path) -> Path:
    """The folder again, to be changed."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in (WEIGHTS, CONFIG):
        (folder / name).write_bytes((trained[1] / name).read_bytes())
    return folder


def difference(model: Any, base: Path, adapter: Path | None) -> float:
    """Return the largest difference between torch's log-probabilities and those that are served."""
    exact = torch_logprobs(model, PROMPT)
    served = served_logprobs(base, adapter, PROMPT, tokens=50)
    return max(abs(float(exact[token]) - logprob) for token, logprob in served.items())


def test_converted_adapter_answers_as_the_trained_one(trained: tuple[Any, Path], base: Path, tmp_path: Path) -> None:
    model, folder = trained
    peft_to_gguf(folder, base, tmp_path / "adapter.gguf")
    assert difference(model, base, tmp_path / "adapter.gguf") < 5e-3
    assert difference(model, base, None) > 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]


def test_rows_of_q_and_k_must_be_reordered(
    trained: tuple[Any, Path], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_PERMUTED", "none")
    peft_to_gguf(trained[1], base, tmp_path / "adapter.gguf")
    assert difference(trained[0], base, tmp_path / "adapter.gguf") > 2e-2


def test_same_adapter_gives_the_same_file(trained: tuple[Any, Path], base: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        peft_to_gguf(trained[1], base, tmp_path / name)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_rslora", True), ("use_dora", True), ("bias", "all"), ("rank_pattern", {"q_proj": 2}), ("peft_type", "IA3")],
)
def test_adapter_that_is_no_plain_lora_is_refused(copied: Path, base: Path, field: str, value: object) -> None:
    config = json.loads((copied / CONFIG).read_text())
    (copied / CONFIG).write_text(json.dumps(config | {field: value}))
    with pytest.raises(NotConvertible, match="train a plain LoRA"):
        peft_to_gguf(copied, base, copied / "adapter.gguf")
    assert not (copied / "adapter.gguf").exists()


def test_weights_that_are_damaged_are_refused(copied: Path, base: Path) -> None:
    weights = load_file(copied / WEIGHTS)
    first = next(iter(weights))
    for changed in (
        {**weights, first: np.full_like(weights[first], np.nan)},
        {name: tensor for name, tensor in weights.items() if name != first},
        {**weights, "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": weights[first]},
        {**weights, "something.else": weights[first]},
        {},
    ):
        save_file(changed, copied / WEIGHTS)
        with pytest.raises(NotConvertible):
            peft_to_gguf(copied, base, copied / "adapter.gguf")
    (copied / WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(NotConvertible, match="train it again"):
        peft_to_gguf(copied, base, copied / "adapter.gguf")


def test_failed_write_leaves_the_old_file(
    trained: tuple[Any, Path], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_tiny_lora(tmp_path / "adapter.gguf", seed=1)
    before = out.read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "sync_file", full)
    with pytest.raises(OSError, match="No space"):
        peft_to_gguf(trained[1], base, out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]
