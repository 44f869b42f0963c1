"""Train one candidate: from rated replies to an adapter in a folder.

Owns the run (order, steps, z0, checkpoints, when to give up). Doesn't choose the examples, their labels or weights, and
doesn't judge what came out. Killed at any line and started again with the same arguments and threads, it ends with the
same bytes: the order follows from the seed, and whatever else a step depends on is in the checkpoint.

One step is `batch_examples` replies (pairs for DPO) and an anchor, computed in rows of at most `tokens_per_batch`
tokens, which is what bounds memory; a row's size changes no result but for rounding. z0, the mean log-ratio that KTO
measures from, is a moving average: every `z0_every` steps the first `z0_examples` prompts of the step take each
other's completions (as TRL's KTOTrainer pairs a whole batch, every step), and the mean moves z0 by 1 - `z0_decay`. With
the rules' numbers about ten such pairs count, as many as TRL's batch has, at an eighth of its cost.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from models.errors import ModelError
from models.learning import objectives
from models.learning.batches import Tokens, mismatched, order, pack, packs, truncated
from models.learning.checkpoint import References, read_checkpoint, told_if_full, write_checkpoint, write_durably
from models.learning.objectives import Objective
from models.learning.torch_model import completion_logprobs, fresh_adapter, save_adapter, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from models.learning.examples import Example, PairExample

_RESULT, _CHECKPOINT, _ADAPTER = "train.json", "checkpoint.safetensors", "adapter"
_MAX_GRADIENT_NORM = 1.0
_WARMUP = 0.1  # of the steps; from there the rate falls linearly to its tenth


class TrainingDiverged(ModelError):
    """The loss or its gradient stopped being a number."""


class NothingToLearn(ModelError):
    """No example is left for this objective."""


@dataclass(frozen=True, slots=True)
class TrainRules:
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-4
    beta: float = 0.1
    batch_examples: int = 8
    epochs: int = 1
    max_steps: int = 300
    anchor_weight: float = 0.15  # of an anchor's NLL a token
    max_tokens: int = 512  # of a prompt and its reply
    tokens_per_batch: int = 512  # of a row with gradients: 1.6 MB of memory each on the embedded model
    length_normalised: bool = False  # see objectives.log_ratio; off, as replies don't grow without (docs/notebook.md)
    z0_every: int = 2  # steps
    z0_examples: int = 2
    z0_decay: float = 0.8
    checkpoint_every: int = 25  # steps


@dataclass(frozen=True, slots=True)
class Labelled:
    """A rated reply and its tokens, as `PromptBuilder.training_example` gives them."""

    example: Example
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class LabelledPair:
    pair: PairExample
    chosen: Tokens
    rejected: Tokens


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`tokens` counts every token of every example as often as a step used it; `seconds` include the reference pass.

    `used` are the replies (pairs for DPO) of the `given` that the steps and the time were enough for.
    """

    adapter_folder: Path
    steps: int
    losses: tuple[float, ...]
    tokens: int
    seconds: float
    used: int
    given: int


@dataclass(frozen=True, slots=True)
class _Item:
    """What one loss is of: a reply, a chosen and a rejected one, or an anchor (`anchor`, one reply)."""

    sequences: tuple[Tokens, ...]
    weight: float
    p_good: float = 1.0
    anchor: bool = False


