"""The night's candidates: each a fresh adapter from the base, by another objective, on the same ratings.

Owns which objectives are tried, what they share (reference log-probabilities, anchors, seed), and that a candidate
which breaks is dropped with a sentence while the others go on. How one is trained is train.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.learning.checkpoint import References
from models.learning.files import read_json, write_json
from models.learning.objectives import Objective
from models.learning.pace import tokens_in_time
from models.learning.train import Labelled, LabelledPair, NothingToLearn, TrainingDiverged, TrainResult, demand, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.learning.batches import Tokens
    from models.learning.context import Context
    from models.learning.sides import Sides
    from models.learning.train import TrainRules

MIN_PAIRS = 24
TRAINING, _DROPPED, _REFERENCES = "train", "dropped.json", "references.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter of the night, by the name under which it would serve; `folder` has its training."""

    name: str
    objective: Objective
    folder: Path

    def drop(self, sentence: str) -> None:
        """Leave this candidate out of the night, whenever it is resumed."""
        write_json(self.folder / _DROPPED, {"sentence": sentence})

    @property
    def dropped(self) -> str | None:
        """Why it was left out."""
        path = self.folder / _DROPPED
        return str(read_json(path)["sentence"]) if path.exists() else None


def candidates(context: Context, sides: Sides) -> tuple[Candidate, ...]:
    """Return the candidates to try; pairs are used once there are 24."""
    tried = [Objective.KTO, Objective.SFT]
    if len(sides.pairs) >= MIN_PAIRS:
        tried.append(Objective.DPO)
    return tuple(
        Candidate(f"{context.job.night_id}-{tried_one.value}", tried_one, context.folder / TRAINING / tried_one.value)
        for tried_one in tried
    )


def train_all(
    context: Context, tried: Sequence[Candidate], sides: Sides, anchors: Sequence[Tokens], rules: TrainRules
) -> dict[Candidate, TrainResult]:
    """Train what isn't trained yet and return all that came through, in order. Raises DiskFull, LimitReached."""
    examples = [Labelled(example, context.tokens(example)) for example in sides.training]
    pairs = [LabelledPair(pair, context.tokens(pair.chosen), context.tokens(pair.rejected)) for pair in sides.pairs]
    demands = [demand(candidate.objective, examples, pairs, rules) for candidate in tried]
    most = tokens_in_time(context, demands, [one.tokens for one in examples], rules, context.folder / TRAINING)
    references = References(context.folder / TRAINING / _REFERENCES)
    trained = {}
    for candidate in tried:
        if candidate.dropped is not None:
            continue
        try:
            trained[candidate] = train(
                context.base,
                candidate.objective,
                examples,
                pairs,
                anchors,
                folder=candidate.folder,
                rules=rules,
                seed=context.job.seed,
                progress=_reporter(context, candidate),
                references=references,
                most_tokens=most,
                preparing=lambda done, total: context.tell(
                    done, total, f"Reading unlearned what is trained on: {done:,} of {total:,} replies."
                ),
            )
        except (TrainingDiverged, NothingToLearn) as error:
            candidate.drop(f"{candidate.objective.value} was dropped: {error}")
    return trained


def _reporter(context: Context, candidate: Candidate) -> Callable[[int, int, float], None]:
    def report(done: int, total: int, loss: float) -> None:
        context.tell(done, total, f"Training {candidate.objective.value}: step {done} of {total}, loss {loss:.3f}.")

    return report
