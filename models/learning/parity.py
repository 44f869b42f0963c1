"""Whether the adapter that llama.cpp serves is the one that torch trained, by what both expect after fixed prefixes.

Owns the comparison and its bars. Two engines never agree to the bit (llama.cpp computes with quantized activations, and
rounding twice the same way doesn't help: docs/notebook.md), and an adapter that was left out altogether still leaves
most top tokens where they were. So the file's numbers are compared exactly; then, after prefixes where torch is sure,
what the engine makes of them: the agreement itself, and how alike the two *changes* are, adapter less base, with the
adapter amplified in both, since the change of a mild one would drown in the rounding.
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
from models.learning.same_layers import other_layers
from models.types import Role, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor

    from models.learning.context import Context

MIN_PREFIXES = 200
MARGIN_NATS = 0.15  # between torch's two likeliest tokens
# Up to so much the rounding may turn a right adapter's top token (docs/notebook.md): the mean of several readings tells
# it, the adapter's scale nudged in each, so that each rounds otherwise. Where it still says another token it is read
# more often: what rounding did wears off, what a wrong adapter does stays. More than a few aren't rounding's.
_ROUNDED_NATS, _NUDGED = 0.3, (0.999, 1.001)
_DOUBTED, _FEW = (0.998, 1.002, 0.997, 1.003, 0.996, 1.004), 0.05
MIN_SAME_TOP, MAX_MEDIAN_NATS = 0.99, 0.05
MIN_ALIKE = 0.98  # cosine of the two changes
STRENGTHS = 0.95, 1.05  # of the served change, 1 being that of torch
_AMPLIFIED = 16.0
_EVERY = 8  # of the texts, for the changes
_LIKELIEST = 8  # tokens of torch's whose change is compared
_ASKED = 64  # of llama.cpp's; what it finds less likely is left out
_TEXTS, _POSITIONS = 36, range(0, 32, 4)  # tokens of the reply that a prefix has
_CONTEXT_TOKENS = 512

_Next = dict[int, float]  # token id: log p


class NothingToCompare(ModelError):
    """The base model writes too little for a comparison."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """`prefixes` are those where torch is sure; `alike` and `strength` compare the changes that the adapter makes.

    `other_layers` are those whose numbers in the file aren't the trained ones.
    """

    prefixes: int
    same_top: float
    median_difference: float  # nats, on torch's top token
    alike: float
    strength: float
    held: bool
    sentence: str
    other_layers: int = 0


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
    groups = _groups(prefixes)
    sampled = groups[::_EVERY]
    asked = [place for group in sampled for place in group]
    top = _trained(model, prefixes, groups).topk(2)
    margins = (top.values[:, 0] - top.values[:, 1]).tolist()
    clear = [place for place, margin in enumerate(margins) if margin > MARGIN_NATS]
    rounded = [place for place in clear if margins[place] <= _ROUNDED_NATS]
    with _amplified(model):
        loud = _trained(model, prefixes, sampled).topk(_LIKELIEST)
    with model.disable_adapter():
        bare = _trained(model, prefixes, sampled).gather(1, loud.indices)
    total = len(clear) + len(_NUDGED) * len(rounded) + 2 * len(asked)
    doubted: list[int] = []
    served = _Served(
        base_gguf, adapter_gguf, prefixes, lambda done: progress(done, total + len(_DOUBTED) * len(doubted))
    )
    readings: dict[int, list[_Next]] = {place: [] for place in clear}
    served.read_on(readings, clear, (1.0,))
    served.read_on(readings, rounded, _NUDGED)
    likeliest = top.indices[:, 0].tolist()
    other = [place for place in clear if _likeliest(_mean(readings[place])) != likeliest[place]]
    doubted += other if len(other) <= _FEW * len(clear) else []
    served.read_on(readings, doubted, _DOUBTED)
    means = {place: _mean(several) for place, several in readings.items()}
    same = sum(_likeliest(mean) == likeliest[place] for place, mean in means.items())
    differences = [
        abs(mean.get(likeliest[place], -math.inf) - float(top.values[place, 0])) for place, mean in means.items()
    ]
    served_sides = [served.read(asked, scale) for scale in (_AMPLIFIED, 0.0)]
    changes, served_changes = [], []
    for row, (with_it, without) in enumerate(zip(*served_sides, strict=True)):
        for column, token in enumerate(loud.indices[row].tolist()):
            if token in with_it and token in without:
                changes.append(float(loud.values[row, column] - bare[row, column]))
                served_changes.append(with_it[token] - without[token])
    return _judged(differences, same, changes, served_changes, other=other_layers(base_gguf, adapter_gguf, model))


def _judged(
    differences: Sequence[float],
    same: int,
    changes: Sequence[float],
    served_changes: Sequence[float],
    *,
    other: Sequence[str] = (),
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
            (not other, f"{len(other)} of its layers have other numbers, such as {', '.join(other[:1])}"),
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
    return ParityReport(count, same_top, median, alike, strength, held, sentence, len(other))


def _mean(readings: Sequence[_Next]) -> _Next:
    """Return the mean log p of what all readings have."""
    return {
        token: statistics.fmean(one[token] for one in readings)
        for token in readings[0]
        if all(token in one for one in readings)
    }


def _likeliest(following: _Next) -> int:
    return max(following, key=following.__getitem__)


def _groups(prefixes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Return runs of places in `prefixes`, each of which begins as the one before it."""
    groups: list[list[int]] = []
    for place, prefix in enumerate(prefixes):
        if place and prefix[: len(prefixes[place - 1])] == prefixes[place - 1]:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _trained(model: PeftModel, prefixes: Sequence[tuple[int, ...]], groups: Sequence[Sequence[int]]) -> Tensor:
    """Return torch's log p of every token after the prefixes of `groups`, shape (prefixes, vocabulary)."""
    found = []
    for group in groups:
        positions = torch.tensor([len(prefixes[place]) - 1 for place in group])
        ids = torch.tensor([prefixes[group[-1]]])
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=positions, use_cache=False).logits[0]
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
    """llama.cpp with the adapter, one prefix at a time; `told` hears how many were read."""

    def __init__(
        self, base_gguf: Path, adapter_gguf: Path, prefixes: Sequence[tuple[int, ...]], told: Callable[[int], None]
    ) -> None:
        self._prefixes, self._told, self._done = prefixes, told, 0
        self._server, _ = open_server(
            base_gguf,
            context_tokens=max(map(len, prefixes)) + 8,
            slots=1,
            threads=torch.get_num_threads(),
            kv_cache="q8_0",  # what serves unless KV_CACHE says otherwise
            prompt_cache_mib=0,
            adapters=(adapter_gguf,),
        )
        # llama.cpp tells nothing of a token that is a part of a character, and what it tells is before any bias: so a
        # whole one is forced.
        tokens = dict.fromkeys(token for prefix in prefixes for token in prefix)
        self._forced = next((token for token in tokens if self._ask(prefixes[0], 1.0, token)), 0)

    def read_on(self, readings: dict[int, list[_Next]], places: Sequence[int], scales: Iterable[float]) -> None:
        """Add a reading at each of `scales` to those of `places`. Raises EngineFailed."""
        for scale in scales:
            for place, found in zip(places, self.read(places, scale), strict=True):
                readings[place].append(found)

    def read(self, places: Iterable[int], scale: float) -> list[_Next]:
        """Return log p of the likeliest tokens after each prefix, the adapter being at `scale`. Raises EngineFailed."""
        found = []
        for place in places:
            found.append(self._ask(self._prefixes[place], scale, self._forced))
            if not found[-1]:
                raise EngineFailed(
                    "llama.cpp tells no probabilities, so the adapter can't be compared; run another night."
                )
            self._done += 1
            self._told(self._done)
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
