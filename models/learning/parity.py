"""Whether the adapter that llama.cpp serves is the one that torch trained, by what both expect after fixed prefixes.

Owns the comparison and its bars. Two engines never agree to the bit (llama.cpp computes with quantized activations),
and an adapter that was left out altogether still leaves most top tokens where they were. So it looks at prefixes where
torch is sure, and beside the agreement itself it asks how alike the two *changes* are, adapter less base, with the
adapter amplified in both: the change of a mild adapter would drown in the rounding.
"""

from __future__ import annotations

import math
import statistics
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer

from models.engines.llama_server import open_server
from models.errors import EngineFailed, ModelError
from models.learning.fixed_prompts import neutral_prompts
from models.learning.generations import base_replies
from models.types import Role, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor

    from models.learning.context import Context

MIN_PREFIXES = 200
# Between torch's two likeliest tokens. Rounding decides where it is less sure: up to .3 nat in right adapters too
# (docs/notebook.md), so that at .15, where a wrong one can't be told from it, two right ones of three would be refused.
MARGIN_NATS = 0.3
MIN_SAME_TOP, MAX_MEDIAN_NATS = 0.99, 0.05
MIN_ALIKE = 0.98  # cosine of the two changes
STRENGTHS = 0.95, 1.05  # of the served change, 1 being that of torch
_AMPLIFIED = 16.0
_EVERY = 4  # of the texts, for the changes
_LIKELIEST = 8  # tokens of torch's whose change is compared
_ASKED = 64  # of llama.cpp's; what it finds less likely is left out
_TEXTS, _POSITIONS = 36, range(0, 32, 4)  # tokens of the reply that a prefix has
_CONTEXT_TOKENS = 512

_Next = dict[int, float]  # token id: log p


class NothingToCompare(ModelError):
    """The base model writes too little for a comparison."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """`prefixes` are those where torch is sure; `alike` and `strength` compare the changes that the adapter makes."""

    prefixes: int
    same_top: float
    median_difference: float  # nats, on torch's top token
    alike: float
    strength: float
    held: bool
    sentence: str


def fixed_prefixes(context: Context) -> tuple[tuple[int, ...], ...]:
    """Return beginnings of what the base writes to the neutral prompts, several of each reply."""
    found: list[tuple[int, ...]] = []
    for prompt, reply in zip(neutral_prompts(), base_replies(context).neutral, strict=True):
        if len(reply.token_ids) <= _POSITIONS[-1] or len(found) >= _TEXTS * len(_POSITIONS):
            continue
        budget = _CONTEXT_TOKENS - len(reply.token_ids) - 1
        ids = context.prompts.build("", [Turn(Role.USER, prompt.text)], budget=budget, refit=budget).token_ids
        found += [(*ids, *reply.token_ids[:length]) for length in _POSITIONS]
    return tuple(found)


def measure(
    base_gguf: Path,
    adapter_gguf: Path,
    model: PeftModel,
    prefixes: Sequence[tuple[int, ...]],
    *,
    progress: Callable[[int, int], None],
) -> ParityReport:
    """Compare `model`, base and adapter in torch, with the two files as llama.cpp serves them; blocks.

    Prefixes of one text should follow each other, the shortest first: they are read once. Raises NothingToCompare,
    ModelUnavailable, AdapterRefused and EngineFailed.
    """
    if not prefixes:
        raise NothingToCompare(
            f"The model as it came answers no fixed prompt in more than {_POSITIONS[-1]} tokens, so that an adapter "
            "can't be compared; choose another MODEL."
        )
    groups = list(_groups(prefixes))
    sampled = groups[::_EVERY]
    asked = [prefix for group in sampled for prefix in group]
    top = _trained(model, groups).topk(2)
    with _amplified(model):
        loud = _trained(model, sampled).topk(_LIKELIEST)
    with model.disable_adapter():
        bare = _trained(model, sampled).gather(1, loud.indices)
    served = _Served(base_gguf, adapter_gguf, prefixes)
    total = len(prefixes) + 2 * len(asked)
    differences, same = [], 0
    for done, prefix in enumerate(prefixes):
        found, (first, second) = served.next(prefix, 1.0), top.values[done].tolist()
        progress(done + 1, total)
        if first - second > MARGIN_NATS:
            token = int(top.indices[done, 0])
            same += max(found, key=found.__getitem__) == token
            differences.append(abs(found.get(token, -math.inf) - first))
    served_sides: list[list[_Next]] = []
    for scale in (_AMPLIFIED, 0.0):
        served_sides.append([served.next(prefix, scale) for prefix in asked])
        progress(len(prefixes) + len(served_sides) * len(asked), total)
    changes, served_changes = [], []
    for row, (with_it, without) in enumerate(zip(*served_sides, strict=True)):
        for column, token in enumerate(loud.indices[row].tolist()):
            if token in with_it and token in without:
                changes.append(float(loud.values[row, column] - bare[row, column]))
                served_changes.append(with_it[token] - without[token])
    return _judged(differences, same, changes, served_changes)


def _judged(
    differences: Sequence[float], same: int, changes: Sequence[float], served_changes: Sequence[float]
) -> ParityReport:
    count = len(differences)
    same_top = same / count if count else 0.0
    median = statistics.median(differences) if count else math.inf
    size, served_size = math.hypot(*changes), math.hypot(*served_changes)
    product = math.fsum(one * other for one, other in zip(changes, served_changes, strict=True))
    alike = product / (size * served_size) if size and served_size else 0.0
    strength = product / size**2 if size else 0.0
    failed = [
        told
        for holds, told in (
            (count >= MIN_PREFIXES, f"only {count} of the {MIN_PREFIXES} prefixes that are needed are clear"),
            (same_top >= MIN_SAME_TOP, f"the likeliest token is the same after {same_top:.1%} of them"),
            (median <= MAX_MEDIAN_NATS, f"its log-probability is off by {median:.3f} nat"),
            (alike >= MIN_ALIKE, f"what the adapter changes is alike by {alike:.2f} of 1"),
            (STRENGTHS[0] <= strength <= STRENGTHS[1], f"it changes {strength:.2f} times as much"),
        )
        if not holds
    ]
    held = not failed
    sentence = (
        f"What is served says what was trained: after {count} prefixes the same token is likeliest in {same_top:.1%}."
        if held
        else f"What would be served isn't what was trained: {'; '.join(failed)}."
    )
    return ParityReport(count, same_top, median, alike, strength, held, sentence)


def _groups(prefixes: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Yield runs of prefixes, each of which begins as the one before it."""
    group: list[tuple[int, ...]] = []
    for prefix in prefixes:
        if group and prefix[: len(group[-1])] != group[-1]:
            yield group
            group = []
        group.append(prefix)
    if group:
        yield group


