"""The base model in torch, adapters on it, and log-probabilities of replies under both.

Owns what of a forward pass differs from transformers' own: packed rows without padding, logits at the learned positions
alone, LoRA in one piece. Nothing here ever unpickles. Only the learning subprocess imports this: it brings in torch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging as transformers_logging

from models.errors import ModelError
from models.learning import fused
from models.learning.batches import Packed, Tokens, of_reply, pack, packs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

_ATTENTION = "encore_packed"
_WEIGHTS = "model.safetensors"
_ADAPTER_WEIGHTS, _ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_SAME_NATS = 1e-2  # a packed row against transformers' own logits, summed over a few tokens


class BaseUnusable(ModelError):
    """The model can serve but not learn: its GGUF can't be read into torch, or its architecture isn't supported."""


class AdapterDamaged(ModelError):
    """A folder doesn't hold an adapter of this base model."""


def load_base(
    gguf: Path, sha256: str, cache_dir: Path, *, progress: Callable[[str, int, int], None] | None = None
) -> PreTrainedModel:
    """Return the weights that serve, dequantized to float32, in eval mode and frozen; blocks.

    The first time takes up to a minute and leaves `cache_dir`/torch/<the sha256's start> (4 bytes a weight); later
    loads map that file. Raises BaseUnusable.
    """
    folder = cache_dir / "torch" / sha256[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".convert.lock"):
        if not (folder / _WEIGHTS).is_file():
            if progress:
                progress("Reading the model for learning", 0, 1)
            _convert(gguf, folder)
            if progress:
                progress("Reading the model for learning", 1, 1)
    return _frozen(folder)


def fresh_adapter(base: PreTrainedModel, *, rank: int, alpha: int, seed: int) -> PeftModel:
    """Return `base` with a new trainable LoRA on every linear layer but the head: it changes nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _wrapped(base, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))


def read_adapter(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Return `base` with the adapter that `save_adapter` wrote, frozen. Raises AdapterDamaged.

    `base` is wrapped in place; `model.unload()` gives it back.
    """
    try:
        # Not by PeftModel.from_pretrained: it unpickles an adapter_model.bin, and asks the hub for what is missing.
        weights = load_file(str(folder / _ADAPTER_WEIGHTS))
        fields = json.loads((folder / _ADAPTER_CONFIG).read_text("utf-8"))
        config = LoraConfig(**{**fields, "inference_mode": True})
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise AdapterDamaged(_no_adapter(folder, str(error))) from error
    model = _wrapped(base, config)
    try:
        same_layers = get_peft_model_state_dict(model).keys() == weights.keys()
        if same_layers:
            set_peft_model_state_dict(model, weights)
    except RuntimeError:  # a tensor of another shape
        same_layers = False
    if not same_layers:
        model.unload()
        raise AdapterDamaged(_no_adapter(folder, "its layers have other names or sizes"))
    return model


def _no_adapter(folder: Path, reason: str) -> str:
    return f"{folder.name} is no adapter of this model ({reason}); train it again."


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write PEFT's two files; `folder` is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch_folder(folder)
    try:
        model.save_pretrained(str(scratch), safe_serialization=True)
        (scratch / "README.md").unlink(missing_ok=True)
        config = scratch / _ADAPTER_CONFIG
        fields = json.loads(config.read_text("utf-8"))
        # PEFT keeps the names in a set, which is in another order in every process.
        fields["target_modules"] = sorted(fields["target_modules"])
        config.write_text(json.dumps(fields, indent=2) + "\n", "utf-8")
        _replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def token_logprobs(model: torch.nn.Module, packed: Packed) -> Tensor:
    """Return log p of each learned token, shape (learned tokens,), in the order of `packed.targets`; differentiable."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    with _packed_attention(causal.config):
        hidden = causal.base_model(
            input_ids=torch.tensor([packed.ids]),
            position_ids=torch.tensor([packed.positions]),
            use_cache=False,
            packed=packed,
        ).last_hidden_state[0]
    head = causal.get_output_embeddings()
    return fused.logprobs(hidden[torch.tensor(packed.predictors)], head.weight, torch.tensor(packed.targets))


def sums(model: torch.nn.Module, packed: Packed) -> Tensor:
    """Return log p of each sequence's learned tokens together, shape (sequences,); differentiable."""
    each = token_logprobs(model, packed)
    return torch.zeros(len(packed.paths)).index_add(0, torch.tensor(packed.owners), each)


