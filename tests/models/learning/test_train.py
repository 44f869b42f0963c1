from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import DiskFull
from models.learning.batches import Tokens, of_reply
from models.learning.checkpoint import References, read_checkpoint
from models.learning.objectives import Objective
from models.learning.torch_model import completion_logprobs, fresh_adapter, read_adapter
from models.learning.train import (
    Labelled,
    LabelledPair,
    NothingToLearn,
    TrainingDiverged,
    TrainResult,
    TrainRules,
    demand,
    train,
    z0_estimate,
)
from tests.models.learning.tiny_torch import SMALL, community, rated, replies, rivals, tiny_base

_ROOT = Path(__file__).resolve().parents[3]


def _train(
    folder: Path,
    objective: Objective = Objective.KTO,
    *,
    base: Any = None,
    examples: Sequence[Labelled] | None = None,
    pairs: Sequence[LabelledPair] = (),
    anchors: Sequence[Tokens] = (),
    rules: TrainRules = SMALL,
    seed: int = 0,
    **options: Any,
) -> TrainResult:
    given = community(24) if examples is None else examples
    model = base if base is not None else tiny_base()
    return train(model, objective, given, pairs, anchors, folder=folder, rules=rules, seed=seed, **options)


def _bytes(result: TrainResult) -> bytes:
    return (result.adapter_folder / "adapter_model.safetensors").read_bytes()


def _margin(base: Any, result: TrainResult | None = None) -> float:
    """Return log p of the liked beginning less that of the disliked one, on prompts that weren't trained on."""
    model = read_adapter(base, result.adapter_folder) if result else base
    fresh = [of_reply(tokens.prompt, (word,)) for tokens in replies(6, seed=9) for word in (7, 8)]
    found = completion_logprobs(model, fresh)
    if result:
        model.unload()
    return sum(found[::2]) - sum(found[1::2])


