"""The choice among a night's candidates: at most one is promoted.

Owns what the candidates of one night share, which is the level: each is judged at level / k, k being those that passed
the checks that read no rating. That is Holm's first step, and as one candidate at most is promoted the first is all
that is used. What a candidate writes takes longest to find out, so it is asked for last, and not where nothing hangs on
it. How one candidate is judged is the gate's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from models.learning.behaviour import behaviour_checks
from models.learning.gate import judge_at, read_ratings
from models.learning.verdict import DEFAULT_RULES, Outcome, Rules, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.learning.evidence import Evidence, Generations
    from models.learning.gate import Ratings

_End: TypeAlias = int | Outcome | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The verdicts on a night's candidates, in their order; `promoted` is the place of the one to promote."""

    promoted: int | None
    verdicts: tuple[Verdict, ...]

    @property
    def told(self) -> int:
        """Return the place of the candidate to tell of: the promoted one, else the one that came nearest."""
        if self.promoted is not None:
            return self.promoted
        return max(range(len(self.verdicts)), key=lambda place: _nearness(self.verdicts[place]))


def choose(
    candidates: Sequence[Evidence], *, rules: Rules = DEFAULT_RULES, write: Callable[[int], Generations] | None = None
) -> Choice:
    """Judge a night's candidates together and choose at most one: of those that pass, the one of the best lower bound.

    The chance that any is promoted though none is better stays below the rules' level. Where a candidate has written
    nothing yet, `write` has the one at a place do so, which takes a minute: only where the choice or the night's
    outcome could hang on it, or the night tells of it. Both are what they would be had all of them written. One that
    never did counts among those that share the level, so that none is wider for it. Raises EvidenceUnfit.
    """
    evidence = list(candidates)
    ratings = [read_ratings(one, rules) for one in evidence]
    while True:
        choice, wanted = _settle(evidence, ratings, rules)
        if wanted is None or write is None:
            return choice
        evidence[wanted] = replace(evidence[wanted], candidate=write(wanted))


def _settle(evidence: Sequence[Evidence], ratings: Sequence[Ratings | None], rules: Rules) -> tuple[Choice, int | None]:
    """Return the choice, and the place of the candidate that must write before it holds.

    How many share the level isn't known before all have written: the choice holds once it is the same for every number
    that they may come to be.
    """
    behaves = [_behaves(one, rules) for one in evidence]
    surely, perhaps = behaves.count(True), behaves.count(None)
    silent = {place for place, one in enumerate(evidence) if one.candidate is None}
    ends: set[_End] = set()
    verdicts: tuple[Verdict, ...] = ()
    for sharing in range(max(surely, 1), max(surely + perhaps, 1) + 1):
        verdicts = tuple(judge_at(one, its, rules, sharing) for one, its in zip(evidence, ratings, strict=True))
        # Where no more than the sure ones share it, the silent ones misbehave, and change nothing.
        ignored = set() if sharing > surely else silent
        ends.add(_end({place: v for place, v in enumerate(verdicts) if place not in ignored}, silent))
    end = ends.pop() if len(ends) == 1 else None
    choice = Choice(end if isinstance(end, int) else None, verdicts)
    if not silent:
        return choice, None
    if end is not None:
        return choice, choice.told if choice.told in silent else None
    return choice, max(
        (place for place in silent if behaves[place] is None), key=lambda place: _nearness(verdicts[place])
    )


def _end(verdicts: Mapping[int, Verdict], silent: set[int]) -> _End:
    """Return the place of the one to promote, else what the night comes to; None while silent ones could change it."""

    def low(place: int) -> float:
        return verdicts[place].gain.low(verdicts[place].level)

    passed = [place for place, verdict in verdicts.items() if verdict.outcome is Outcome.PROMOTED]
    best = max(passed, key=low, default=None)
    rivals = [place for place, verdict in verdicts.items() if place in silent and verdict.passes_so_far]
    if any(best is None or low(place) >= low(best) for place in rivals):
        return None
    if best is not None:
        return best
    waiting = {place for place, verdict in verdicts.items() if verdict.outcome is Outcome.INSUFFICIENT}
    if waiting and waiting <= silent:
        return None
    return Outcome.INSUFFICIENT if waiting else Outcome.REJECTED


def _behaves(evidence: Evidence, rules: Rules) -> bool | None:
    """Tell whether every check holds that reads no rating; None while that hangs on what isn't written yet."""
    if not all(check.held for check in behaviour_checks(evidence, rules)):
        return False
    return None if evidence.candidate is None else True


def _nearness(verdict: Verdict) -> tuple[bool, bool, float]:
    low = verdict.gain.low(verdict.level)
    return verdict.passes_so_far, verdict.outcome is Outcome.INSUFFICIENT, low if math.isfinite(low) else -math.inf