@torch.no_grad()
def completion_logprobs(
    model: torch.nn.Module,
    tokens: Sequence[Tokens],
    *,
    tokens_per_batch: int = 2048,
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Return log p(completion | prompt) in nats, summed over each sequence's learned tokens.

    `progress` is told how many sequences are done, and of how many.
    """
    result, done = [0.0] * len(tokens), 0
    for group in packs([(one,) for one in tokens], tokens_per_batch=tokens_per_batch):
        packed = pack([tokens[i] for i in group])
        if packed.targets:
            for index, value in zip(group, sums(model, packed).tolist(), strict=True):
                result[index] = value
        done += len(group)
        if progress is not None:
            progress(done, len(tokens))
    return result


def _convert(gguf: Path, folder: Path) -> None:
    scratch = _scratch_folder(folder)
    try:
        with _quiet():
            model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        # save_pretrained refuses a model that came from a GGUF, because its config says "quantized".
        model.config.quantization_config = None
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del weights["lm_head.weight"]
        plain = {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
        type(model.config)(**plain).save_pretrained(str(scratch))
        save_file(weights, str(scratch / _WEIGHTS), metadata={"format": "pt"})
        _check(_frozen(scratch))
        _replace(scratch, folder)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise BaseUnusable(f"{gguf.name} can't be read for learning ({error}); nights need another model.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _frozen(folder: Path) -> PreTrainedModel:
    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32, use_safetensors=True, local_files_only=True, attn_implementation="sdpa"
        )
    return model.requires_grad_(False).eval()


@torch.no_grad()
def _check(model: PreTrainedModel) -> None:
    """Raise BaseUnusable unless packed rows give this architecture's own log-probabilities.

    They don't where layers carry a state along the row, attention is capped or windowed, or logits are rescaled.
    """
    ids = [(7 * i) % min(97, model.config.vocab_size) for i in range(24)]
    sequences = [of_reply(ids[:9], ids[9:16]), of_reply(ids[:9], ids[16:]), of_reply(ids[3:8], ids[8:15])]
    ours = completion_logprobs(model, sequences)
    for sequence, value in zip(sequences, ours, strict=True):
        logits = model(input_ids=torch.tensor([sequence.ids])).logits[0].log_softmax(-1)
        places = [i for i, learned in enumerate(sequence.learned) if learned]
        own = sum(float(logits[i - 1, sequence.ids[i]]) for i in places)
        if not abs(own - value) < _SAME_NATS:
            raise BaseUnusable(f"{type(model).__name__} can't be trained here; nights need a Llama-like model.")


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Let each sequence of a packed row attend to itself; query is (1, heads, row, width), the result transposed."""
    packed: Packed = options["packed"]
    groups = query.shape[1] // key.shape[1]
    pieces = [tensor.split(packed.sizes, dim=2) for tensor in (query, key, value)]
    outputs = []
    for path, fresh in zip(packed.paths, packed.fresh, strict=True):
        if not fresh:
            continue
        q, k, v = (of[path[0]] if len(path) == 1 else torch.cat([of[i] for i in path], dim=2) for of in pieces)
        # What came before `fresh` is computed again and dropped: causal attention without a mask starts at 0.
        attended = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=options.get("scaling"), enable_gqa=groups > 1
        )
        outputs.append(attended[:, :, -fresh:])
    return torch.cat(outputs, dim=2).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)


@contextlib.contextmanager
def _packed_attention(config: Any) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = _ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


class _FusedLoraLinear(LoraLinear):  # type: ignore[misc]  # peft has no types
    """A plain LoRA layer whose two products are added in place, forwards and backwards."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        (name,) = self.active_adapters
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        return fused.lora_linear(x, self.base_layer.weight, self.base_layer.bias, a, b, self.scaling[name])


def _wrapped(base: PreTrainedModel, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        model = get_peft_model(base, config)
    for module in model.modules():
        if type(module) is LoraLinear:
            module.__class__ = _FusedLoraLinear
    return model


def _scratch_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))


def _replace(scratch: Path, folder: Path) -> None:
    """Make `scratch` durable and put it in the place of `folder`."""
    for path in itertools.chain(scratch.iterdir(), [scratch]):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