@pytest.mark.parametrize("objective", list(Objective))
def test_training_teaches_the_adapter_what_was_liked_and_leaves_the_base_alone(
    tmp_path: Path, objective: Objective
) -> None:
    base = tiny_base()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    result = _train(tmp_path, objective, base=base, pairs=rivals(24), rules=replace(SMALL, epochs=3))
    # SFT learns from the 12 good ones alone.
    assert result.steps == len(result.losses) == (9 if objective is Objective.SFT else 18)
    after = base.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert _margin(base, result) > _margin(base) + 1
    third = result.steps // 3
    assert sum(result.losses[-third:]) < sum(result.losses[:third])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (_train(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert _bytes(first) == _bytes(again) != _bytes(other)
    assert first.losses == again.losses


def test_the_size_of_rows_changes_nothing_but_rounding(tmp_path: Path) -> None:
    small, large = (
        _train(
            tmp_path / str(size), rules=replace(SMALL, tokens_per_batch=size, learning_rate=1e-3), anchors=replies(3)
        )
        for size in (1, 4096)
    )
    assert small.losses == pytest.approx(large.losses, abs=1e-5)
    assert small.tokens == large.tokens


_CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.models.learning.test_train import run_in_child
run_in_child(Path(sys.argv[1]), int(sys.argv[2]))
"""


def run_in_child(folder: Path, stop_at: int) -> None:
    """Train; at step `stop_at` say so and wait to be killed."""

    def progress(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            sys.stdout.write(f"at {step} of {steps}\n")
            sys.stdout.flush()
            sys.stdin.read()

    _train(folder, anchors=replies(3, seed=4), progress=progress, rules=replace(SMALL, epochs=2))


def test_reading_what_is_trained_on_unlearned_is_told_as_it_goes_on(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def preparing(done: int, total: int) -> None:
        told.append((done, total))
        if done == total:
            raise KeyboardInterrupt  # before the training

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, examples=community(400), preparing=preparing)
    done = [done for done, _ in told]
    assert len(done) > 1
    assert done == sorted(done)
    assert {total for _, total in told} == {done[-1]}


def _child(folder: Path, stop_at: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), str(stop_at)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tmp_path: Path) -> None:
    killed = _child(tmp_path / "killed", stop_at=9)
    whole = _child(tmp_path / "whole", stop_at=0)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "at 9 of 12\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    found = read_checkpoint(tmp_path / "killed" / "checkpoint.safetensors")
    assert found is not None
    assert len(found[1]["losses"]) == 8
    assert found[1]["z0"] != 0.0
    resumed = _child(tmp_path / "killed", stop_at=0)
    for process in (whole, resumed):
        process.communicate()
        assert process.returncode == 0
    for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()


class _Stopped(Exception):
    pass


def _stop_at(step: int) -> Any:
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise _Stopped

    return progress


def _stopped(folder: Path, step: int, **options: Any) -> None:
    with pytest.raises(_Stopped):
        _train(folder, progress=_stop_at(step), **options)


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    _stopped(tmp_path, 5)
    seen: list[int] = []
    _train(tmp_path, progress=lambda step, steps, loss: seen.append(step))
    assert seen == [5, 6]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"rules": replace(SMALL, beta=0.2)}, {"anchors": replies(1)}, {"examples": community(23)}]
)
def test_another_runs_checkpoint_is_not_taken_up(tmp_path: Path, change: dict[str, Any]) -> None:
    _stopped(tmp_path, 5)
    seen: list[int] = []
    _train(tmp_path, progress=lambda step, steps, loss: seen.append(step), **change)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    _stopped(tmp_path, 5)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    expected = _train(tmp_path / "whole")
    assert _bytes(_train(tmp_path)) == _bytes(expected)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = _train(tmp_path)
    assert _train(tmp_path, progress=_stop_at(1)) == first
    _stopped(tmp_path, 1, seed=1)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="step 2; train with a lower learning rate than 1e"):
        _train(tmp_path, rules=replace(SMALL, learning_rate=1e30))
    assert not (tmp_path / "adapter").exists()


def test_a_diverged_run_gives_the_base_back(tmp_path: Path) -> None:
    base = tiny_base()
    expected = completion_logprobs(base, replies(2))
    with pytest.raises(TrainingDiverged):
        _train(tmp_path, base=base, rules=replace(SMALL, learning_rate=1e30))
    assert completion_logprobs(base, replies(2)) == expected


def test_a_full_disk_is_told_and_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stopped(tmp_path, 3)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match="The disk is full: checkpoint"):
            _train(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
    assert _bytes(_train(tmp_path)) == _bytes(_train(tmp_path / "whole"))


def test_an_unsafe_reply_is_never_a_positive(tmp_path: Path) -> None:
    liked = [item.tokens for item in community(8)]
    unsafe = [rated(tokens, number, 1.0, unsafe=True) for number, tokens in enumerate(liked)]
    bad = [rated(tokens, number, 0.0) for number, tokens in enumerate(liked)]
    assert _bytes(_train(tmp_path / "a", examples=unsafe)) == _bytes(_train(tmp_path / "b", examples=bad))
    with pytest.raises(NothingToLearn, match="No example is left for sft"):
        _train(tmp_path / "c", Objective.SFT, examples=unsafe)
    pair = rivals(1)[0]
    marred = LabelledPair(replace(pair.pair, chosen=replace(pair.pair.chosen, unsafe=True)), pair.chosen, pair.rejected)
    with pytest.raises(NothingToLearn):
        _train(tmp_path / "d", Objective.DPO, pairs=[marred])


def test_supervised_training_sees_positives_alone(tmp_path: Path) -> None:
    both = community(16)
    positives = [item for item in both if item.example.p_good > 0.5]
    one, other = (
        _train(tmp_path / str(len(examples)), Objective.SFT, examples=examples) for examples in (both, positives)
    )
    assert _bytes(one) == _bytes(other)


def test_weights_count_relative_to_each_other(tmp_path: Path) -> None:
    items = community(8)

    def weighted(sizes: Sequence[float]) -> list[Labelled]:
        return [
            rated(item.tokens, number, item.example.p_good, weight=size)
            for number, (item, size) in enumerate(zip(items, itertools.cycle(sizes), strict=False))
        ]

    one, twice, uneven = (
        _train(tmp_path / name, examples=weighted(sizes))
        for name, sizes in (("one", [1.0]), ("twice", [2.0]), ("uneven", [1.0, 1.0, 0.1, 0.1]))
    )
    assert _bytes(one) == _bytes(twice) != _bytes(uneven)


def _weighing(sizes: Sequence[float]) -> list[Labelled]:
    items = enumerate(zip(community(len(sizes)), sizes, strict=True))
    return [rated(item.tokens, number, item.example.p_good, weight=size) for number, (item, size) in items]


def _count(examples: Sequence[Labelled]) -> int:
    return sum(len(one.tokens.ids) for one in examples)


def test_what_there_is_no_time_for_is_what_weighs_least(tmp_path: Path) -> None:
    examples = _weighing([1.0, 0.2, 0.9, 0.3] * 6)
    heavy = [one for one in examples if one.example.weight > 0.5]
    cut = _train(tmp_path / "cut", examples=examples, most_tokens=_count(heavy))
    assert (cut.used, cut.given) == (12, 24)
    assert _bytes(cut) == _bytes(_train(tmp_path / "heavy", examples=heavy))
    twice = _train(tmp_path / "twice", examples=examples, most_tokens=_count(heavy), rules=replace(SMALL, epochs=2))
    assert twice.used < 12, "every epoch takes its time"


def test_of_replies_that_weigh_the_same_the_newest_are_trained_on_and_no_fewer_than_a_step(tmp_path: Path) -> None:
    examples = _weighing([1.0] * 12)
    steps = _train(tmp_path / "steps", examples=examples, rules=replace(SMALL, max_steps=2))
    assert (steps.used, steps.given, steps.steps) == (8, 12, 2)
    assert _bytes(steps) == _bytes(_train(tmp_path / "newest", examples=examples[4:]))
    hurried = _train(tmp_path / "hurried", examples=examples, most_tokens=0)
    assert (hurried.used, hurried.steps) == (4, 1)


def test_demand_is_what_a_run_without_a_limit_reads_but_for_anchors(tmp_path: Path) -> None:
    for objective in Objective:
        result = _train(tmp_path / objective, objective, pairs=rivals(24))
        assert demand(objective, community(24), rivals(24), SMALL) == result.tokens


def test_anchors_hold_what_the_base_said(tmp_path: Path) -> None:
    base, anchors = tiny_base(), replies(4, seed=7)
    rules = replace(SMALL, epochs=4, anchor_weight=2.0)
    held, free = (_train(tmp_path / name, base=base, anchors=a, rules=rules) for name, a in (("h", anchors), ("f", ())))

    def likelihood(result: TrainResult) -> float:
        model = read_adapter(base, result.adapter_folder)
        found = sum(completion_logprobs(model, anchors))
        model.unload()
        return found

    assert likelihood(held) > likelihood(free)


def test_candidates_share_the_reference_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(model: Any, tokens: Sequence[Tokens], **options: Any) -> list[float]:
        asked.append(len(tokens))
        return completion_logprobs(model, tokens, **options)

    _train(tmp_path / "first", references=References(tmp_path / "references.json"))
    monkeypatch.setattr("models.learning.train.completion_logprobs", counted)
    rules = replace(SMALL, learning_rate=1e-3, z0_every=99)
    _train(tmp_path / "second", references=References(tmp_path / "references.json"), rules=rules)
    assert asked == []


def test_length_normalisation_changes_what_is_learned(tmp_path: Path) -> None:
    plain, normalised = (
        _train(tmp_path / str(flag), rules=replace(SMALL, length_normalised=flag)) for flag in (False, True)
    )
    assert _bytes(plain) != _bytes(normalised)


def test_z0_is_the_mean_log_ratio_of_mismatched_pairs() -> None:
    base, sequences = tiny_base(), replies(3)
    crossed = [of_reply(sequences[i].prompt, sequences[i - 1].completion) for i in range(3)]
    references = References()
    references.add(crossed, completion_logprobs(base, crossed))
    model = fresh_adapter(base, rank=4, alpha=8, seed=0)
    assert z0_estimate(model, sequences, references) == 0.0
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    expected = [now - references[pair] for now, pair in zip(completion_logprobs(model, crossed), crossed, strict=True)]
    assert z0_estimate(model, sequences, references) == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_nothing_on_disk_can_run_code(tmp_path: Path) -> None:
    _stopped(tmp_path, 3)
    _train(tmp_path / "done")
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}
