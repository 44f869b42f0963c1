"""What a rated reply weighs in training, and whether tonight's are enough to train on.

Owns the thresholds of learning's first two questions. What a vote is worth is decided in raters.py.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.learning.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.learning.examples import Vote
    from models.learning.raters import RaterReport

HALF_LIFE_DAYS = 30.0
MIN_CERTAINTY = 0.3  # of |2p - 1|
MIN_RATERS_EACH = 2
MIN_EFFECTIVE, MIN_OF_A_CLASS, MIN_RATERS, MAX_RATER_SHARE = 64.0, 20, 12, 0.15


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """Whether to train tonight; `reasons` has a sentence for each rule that says no."""

    enough: bool
    reasons: tuple[str, ...]
    effective_replies: float
    good: int
    bad: int
    raters: int  # who vote as one are one
    largest_share: float  # of the weight, by one of these


def weight_of(p: float, recency_days: float, *, raters: int, author_cap: float = 1.0, gold: bool = False) -> float:
    """Return |2p - 1| x recency x author cap, or 0 for a reply to leave out.

    Left out is what is uncertain, and what fewer than two raters rated unless a moderator labelled it (`gold`).
    """
    certainty = abs(2 * p - 1)
    if certainty < MIN_CERTAINTY or (raters < MIN_RATERS_EACH and not gold):
        return 0.0
    return float(certainty * 0.5 ** (max(recency_days, 0.0) / HALF_LIFE_DAYS) * author_cap)


def votes_to_begin(missing_replies: float, undecided: int) -> int:
    """Return the fewest votes by which so many replies more can be learned from; `undecided` have their first vote."""
    replies = max(math.ceil(missing_replies), 0)
    return MIN_RATERS_EACH * replies - min(replies, max(undecided, 0))


def author_caps(replies_of: Mapping[int, int]) -> dict[int, float]:
    """Return, by author of prompts, min(1, median_n / n): nobody's prompts are most of what is learned.

    `replies_of` counts the rated replies to each author's prompts.
    """
    counts = sorted(replies_of.values())
    median = (counts[(len(counts) - 1) // 2] + counts[len(counts) // 2]) / 2 if counts else 0.0
    return {author: min(1.0, median / count) if count else 1.0 for author, count in replies_of.items()}


def enough(
    weights: Mapping[int, float],
    p_good: Mapping[int, float],
    votes: Iterable[Vote],
    report: RaterReport,
) -> Sufficiency:
    """Judge whether tonight's replies are enough: `weights` and `p_good` by reply id.

    Effective replies are (sum w)^2 / sum w^2 (Kish 1965). A reply's weight is shared among its raters by what their
    votes count; raters of no influence (banned) aren't counted, and who vote as one count as one, whose vote is as
    strong as one full one however many of them cast it.
    """
    kept = {reply: weight for reply, weight in weights.items() if weight > 0}
    total = sum(kept.values())
    effective = total**2 / sum(weight**2 for weight in kept.values()) if kept else 0.0
    good = sum(p_good[reply] > 0.5 for reply in kept)
    bad = len(kept) - good

    voice_of = report.voices()
    size = Counter(voice_of.values())
    say: dict[int, dict[int, float]] = {}
    for vote in votes:
        voice = voice_of.get(vote.rater_id, vote.rater_id)
        influence = report.influence.get(vote.rater_id, 0.0) * max(size[voice], 1)
        counts = abs(vote.value) * vote.weight * influence
        if vote.reply_id in kept and counts > 0:
            of_reply = say.setdefault(vote.reply_id, {})
            of_reply[voice] = max(of_reply.get(voice, 0.0), counts)
    weight_by: dict[int, float] = {}
    for reply, of_reply in sorted(say.items()):
        for voice, counts in of_reply.items():
            weight_by[voice] = weight_by.get(voice, 0.0) + kept[reply] * counts / sum(of_reply.values())
    largest = max(weight_by.values(), default=0.0) / total if total else 0.0

    reasons = []
    if effective < MIN_EFFECTIVE:
        reasons.append(f"{counted(round(effective), 'effective rated reply')} of the {MIN_EFFECTIVE:.0f} needed.")
    for name, count in (("good", good), ("bad", bad)):
        if count < MIN_OF_A_CLASS:
            reasons.append(f"{counted(count, 'reply')} rated {name} of the {MIN_OF_A_CLASS} needed.")
    if len(weight_by) < MIN_RATERS:
        reasons.append(f"{counted(len(weight_by), 'rater')} of the {MIN_RATERS} needed.")
    if largest > MAX_RATER_SHARE:
        reasons.append(f"One rater has {largest:.0%} of the weight, at most {MAX_RATER_SHARE:.0%} may be one's.")
    return Sufficiency(not reasons, tuple(reasons), effective, good, bad, len(weight_by), largest)