def _trained(model: PeftModel, groups: Sequence[Sequence[tuple[int, ...]]]) -> Tensor:
    """Return torch's log p of every next token, shape (prefixes, vocabulary)."""
    found = []
    for group in groups:
        positions = torch.tensor([len(prefix) - 1 for prefix in group])
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([group[-1]]), logits_to_keep=positions, use_cache=False).logits[0]
            found.append(torch.log_softmax(logits.float(), -1))
    return torch.cat(found)


@contextmanager
def _amplified(model: PeftModel) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.scale_layer(_AMPLIFIED)
    try:
        yield
    finally:
        for layer in layers:
            layer.unscale_layer()


class _Served:
    """llama.cpp with the adapter, one prefix at a time."""

    def __init__(self, base_gguf: Path, adapter_gguf: Path, prefixes: Sequence[tuple[int, ...]]) -> None:
        self._server, _ = open_server(
            base_gguf,
            context_tokens=max(map(len, prefixes)) + 8,
            slots=1,
            threads=torch.get_num_threads(),
            kv_cache="f16",
            prompt_cache_mib=0,
            adapters=(adapter_gguf,),
        )
        # llama.cpp tells nothing of a token that is a part of a character, and what it tells is before any bias: so a
        # whole one is forced.
        tokens = dict.fromkeys(token for prefix in prefixes for token in prefix)
        self._forced = next((token for token in tokens if self._ask(prefixes[0], 1.0, token)), 0)

    def next(self, prefix: tuple[int, ...], scale: float) -> _Next:
        """Return log p of the likeliest next tokens. Raises EngineFailed."""
        found = self._ask(prefix, scale, self._forced)
        if not found:
            raise EngineFailed("llama.cpp tells no probabilities, so the adapter can't be compared; run another night.")
        return found

    def _ask(self, prefix: tuple[int, ...], scale: float, forced: int) -> _Next:
        told: _Next = {}

        def keep(chunk: dict[str, Any]) -> bool:
            for choice in chunk.get("choices", ()):
                if choice["logprobs"] and not told:
                    told.update({top["id"]: top["logprob"] for top in choice["logprobs"]["content"][0]["top_logprobs"]})
            return False

        body = {
            "prompt": list(prefix),
            "n_predict": 1,
            "stream": True,
            "temperature": 0.0,
            "n_probs": _ASKED,
            "logit_bias": [[forced, 1000.0]],
            "cache_prompt": True,
            "lora": [{"id": 0, "scale": scale}],
        }
        self._server.handle_completions(body, keep)
        return told