def train(
    base: PreTrainedModel,
    objective: Objective,
    examples: Sequence[Labelled],
    pairs: Sequence[LabelledPair],
    anchors: Sequence[Tokens],
    *,
    folder: Path,
    rules: TrainRules,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
    references: References | None = None,
    most_tokens: int | None = None,
    preparing: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train a fresh adapter on `base` into `folder`, or finish what a killed run began there.

    KTO and SFT learn from `examples`, DPO from `pairs`; `base` comes back as it was. `progress` is told the step, the
    steps in all and the loss; `preparing`, before the first step, how many replies the base has read and of how many.
    `references` are shared by the runs of a night. What the rules' steps or `most_tokens` don't reach is left out: what
    weighs least, and of equals the oldest. Raises TrainingDiverged, NothingToLearn, DiskFull.
    """
    given = _given(objective, examples, pairs, rules)
    items = _weighed(objective, _in_reach(given, rules, most_tokens))
    run = _Run(base, objective, items, len(given), anchors, folder, rules, seed)
    finished = run.finished()
    if finished is not None:
        return finished
    run.prepare(references if references is not None else References(folder / "references.json"), preparing)
    model = fresh_adapter(base, rank=rules.rank, alpha=rules.alpha, seed=seed)
    try:
        return run.go(model, progress)
    finally:
        model.unload()


def demand(objective: Objective, examples: Sequence[Labelled], pairs: Sequence[LabelledPair], rules: TrainRules) -> int:
    """Return on how many tokens `train` would train where its time had no limit."""
    reached = _in_reach(_given(objective, examples, pairs, rules), rules, None)
    return rules.epochs * sum(map(_tokens, reached))


def z0_estimate(
    model: PeftModel, sequences: Sequence[Tokens], references: References, typical_tokens: float | None = None
) -> float:
    """Return the mean log-ratio of the sequences' prompts with each other's completions, not clamped.

    With a whole batch it is, clamped at 0, what TRL's KTOTrainer calls kl.
    """
    pairs = mismatched(sequences)
    policy = torch.tensor(completion_logprobs(model, pairs))
    reference = torch.tensor([references[pair] for pair in pairs])
    tokens = torch.tensor([float(pair.learned_count) for pair in pairs])
    return float(objectives.log_ratio(policy, reference, tokens, typical_tokens).mean())


class _Run:
    def __init__(
        self,
        base: PreTrainedModel,
        objective: Objective,
        items: Sequence[_Item],
        given: int,
        anchors: Sequence[Tokens],
        folder: Path,
        rules: TrainRules,
        seed: int,
    ) -> None:
        self._base, self._objective, self._items, self._given, self._rules = base, objective, items, given, rules
        self._anchors = [truncated(anchor, rules.max_tokens) for anchor in anchors]
        self._folder = folder
        self._steps = order(
            len(items), batch=rules.batch_examples, epochs=rules.epochs, max_steps=rules.max_steps, seed=seed
        )
        lengths = sorted(sequence.learned_count for item in items for sequence in item.sequences)
        self._typical = float(lengths[len(lengths) // 2]) if rules.length_normalised else None
        p_good = torch.tensor([item.p_good for item in items])
        self._class_weights = objectives.class_weights(p_good, torch.tensor([item.weight for item in items]))
        self._fingerprint = self._identity(seed)
        self._references = References()
        self._losses: list[float] = []
        self._tokens, self._z0, self._seconds = 0, 0.0, 0.0

    def finished(self) -> TrainResult | None:
        try:
            said = json.loads((self._folder / _RESULT).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if said.pop("fingerprint", None) != self._fingerprint:
            return None
        return self._result(said["steps"], tuple(said["losses"]), said["tokens"], said["seconds"])

    def prepare(self, references: References, progress: Callable[[int, int], None] | None) -> None:
        """Compute what the base says of everything that a step will compare with it, in one pass."""
        started = time.monotonic()
        self._references = references
        if self._objective is not Objective.SFT:
            used = sorted({index for step in self._steps for index in step})
            wanted = [sequence for index in used for sequence in self._items[index].sequences]
            wanted += [pair for step in range(len(self._steps)) for pair in mismatched(self._z0_sequences(step))]
            if missing := references.missing(wanted):
                references.add(missing, completion_logprobs(self._base, missing, progress=progress))
        self._seconds += time.monotonic() - started

    def go(self, model: PeftModel, progress: Callable[[int, int, float], None] | None) -> TrainResult:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(parameters.values(), lr=self._rules.learning_rate, weight_decay=0.0, fused=True)
        self._resume(parameters, optimizer)
        for step in range(len(self._losses), len(self._steps)):
            started = time.monotonic()
            if (sequences := self._z0_sequences(step)) and self._objective is Objective.KTO:
                estimate = z0_estimate(model, sequences, self._references, self._typical)
                self._z0 += (1 - self._rules.z0_decay) * (estimate - self._z0)
            loss = self._backward(model, step)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), _MAX_GRADIENT_NORM, foreach=True))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingDiverged(
                    f"The loss stopped being a number at step {step + 1}; train with a lower learning rate than "
                    f"{self._rules.learning_rate:g}."
                )
            for group in optimizer.param_groups:
                group["lr"] = self._rules.learning_rate * self._share_of_rate(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self._losses.append(loss)
            self._seconds += time.monotonic() - started
            if progress:
                progress(step + 1, len(self._steps), loss)
            if (step + 1) % self._rules.checkpoint_every == 0 and step + 1 < len(self._steps):
                self._save(parameters, optimizer)
        return self._finish(model)

    def _backward(self, model: PeftModel, step: int) -> float:
        """Add the step's gradient and return its loss, without the anchor's share."""
        items = [self._items[i] for i in self._steps[step]]
        count = len(items)
        if self._anchors and self._rules.anchor_weight:
            anchor = self._anchors[step % len(self._anchors)]
            items.append(_Item((anchor,), self._rules.anchor_weight, anchor=True))
        total = 0.0
        for group in packs([item.sequences for item in items], tokens_per_batch=self._rules.tokens_per_batch):
            chosen = [items[i] for i in group]
            packed = pack([sequence for item in chosen for sequence in item.sequences])
            policy = sums(model, packed).split([len(item.sequences) for item in chosen])
            losses = [self._loss(item, of_item) for item, of_item in zip(chosen, policy, strict=True)]
            own = sum((loss for item, loss in zip(chosen, losses, strict=True) if not item.anchor), torch.zeros(()))
            held = sum((loss for item, loss in zip(chosen, losses, strict=True) if item.anchor), torch.zeros(()))
            (own / count + held).backward()
            total += float(own.detach()) / count
            self._tokens += sum(len(sequence.ids) for item in chosen for sequence in item.sequences)
        return total

    def _loss(self, item: _Item, policy: Tensor) -> Tensor:
        rules = self._rules
        tokens = torch.tensor([float(sequence.learned_count) for sequence in item.sequences])
        weight = torch.tensor([item.weight])
        if item.anchor or self._objective is Objective.SFT:
            return objectives.nll(policy, tokens, weight).sum()
        reference = torch.tensor([self._references[sequence] for sequence in item.sequences])
        ratio = objectives.log_ratio(policy, reference, tokens, self._typical)
        if self._objective is Objective.DPO:
            nll = objectives.nll(policy[:1], tokens[:1], torch.ones(1))
            return objectives.robust_dpo(ratio[:1], ratio[1:], nll, weight, rules.beta).sum()
        p_good, z0 = torch.tensor([item.p_good]), max(0.0, self._z0)
        return objectives.soft_kto(ratio, p_good, weight, z0, rules.beta, self._class_weights).sum()

    def _z0_sequences(self, step: int) -> list[Tokens]:
        # Before the first step the adapter changes nothing: every log-ratio is 0.
        if self._objective is not Objective.KTO or step == 0 or step % self._rules.z0_every:
            return []
        chosen = self._steps[step][: self._rules.z0_examples]
        return [self._items[i].sequences[0] for i in chosen] if len(chosen) > 1 else []

    def _share_of_rate(self, step: int) -> float:
        warmup = max(1, round(_WARMUP * len(self._steps)))
        if step < warmup:
            return (step + 1) / warmup
        return 1.0 - 0.9 * (step - warmup) / max(1, len(self._steps) - warmup)

    def _save(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        tensors = {f"adapter/{name}": p.detach() for name, p in parameters.items()}
        for name, p in parameters.items():
            tensors |= {f"{key}/{name}": value for key, value in optimizer.state[p].items()}
        state = {
            "fingerprint": self._fingerprint,
            "losses": self._losses,
            "tokens": self._tokens,
            "z0": self._z0,
            "seconds": self._seconds,
        }
        write_checkpoint(self._folder / _CHECKPOINT, tensors, state)

    def _resume(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        found = read_checkpoint(self._folder / _CHECKPOINT)
        if found is None or found[1].get("fingerprint") != self._fingerprint:
            return
        tensors, state = found
        for name, p in parameters.items():
            p.data.copy_(tensors[f"adapter/{name}"])
            optimizer.state[p] = {key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        self._losses, self._tokens, self._z0 = state["losses"], state["tokens"], state["z0"]
        self._seconds += state["seconds"]

    def _finish(self, model: PeftModel) -> TrainResult:
        result = self._result(len(self._steps), tuple(self._losses), self._tokens, self._seconds)
        with told_if_full(result.adapter_folder):
            save_adapter(model, result.adapter_folder)
        said: dict[str, Any] = {k: v for k, v in asdict(result).items() if k != "adapter_folder"}
        write_durably(self._folder / _RESULT, json.dumps({**said, "fingerprint": self._fingerprint}).encode())
        (self._folder / _CHECKPOINT).unlink(missing_ok=True)
        return result

    def _result(self, steps: int, losses: tuple[float, ...], tokens: int, seconds: float) -> TrainResult:
        return TrainResult(self._folder / _ADAPTER, steps, losses, tokens, seconds, len(self._items), self._given)

    def _identity(self, seed: int) -> str:
        """Name everything that the result depends on, so that no checkpoint of another run is taken up."""
        digest = hashlib.sha256()
        digest.update(json.dumps([asdict(self._rules), self._objective, seed, self._base.config.to_dict()]).encode())
        for item in (*self._items, *(_Item((anchor,), 0.0, anchor=True) for anchor in self._anchors)):
            digest.update(json.dumps(asdict(item)).encode())
        return digest.hexdigest()


def _given(
    objective: Objective, examples: Sequence[Labelled], pairs: Sequence[LabelledPair], rules: TrainRules
) -> list[_Item]:
    return list(_pair_items(pairs, rules) if objective is Objective.DPO else _reply_items(objective, examples, rules))


def _tokens(item: _Item) -> int:
    return sum(len(sequence.ids) for sequence in item.sequences)


def _in_reach(items: Sequence[_Item], rules: TrainRules, most_tokens: int | None) -> list[_Item]:
    """Return, in their order, the heaviest items that the steps and the tokens are enough for: one step's at least."""
    heaviest = sorted(range(len(items)), key=lambda place: (-items[place].weight, -place))
    places = heaviest[: rules.batch_examples * rules.max_steps]
    if most_tokens is not None:
        walked = accumulate(_tokens(items[place]) * rules.epochs for place in places)
        places = places[: max(sum(tokens <= most_tokens for tokens in walked), rules.batch_examples)]
    return [items[place] for place in sorted(places)]


def _weighed(objective: Objective, items: Sequence[_Item]) -> list[_Item]:
    """Return what the objective learns from, weights scaled to a mean of 1. Raises NothingToLearn."""
    mean = sum(item.weight for item in items) / max(1, len(items))
    if not mean > 0:
        raise NothingToLearn(f"No example is left for {objective.value}; collect more ratings.")
    return [_Item(item.sequences, item.weight / mean, item.p_good) for item in items]


def _reply_items(objective: Objective, examples: Sequence[Labelled], rules: TrainRules) -> Iterator[_Item]:
    """Yield the replies that the objective can learn from; an unsafe one is never a positive."""
    for labelled in examples:
        p_good = 0.0 if labelled.example.unsafe else labelled.example.p_good
        tokens = truncated(labelled.tokens, rules.max_tokens)
        if tokens.learned_count and (objective is Objective.KTO or p_good > 0.5):
            yield _Item((tokens,), labelled.example.weight, p_good)


def _pair_items(pairs: Sequence[LabelledPair], rules: TrainRules) -> Iterator[_Item]:
    for labelled in pairs:
        sequences = (truncated(labelled.chosen, rules.max_tokens), truncated(labelled.rejected, rules.max_tokens))
        if not labelled.pair.chosen.unsafe and all(sequence.learned_count for sequence in sequences):
            yield _Item(sequences, labelled.pair.weight)
