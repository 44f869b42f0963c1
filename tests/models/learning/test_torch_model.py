from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM

from models.learning import torch_model
from models.learning.batches import Tokens, of_reply, pack
from models.learning.torch_model import (
    AdapterDamaged,
    BaseUnusable,
    completion_logprobs,
    fresh_adapter,
    load_base,
    read_adapter,
    save_adapter,
    sums,
)
from tests.models.learning.tiny_torch import replies, tiny_base
from tests.models.tiny_gguf import write_tiny_gguf


def _one_by_one(model: torch.nn.Module, sequences: list[Tokens]) -> torch.Tensor:
    """What transformers itself says, without packing, sharing or fused layers' packed attention."""
    found = []
    for sequence in sequences:
        logits = model(input_ids=torch.tensor([sequence.ids])).logits[0].log_softmax(-1)
        found.append(sum(logits[i - 1, sequence.ids[i]] for i, learned in enumerate(sequence.learned) if learned))
    return torch.stack(found)


def _shaken(base: torch.nn.Module) -> torch.nn.Module:
    model = fresh_adapter(base, rank=4, alpha=8, seed=0)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 4096])
def test_packed_rows_give_the_models_own_log_probabilities(tokens_per_batch: int) -> None:
    sequences = replies(9)
    sequences += [of_reply(sequences[0].prompt, (9, 9, 2)), of_reply(sequences[0].ids, (11, 2)), sequences[3]]
    base = tiny_base()
    with torch.no_grad():
        own = _one_by_one(base, sequences)
    found = completion_logprobs(base, sequences, tokens_per_batch=tokens_per_batch)
    torch.testing.assert_close(torch.tensor(found), own, atol=1e-4, rtol=1e-5)


def test_packed_rows_give_the_models_own_gradients() -> None:
    sequences = [*replies(5), of_reply(replies(1)[0].prompt, (9, 9, 2))]
    model = _shaken(tiny_base())
    learned = [p for p in model.parameters() if p.requires_grad]
    factor = torch.linspace(-1, 1, len(sequences))
    expected = torch.autograd.grad((_one_by_one(model, sequences) * factor).sum(), learned)
    got = torch.autograd.grad((sums(model, pack(sequences)) * factor).sum(), learned)
    for ours, own in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, own, atol=1e-4, rtol=1e-4)


def test_a_completion_of_nothing_has_probability_one() -> None:
    assert completion_logprobs(tiny_base(), [Tokens((1, 2, 3), (0, 0, 0))]) == [0.0]


def test_a_fresh_adapter_changes_nothing_and_follows_its_seed() -> None:
    sequences = replies(3)
    base = tiny_base()
    before = completion_logprobs(base, sequences)
    first = fresh_adapter(base, rank=4, alpha=8, seed=0)
    assert completion_logprobs(first, sequences) == before
    weights = [p.clone() for p in first.parameters() if p.requires_grad]
    first.unload()
    again = fresh_adapter(base, rank=4, alpha=8, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(weights, filter(_learns, again.parameters()), strict=True))
    again.unload()
    other = fresh_adapter(base, rank=4, alpha=8, seed=1)
    assert not all(torch.equal(a, b) for a, b in zip(weights, filter(_learns, other.parameters()), strict=True))


def _learns(parameter: torch.nn.Parameter) -> bool:
    return parameter.requires_grad


def test_an_adapter_survives_the_disk(tmp_path: Path) -> None:
    sequences = replies(4)
    model = _shaken(tiny_base())
    expected = completion_logprobs(model, sequences)
    save_adapter(model, tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    base = tiny_base()
    plain = completion_logprobs(base, sequences)
    read = read_adapter(base, tmp_path / "one")
    assert completion_logprobs(read, sequences) == expected != plain
    assert not any(p.requires_grad for p in read.parameters())
    read.unload()
    assert completion_logprobs(base, sequences) == plain


def test_disabling_the_adapter_gives_the_base() -> None:
    sequences = replies(4)
    plain = completion_logprobs(tiny_base(), sequences)
    model = _shaken(tiny_base())
    with model.disable_adapter():
        assert completion_logprobs(model, sequences) == plain


def test_a_damaged_adapter_is_refused_in_one_sentence(tmp_path: Path) -> None:
    save_adapter(_shaken(tiny_base()), tmp_path / "one")
    (tmp_path / "one" / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(AdapterDamaged, match="one is no adapter of this model"):
        read_adapter(tiny_base(), tmp_path / "one")
    with pytest.raises(AdapterDamaged):
        read_adapter(tiny_base(), tmp_path / "missing")


def test_another_models_adapter_is_refused_and_the_base_stays_as_it_was(tmp_path: Path) -> None:
    model = fresh_adapter(tiny_base(), rank=4, alpha=8, seed=0)
    save_adapter(model, tmp_path / "one")
    weights = load_file(tmp_path / "one" / "adapter_model.safetensors")
    name = next(iter(weights))
    base, sequences = tiny_base(), replies(2)
    before, layers = completion_logprobs(base, sequences), [type(module) for module in base.modules()]
    for damaged in (
        {**weights, name: torch.ones(3, 3)},
        {key: value for key, value in weights.items() if key != name},
        {**weights, "more": torch.ones(1)},
    ):
        save_file(damaged, tmp_path / "one" / "adapter_model.safetensors")
        with pytest.raises(AdapterDamaged, match="one is no adapter of this model"):
            read_adapter(base, tmp_path / "one")
        assert completion_logprobs(base, sequences) == before
        assert [type(module) for module in base.modules()] == layers


def test_a_pickled_adapter_is_never_read(tmp_path: Path) -> None:
    save_adapter(_shaken(tiny_base()), tmp_path / "one")
    (tmp_path / "one" / "adapter_model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, tmp_path / "one" / "adapter_model.bin")
    with pytest.raises(AdapterDamaged):
        read_adapter(tiny_base(), tmp_path / "one")


def test_a_gguf_is_read_once(tmp_path: Path) -> None:
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    told: list[tuple[str, int, int]] = []
    first = load_base(gguf, "ab" * 32, tmp_path, progress=lambda *step: told.append(step))
    assert [step[1:] for step in told] == [(0, 1), (1, 1)]
    assert not any(p.requires_grad for p in first.parameters())
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    gguf.unlink()
    second = load_base(gguf, "ab" * 32, tmp_path)
    assert completion_logprobs(second, replies(3)) == completion_logprobs(first, replies(3))
    assert [path.name for path in (tmp_path / "torch").glob("[!.]*")] == ["ab" * 8]


def test_a_file_that_is_no_model_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x00" * 60)
    with pytest.raises(BaseUnusable, match=r"bad\.gguf can't be read for learning"):
        load_base(tmp_path / "bad.gguf", "cd" * 32, tmp_path)
    assert list((tmp_path / "torch").glob("[!.]*")) == []


def test_an_architecture_that_packed_rows_compute_wrongly_is_refused() -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
        initializer_range=0.5,
    )
    with pytest.raises(BaseUnusable, match="Gemma2ForCausalLM can't be trained here"):
        torch_model._check(Gemma2ForCausalLM(config).eval())
    torch_model._check(tiny_base())
