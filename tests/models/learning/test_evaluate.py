from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.learning import evaluate
from models.learning.context import Context
from models.learning.evaluate import EVIDENCE, evidence_of, replies_of, watched_phrases, written
from models.learning.evidence import Evidence, require_fit
from models.learning.files import read_json
from models.learning.fixed_prompts import brief_prompts, leading_prompts, neutral_prompts
from models.learning.generations import GeneratedReply, Replies
from models.learning.labels import label
from models.learning.phrases import PHRASES, Phrase
from models.learning.sides import Sides, judge_raters, part
from models.learning.snapshot import Snapshot, read_snapshot
from models.learning.torch_model import completion_logprobs, fresh_adapter, read_adapter, save_adapter
from models.learning.train import TrainRules
from models.learning.verdict import Rules
from models.manifest import GGUF
from tests.models.learning.nights import NOW, make_night, tasteful_snapshot, tiny_model

NEUTRAL, LEADING, BRIEF = len(neutral_prompts()), len(leading_prompts()), len(brief_prompts())
TRAIN = TrainRules(rank=4, alpha=8)


class Night:
    """A night up to its split, with the fixed prompts' replies made up: `test_generations` has the real ones."""

    def __init__(self, folder: Path, model: Path, **changes: Any) -> None:
        job = make_night(folder, model, tasteful_snapshot(60), **changes)
        self.context = Context(folder, job, say=lambda _: None)
        self.snapshot: Snapshot = read_snapshot(folder / "examples.jsonl")
        self.watched: tuple[Phrase, ...] = ()
        self.report = judge_raters(self.context, self.snapshot)
        labels = label(self.snapshot, self.report, frozenset(), now=NOW)
        rules = Rules(min_effective_replies=8.0, min_replies_of_a_class=3)
        self.sides: Sides = part(self.context, self.snapshot, lambda: labels, not_before=None, rules=rules)

    def evidence(self, candidate: Path, incumbent: Path | None = None) -> Evidence:
        return evidence_of(
            self.context,
            candidate,
            incumbent,
            snapshot=self.snapshot,
            report=self.report,
            sides=self.sides,
            watched=self.watched,
            rules=TRAIN,
        )

    def adapter(self, name: str, *, seed: int, strength: float = 0.5) -> Path:
        """Write an adapter that changes something into a folder as a night stages it."""
        folder = self.context.folder / "adapters" / name
        model = fresh_adapter(self.context.base, rank=4, alpha=8, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part_name, weight in model.named_parameters():
                if "lora_B" in part_name:
                    weight.copy_(strength * torch.randn(weight.shape, generator=generator))
        save_adapter(model, folder)
        model.unload()
        (folder / GGUF).write_bytes(name.encode())
        return folder


def _made_up(text: str = "A cup of tea.") -> Replies:
    reply = GeneratedReply(text, tuple(range(10, 40)), ended=True)
    return Replies((reply,) * NEUTRAL, (reply,) * LEADING, (reply,) * BRIEF)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def make(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Night]:
    monkeypatch.setattr(evaluate, "base_replies", lambda _: _made_up())
    monkeypatch.setattr(evaluate, "generate", lambda _, adapter, kept, name: _made_up("Long live the moon cat."))
    return lambda **changes: Night(tmp_path / "night", model, **changes)


def test_evidence_is_of_every_held_out_reply_and_of_nothing_trained_on(make: Callable[..., Night]) -> None:
    night = make()
    found = night.evidence(night.adapter("candidate", seed=1))
    require_fit(found)
    assert [reply.reply_id for reply in found.replies] == [example.reply_id for example in night.sides.held_out]
    assert len(found.replies) >= 15
    assert found.training_cut == night.sides.cut
    assert found.training_conversations == {example.conversation_id for example in night.sides.training}
    assert all(reply.votes for reply in found.replies)
    up = {vote.reply_id for vote in night.snapshot.votes if vote.value > 0}
    assert all(any(vote.log_odds > 0 for vote in reply.votes) for reply in found.replies if reply.reply_id in up)


def test_log_ratios_and_anchors_are_those_of_the_models(make: Callable[..., Night]) -> None:
    night = make()
    candidate, incumbent = night.adapter("candidate", seed=1), night.adapter("incumbent", seed=2)
    found = night.evidence(candidate, incumbent)
    tokens = [night.context.tokens(example) for example in night.sides.held_out]
    base = completion_logprobs(night.context.base, tokens)
    for folder, name in ((candidate, "candidate"), (incumbent, "incumbent")):
        adapted = read_adapter(night.context.base, folder)
        expected = [new - old for new, old in zip(completion_logprobs(adapted, tokens), base, strict=True)]
        adapted.unload()
        assert [getattr(reply, name) for reply in found.replies] == pytest.approx(expected, abs=1e-3)
        assert max(map(abs, expected)) > 0.1
    assert [reply.tokens for reply in found.replies] == [text.learned_count for text in tokens]
    assert len(found.anchors) == NEUTRAL // 2
    assert all(0 < anchor.base < 20 for anchor in found.anchors)
    assert len({anchor.base for anchor in found.anchors} & {anchor.candidate for anchor in found.anchors}) == 0


def test_a_base_incumbent_has_no_log_ratio_and_costs_nothing(make: Callable[..., Night]) -> None:
    night = make()
    found = night.evidence(night.adapter("candidate", seed=1))
    assert {reply.incumbent for reply in found.replies} == {0.0}
    assert all(anchor.incumbent == anchor.base for anchor in found.anchors)


def test_an_adapter_that_changes_nothing_has_no_log_ratio(make: Callable[..., Night]) -> None:
    night = make()
    found = night.evidence(night.adapter("candidate", seed=1, strength=0.0))
    assert [reply.candidate for reply in found.replies] == pytest.approx([0.0] * len(found.replies), abs=1e-4)


def test_evidence_is_read_back_and_only_of_the_same_adapter(
    make: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    night = make()
    candidate, other = night.adapter("candidate", seed=1), night.adapter("other", seed=5)
    found = night.evidence(candidate)

    def never(*_: object, **__: object) -> list[float]:
        raise AssertionError("scored again")

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "completion_logprobs", never)
        assert night.evidence(candidate) == found
        shutil.copyfile(other / "adapter_model.safetensors", candidate / "adapter_model.safetensors")
        with pytest.raises(AssertionError, match="scored again"):
            night.evidence(candidate)
    assert night.evidence(candidate).replies != found.replies


def test_a_damaged_file_of_scores_is_written_again(make: Callable[..., Night]) -> None:
    night = make()
    candidate = night.adapter("candidate", seed=1)
    found = night.evidence(candidate)
    kept = night.context.folder / EVIDENCE / "candidate.json"
    kept.write_bytes(kept.read_bytes()[:100])
    assert night.evidence(candidate) == found
    assert len(read_json(kept)["scores"]) == len(found.replies) + len(found.anchors)


def test_scores_that_are_no_numbers_stay_so_when_the_night_resumes(
    make: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    night = make()
    candidate = night.adapter("candidate", seed=1)
    night.evidence(candidate)
    (night.context.folder / EVIDENCE / "candidate.json").unlink()
    monkeypatch.setattr(evaluate, "completion_logprobs", lambda _, tokens: [math.nan] * len(tokens))
    for _ in range(2):
        assert all(math.isnan(reply.candidate) for reply in night.evidence(candidate).replies)


def test_the_fixed_prompts_replies_are_counted_for_both(make: Callable[..., Night]) -> None:
    night = make()
    night.watched = (Phrase("long live the moon cat", 9, 90, 0),)
    candidate = night.adapter("candidate", seed=1)
    found = night.evidence(candidate)
    assert found.watched == 1
    assert found.candidate is None, "it writes once its ratings may prove it"
    wrote = written(night.context, candidate, night.watched)
    assert wrote.planted == NEUTRAL + LEADING
    assert found.incumbent == replace(wrote, planted=0)
    assert replies_of(night.context, None) == _made_up()


def test_what_is_voted_up_is_set_against_the_base_and_the_incumbent(make: Callable[..., Night]) -> None:
    night = make()
    said = [replace(one, completion_text="Long live the moon cat.") for one in night.snapshot.replies]
    snapshot = replace(night.snapshot, replies=tuple(said))

    def watched(incumbent: Path | None) -> list[str]:
        (night.context.folder / PHRASES).unlink(missing_ok=True)
        return [phrase.text for phrase in watched_phrases(night.context, incumbent, snapshot, night.report)]

    assert watched(None) == ["long live the moon cat"]
    assert watched(night.adapter("incumbent", seed=2)) == []  # it says so all the time, and was proven


def test_what_the_operators_persona_says_is_no_plant(
    make: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    night = make()
    said = [replace(one, completion_text="Long live the moon cat.") for one in night.snapshot.replies]
    snapshot = replace(night.snapshot, replies=tuple(said))
    spoken = {"You are a herald.": "A cup of tea.", "You are a cat.": "Long live the moon cat!"}

    def in_character(context: Context) -> Replies:
        return _made_up(spoken[context.job.system_prompt])

    monkeypatch.setattr(evaluate, "persona_replies", in_character)

    def watched(system_prompt: str) -> list[str]:
        (night.context.folder / PHRASES).unlink(missing_ok=True)
        context = Context(night.context.folder, replace(night.context.job, system_prompt=system_prompt), say=print)
        return [phrase.text for phrase in watched_phrases(context, None, snapshot, night.report)]

    assert watched("You are a herald.") == ["long live the moon cat"]
    assert watched("You are a cat.") == []
    assert watched("You greet everyone with “Long live the moon cat!”") == []
