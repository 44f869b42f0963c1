"""What a night's verdicts come to: the scorecard of each candidate, and the result in sentences and figures.

Owns the words and the names of the figures. Decides nothing: the gate did.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from models.learning.job import Outcome, Result
from models.learning.words import confidence, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.learning.candidates import Candidate
    from models.learning.choice import Choice
    from models.learning.train import TrainResult
    from models.learning.verdict import Verdict

_OF_CHECKS = {"anchors": "anchor_rise", "length ratio": "length_ratio", "positives": "positives"}


def scorecard(verdict: Verdict, parity: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verdict as JSON can hold it; a figure that couldn't be measured is null."""
    gain = verdict.gain
    return {
        "outcome": verdict.outcome.value,
        "gain": _finite(gain.value),
        "gain_low": _finite(gain.low(verdict.level)),
        "gain_high": _finite(gain.high(verdict.level)),
        "level": verdict.level,
        "more_ratings_needed": verdict.more_ratings_needed,
        "checks": [
            {
                "name": check.name,
                "kind": check.kind.value,
                "figure": _finite(check.figure),
                "bound": _finite(check.bound),
                "held": check.held,
                "sentence": check.sentence,
            }
            for check in verdict.checks
        ],
        "parity": {name: _finite(value) if isinstance(value, float) else value for name, value in parity.items()},
    }


def concluded(
    choice: Choice,
    judged: Sequence[Candidate],
    trained: Mapping[Candidate, TrainResult],
    figures: Mapping[str, Any],
    *,
    incumbent: str | None,
    warnings: Sequence[str],
) -> Result:
    """Say how the night ended; `judged` are the candidates of the choice's verdicts, in their order."""
    place = choice.told
    verdict, candidate = choice.verdicts[place], judged[place]
    waiting = [v.more_ratings_needed for v in choice.verdicts if v.more_ratings_needed is not None]
    against = f"the adapter {incumbent}" if incumbent else "the base model"
    gain = verdict.gain
    if choice.promoted is not None:
        outcome, more = Outcome.PROMOTED, None
        first = (
            f"{candidate.name} is better than {against}: {gain.value:+.1%} of preference AUC on "
            f"{counted(figures['held_out'], 'reply')} that it never saw, at least {gain.low(verdict.level):+.1%} "
            f"with {confidence(verdict.level)}% confidence."
        )
    elif waiting:
        outcome, more = Outcome.INSUFFICIENT, min(waiting)
        wanted = counted(more, "more rating")
        first = f"Not promoted: insufficient evidence against {against}; about {wanted} would settle it."
    else:
        outcome, more = Outcome.REJECTED, None
        first = f"Not promoted: no candidate is shown to be better than {against} without harm."
    lines = [first]
    for its_verdict, its_candidate in zip(choice.verdicts, judged, strict=True):
        lines += [f"{its_candidate.objective.value}: {reason}" for reason in its_verdict.reasons]
    return Result(
        outcome=outcome,
        sentences=tuple(lines),
        adapter=candidate.name if outcome is Outcome.PROMOTED else None,
        more_ratings_needed=more,
        warnings=tuple(warnings),
        figures={**figures, **_figures(verdict, candidate, trained[candidate])},
    )


def _figures(verdict: Verdict, candidate: Candidate, trained: TrainResult) -> dict[str, Any]:
    """Return what can be counted; both ends of an interval are bounds at the gate's `level`."""
    gain = verdict.gain
    measured: dict[str, Any] = {
        "level": verdict.level,
        "gain": gain.value,
        "gain_low": gain.low(verdict.level),
        "gain_high": gain.high(verdict.level),
        **_win_rate(verdict),
        "steps": trained.steps,
        "loss_first": trained.losses[0],
        "loss_last": sum(trained.losses[-10:]) / len(trained.losses[-10:]),
    }
    measured |= {_OF_CHECKS[check.name]: check.figure for check in verdict.checks if check.name in _OF_CHECKS}
    numbers = {name: value for name, value in measured.items() if math.isfinite(value)}
    return {"objective": candidate.objective.value, **numbers}


def _win_rate(verdict: Verdict) -> dict[str, float]:
    """Return in how many pairs of a good and a bad reply the good one is ranked above, bounded as the gain is."""
    own = verdict.above_chance
    if own is None:
        return {}
    low, high = max(0.0, 0.5 + own.low(verdict.level)), min(1.0, 0.5 + own.high(verdict.level))
    return {"win_rate": 0.5 + own.value, "win_rate_low": low, "win_rate_high": high}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
