"""The half of a night that needs the model: train the candidates, prove one of them, install it.

Owns the order of these steps and that a candidate which breaks is left out while the others go on. Training,
conversion, evidence, verdict and report are their modules'; the night's process alone imports them.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from models.adapters import Adapters
from models.errors import ModelError
from models.learning.candidates import candidates, train_all
from models.learning.choice import choose
from models.learning.evaluate import evidence_of, replies_of, watched_phrases, written
from models.learning.files import write_json
from models.learning.fixed_prompts import neutral_prompts
from models.learning.generations import anchor_texts, base_replies
from models.learning.job import JobDamaged, Result
from models.learning.objectives import Objective
from models.learning.outcome import concluded, scorecard
from models.learning.staging import seal_candidate, stage_all, staged_folder
from models.learning.train import TrainRules
from models.learning.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.learning.candidates import Candidate
    from models.learning.context import Context
    from models.learning.evidence import Generations
    from models.learning.job import Job
    from models.learning.parity import ParityReport
    from models.learning.raters import RaterReport
    from models.learning.sides import Sides
    from models.learning.snapshot import Snapshot
    from models.learning.train import TrainResult
    from models.learning.verdict import Rules

log = logging.getLogger(__name__)

SCORECARD = "scorecard.json"
_EXAMPLES = 3


class NoCandidate(ModelError):
    """Nothing came through training and conversion."""


def learn(context: Context, snapshot: Snapshot, report: RaterReport, sides: Sides, rules: Rules) -> Result:
    """Train, prove, and install what is proven. Raises ModelError, OSError."""
    job = context.job
    torch.set_num_threads(job.threads)
    train_rules = _train_rules(job)

    context.begin("base", "Reading the model for learning, and what it writes unlearned.")
    context.base  # noqa: B018 - the first time takes a minute, which is no training's
    anchors = anchor_texts(context, base_replies(context))

    tried = candidates(context, sides)
    context.begin("train", f"Training {counted(len(tried), 'candidate')} on {counted(len(sides.training), 'reply')}.")
    trained = train_all(context, tried, sides, anchors.training, train_rules)

    context.begin("convert", f"Converting {counted(len(trained), 'candidate')} to what serves, and comparing.")
    parity = stage_all(context, trained)
    _require_any(tried, parity)

    context.begin("evaluate", "Measuring the candidates on the replies that were held out.")
    served = job.adapters_dir / job.incumbent if job.incumbent else None
    watched = watched_phrases(context, served, snapshot, report)
    evidence = {
        candidate: evidence_of(
            context,
            staged_folder(context, candidate),
            served,
            snapshot=snapshot,
            report=report,
            sides=sides,
            watched=watched,
            rules=train_rules,
        )
        for candidate in parity
    }

    judged = list(evidence)

    def write(place: int) -> Generations:
        context.begin("evaluate", f"Reading what {judged[place].name} writes.")
        found = written(context, staged_folder(context, judged[place]), watched)
        context.begin("gate", "Judging the candidates.")
        return found

    context.begin("gate", "Judging the candidates.")
    choice = choose(list(evidence.values()), rules=rules, write=write)
    cards = {
        candidate: scorecard(verdict, asdict(parity[candidate]))
        for candidate, verdict in zip(judged, choice.verdicts, strict=True)
    }
    left_out = [*_left_out(sides), *_short_of_time(trained, train_rules, job)]
    dropped = [sentence for candidate in tried if (sentence := candidate.dropped)]
    result = concluded(choice, judged, trained, sides.figures, incumbent=job.incumbent, warnings=[*left_out, *dropped])
    card = {
        "night": job.night_id,
        "incumbent": job.incumbent,
        "promoted": result.adapter,
        "candidates": {candidate.name: card for candidate, card in cards.items()},
    }
    told = judged[choice.told]
    examples = _examples(context, told, served)
    unused = 0 if told.objective is Objective.DPO else trained[told].given - trained[told].used
    result = replace(
        result,
        figures={
            **result.figures,
            "candidates": len(tried),
            "trained_on": sides.figures["trained_on"] - unused,
            "watched_phrases": len(watched),
            "examples": examples,
        },
        files={SCORECARD: write_json(context.folder / SCORECARD, card)},
    )

    if choice.promoted is not None:
        context.begin("install", "Installing the adapter that was proven.")
        best = judged[choice.promoted]
        Adapters(job.adapters_dir, job.model_sha256).install(
            seal_candidate(context, best, sides, train_rules, cards[best])
        )

    return result


def _examples(context: Context, candidate: Candidate, incumbent: Path | None) -> list[dict[str, str]]:
    """Return what was and what would be answered to some fixed prompts: the first ones where the two differ."""
    before = replies_of(context, incumbent).neutral
    after = replies_of(context, staged_folder(context, candidate)).neutral
    rows = [
        {"prompt": prompt.text, "before": old.text, "after": new.text}
        for prompt, old, new in zip(neutral_prompts(), before, after, strict=True)
        if old.text != new.text
    ]
    return rows[:_EXAMPLES]


def _require_any(tried: Sequence[Candidate], parity: Mapping[Candidate, ParityReport]) -> None:
    if not parity:
        raise NoCandidate(" ".join(["Nothing came through training.", *(one.dropped or "" for one in tried)]))


def _left_out(sides: Sides) -> list[str]:
    unsafe = sides.figures["left_out_unsafe"]
    if not unsafe:
        return []
    were = "was" if unsafe == 1 else "were"
    return [f"{counted(unsafe, 'reply')} that {were} rated good {were} left out: unsafe by the filter."]


def _short_of_time(trained: Mapping[Candidate, TrainResult], rules: TrainRules, job: Job) -> list[str]:
    """Say which candidates learned from less than their steps would have reached."""
    hours = job.limit_seconds / 3600
    told = []
    for candidate, result in trained.items():
        reach = min(result.given, rules.batch_examples * rules.max_steps)
        if result.used < reach:
            kind = "pair" if candidate.objective is Objective.DPO else "reply"
            told.append(
                f"{candidate.objective.value}: of {counted(result.given, kind)} {result.used:,} were trained on, those "
                f"that weigh most: the limit of {hours:.2g} hours leaves no time for more; raise NIGHT_LIMIT_HOURS or "
                "NIGHT_THREADS."
            )
    return told


def _train_rules(job: Job) -> TrainRules:
    try:
        return TrainRules(**job.train_rules)
    except TypeError as error:
        raise JobDamaged(f"The job replaces a rule that there isn't ({error}); run the night again.") from error
