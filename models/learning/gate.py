"""The gate: whether a trained candidate is promoted.

Owns the decision on one candidate, on features that were computed before; models.learning.choice has that among
several. Reads no file and no model. The default is "insufficient": a candidate is promoted only when every check holds,
each at the rules' level, and rejected when it does harm or is shown to be no better; all else waits for more ratings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse, special, stats

from models.learning import statistics
from models.learning.behaviour import behaviour_checks
from models.learning.evidence import Evidence, is_finite, require_fit
from models.learning.statistics import Estimate, Floats, Groups
from models.learning.sufficiency import MIN_CERTAINTY
from models.learning.verdict import DEFAULT_RULES, WRITTEN, Check, Kind, Outcome, Rules, Verdict
from models.learning.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Check", "Evidence", "Kind", "Outcome", "Ratings", "Rules", "Verdict", "judge", "judge_at", "read_ratings"]

SEARCHED_RATERS = 100  # those with the most say, among whom the most influential are looked for
GAIN, AT_EQUAL_LENGTH, BESIDE_LENGTH = "gain", "gain at equal length", "log-ratio beside length"


@dataclass(frozen=True, slots=True)
class _Columns:
    """The rated replies as arrays (replies,); `say` (replies, raters) has the log-odds that each rater added."""

    candidate: Floats
    incumbent: Floats
    tokens: Floats
    p_good: Floats
    weight: Floats
    say: sparse.csr_array
    groups: Groups

    @property
    def mass(self) -> Floats:
        return np.asarray(self.weight * np.sign(2 * self.p_good - 1))


@dataclass(frozen=True, slots=True)
class Ratings:
    """What the ratings say of one candidate, at whatever level; with too small a sample, only that it is too small.

    `shortage` is how many times as large the sample must be, `own` the candidate's AUC less .5.
    """

    sample: Check
    shortage: float
    votes: int
    gain: Estimate = statistics.NOTHING
    own: Estimate | None = None
    bounded: Mapping[str, Estimate] = field(default_factory=dict)
    beside_length: Estimate | None = None
    without_influential: Check | None = None
    positives: Check | None = None


def judge(evidence: Evidence, *, rules: Rules = DEFAULT_RULES, comparisons: int = 1) -> Verdict:
    """Judge one candidate, at the rules' level shared among `comparisons`. Raises EvidenceUnfit.

    More ratings needed: n ((t_level + z_power) / max(t, t_smallest))^2 - n for the proof furthest from holding, t being
    its estimate in standard errors, t_smallest the smallest gain worth it in the gain's, and n the votes so far.
    """
    return judge_at(evidence, read_ratings(evidence, rules), rules, comparisons)


def read_ratings(evidence: Evidence, rules: Rules) -> Ratings | None:
    """Read what the ratings say of a candidate; None if not all of its figures are numbers. Raises EvidenceUnfit."""
    require_fit(evidence)
    if not is_finite(evidence):
        return None
    columns = _columns(evidence)
    sample, shortage = _sample(columns, rules)
    votes = max(sum(len(reply.votes) for reply in evidence.replies), 1)
    if columns is None or not sample.held:
        return Ratings(sample, shortage, votes)
    gain, bounded = _estimates(columns, rules)
    return Ratings(
        sample,
        shortage,
        votes,
        gain,
        _own(columns, gain, rules),
        bounded,
        _coefficient(columns),
        _without_influential(columns, gain, rules),
        _positives(columns, rules),
    )


def judge_at(evidence: Evidence, ratings: Ratings | None, rules: Rules, comparisons: int) -> Verdict:
    """Judge by what `read_ratings` read, at the rules' level shared among `comparisons`."""
    level = rules.level / comparisons
    if ratings is None:
        sentence = "The candidate's likelihoods aren't all numbers: its training diverged."
        check = Check("finite", Kind.HARM, math.nan, 0.0, False, sentence)
        return Verdict(Outcome.REJECTED, (check,), statistics.NOTHING, level, None)
    proofs, missing = _proofs(ratings, level, rules)
    harms = [_freeze(evidence), *behaviour_checks(evidence, rules)]
    if ratings.positives is not None:
        harms.append(ratings.positives)
    proven, harmless = (all(check.held for check in checks) for checks in (proofs, harms))
    checks = (*proofs, *harms)
    if evidence.candidate is None:
        checks = (*checks, _unwritten(proven, harmless))
    if not harmless or ratings.gain.high(level) <= 0:
        outcome = Outcome.REJECTED
    else:
        outcome = Outcome.PROMOTED if all(check.held for check in checks) else Outcome.INSUFFICIENT
    waits = outcome is Outcome.INSUFFICIENT and not proven
    more = max(math.ceil(ratings.votes * (missing - 1)), 1) if waits else None
    return Verdict(outcome, checks, ratings.gain, level, more, ratings.own)


def _proofs(ratings: Ratings, level: float, rules: Rules) -> tuple[list[Check], float]:
    """Return the proofs at a level, and how many times as many ratings they take."""
    if ratings.beside_length is None or ratings.without_influential is None:
        return [ratings.sample], ratings.shortage
    gain = ratings.gain
    bounded = [_bounded(name, estimate, level) for name, estimate in ratings.bounded.items()]
    signs = [_beside_length(ratings.beside_length, level), ratings.without_influential]
    smallest = rules.smallest_gain / gain.error if gain.error > 0 else math.nan
    estimates = zip(ratings.bounded.values(), bounded, strict=True)
    scores = [_score(estimate) for estimate, check in estimates if not check.held]
    scores += [smallest for check in signs if not check.held]
    missing = max((_times_as_many(score, smallest, level, gain.freedom, rules) for score in scores), default=1.0)
    return [ratings.sample, *bounded, *signs], missing


def _unwritten(proven: bool, harmless: bool) -> Check:
    if not proven:
        why = "its ratings don't prove it"
    else:
        why = "another is proven better" if harmless else "it does harm as it is"
    sentence = f"What it writes to the fixed prompts wasn't looked at, since {why}."
    return Check(WRITTEN, Kind.PROOF, math.nan, math.nan, False, sentence)


def _columns(evidence: Evidence) -> _Columns | None:
    replies = [reply for reply in evidence.replies if reply.weight > 0]
    if not replies:
        return None
    # Raters who vote as one are one, under the smallest of their ids.
    name = {rater: min(cluster) for cluster in evidence.clusters for rater in cluster}
    votes = [
        (at, name.get(v.rater_id, v.rater_id), v.log_odds) for at, reply in enumerate(replies) for v in reply.votes
    ]
    reply = np.array([at for at, _, _ in votes], dtype=np.int64)
    raters, rater = np.unique(np.array([rater for _, rater, _ in votes], dtype=np.int64), return_inverse=True)
    nats = np.array([nats for _, _, nats in votes], dtype=np.float64)
    _, conversation = np.unique([reply.conversation_id for reply in replies], return_inverse=True)

    p_good = np.clip([reply.p_good for reply in replies], 1e-9, 1 - 1e-9)
    # Kept off 0, where a share has no meaning; the raters' step leaves such replies out.
    log_odds = np.copysign(np.maximum(np.abs(special.logit(p_good)), 0.5), p_good - 0.5)

    def column(values: list[float]) -> Floats:
        return np.array(values, dtype=np.float64)

    return _Columns(
        candidate=column([reply.candidate for reply in replies]),
        incumbent=column([reply.incumbent for reply in replies]),
        tokens=column([reply.tokens for reply in replies]),
        p_good=p_good,
        weight=column([reply.weight for reply in replies]),
        say=sparse.csr_array((nats, (reply, rater)), shape=(len(replies), len(raters))),
        groups=statistics.groups(conversation, reply, rater, nats / log_odds[reply]),
    )


def _freeze(evidence: Evidence) -> Check:
    sentence = (
        "The raters are frozen: a bloc is too large to tell who is right." if evidence.frozen else "No bloc rules."
    )
    return Check("raters", Kind.HARM, float(evidence.frozen), 0.0, not evidence.frozen, sentence)


def _sample(columns: _Columns | None, rules: Rules) -> tuple[Check, float]:
    """Check that there is enough to estimate from, and return how many times as much it would take."""
    effective, good, bad, raters = 0.0, 0, 0, 0
    if columns is not None:
        mass = columns.mass
        effective = float(np.abs(mass).sum() ** 2 / (mass**2).sum()) if mass.any() else 0.0
        good, bad = int((mass > 0).sum()), int((mass < 0).sum())
        raters = int(np.count_nonzero(abs(columns.say).sum(0)))
    needed = (rules.min_effective_replies, rules.min_replies_of_a_class, rules.min_replies_of_a_class, rules.min_raters)
    shortage = max(wanted / max(have, 1) for have, wanted in zip((effective, good, bad, raters), needed, strict=True))
    sentence = (
        f"{counted(round(effective), 'effective held-out reply')} ({needed[0]:.0f} needed), {good} good and {bad} bad "
        f"({needed[1]} of each), by {counted(raters, 'rater')} ({needed[3]})."
    )
    return Check("sample", Kind.PROOF, effective, needed[0], shortage <= 1, sentence), shortage


def _estimates(columns: _Columns, rules: Rules) -> tuple[Estimate, dict[str, Estimate]]:
    c, mass = columns, columns.mass
    gain = statistics.gain(c.candidate, c.incumbent, mass, c.groups, resamples=rules.resamples, seed=rules.seed)
    equal = statistics.gain_at_equal_length(c.candidate, c.incumbent, c.tokens, mass, c.groups)
    return gain, {GAIN: gain, AT_EQUAL_LENGTH: equal}


def _own(columns: _Columns, gain: Estimate, rules: Rules) -> Estimate:
    c = columns
    if not c.incumbent.any():
        return gain
    nothing = np.zeros_like(c.candidate)
    return statistics.gain(c.candidate, nothing, c.mass, c.groups, resamples=rules.resamples, seed=rules.seed)


def _bounded(name: str, estimate: Estimate, level: float) -> Check:
    low = estimate.low(level)
    said = {
        GAIN: "It ranks good replies above bad ones {value:+.1%} more often than the incumbent, at least {low:+.1%}",
        AT_EQUAL_LENGTH: "Length taken out, so that longer can't win, that is {value:+.1%}, at least {low:+.1%}",
    }[name]
    sentence = f"{said.format(value=estimate.value, low=low)} ({1 - level:.1%})."
    return Check(name, Kind.PROOF, low, 0.0, low > 0, sentence)


def _coefficient(columns: _Columns) -> Estimate:
    c = columns
    return statistics.coefficient_beside_length(c.candidate, c.tokens, c.mass, c.groups)


def _beside_length(estimate: Estimate, level: float) -> Check:
    """Check the sign only: that the gain isn't length's is proven by the gain at equal length, and proven once."""
    sentence = (
        f"With length as a covariate the log-ratio's coefficient is {estimate.value:+.2f}, at least "
        f"{estimate.low(level):+.2f} ({1 - level:.1%})."
    )
    return Check(BESIDE_LENGTH, Kind.PROOF, estimate.value, 0.0, estimate.value > 0, sentence)


def _positives(columns: _Columns, rules: Rules) -> Check:
    """Check displacement (Razin et al. 2025): that good replies didn't become less likely, all replies falling."""
    good = np.maximum(columns.mass, 0)
    change = (columns.candidate - columns.incumbent) / columns.tokens
    estimate = statistics.mean_change(change, good * columns.tokens, columns.groups)
    high = estimate.high(rules.level)
    sentence = (
        f"Good replies became {estimate.value:+.4f} nat a token likelier than by the incumbent, at most {high:+.4f} "
        f"({1 - rules.level:.0%}); a fall of {rules.max_positives_fall:g} is allowed."
    )
    return Check("positives", Kind.HARM, high, -rules.max_positives_fall, high >= -rules.max_positives_fall, sentence)


def _without_influential(columns: _Columns, gain: Estimate, rules: Rules) -> Check:
    """Check that the gain keeps its sign, and half of its size, without the raters who carry most of it.

    They are those without whom it falls furthest. Leaving them out takes their votes out of `p_good`, and replies whose
    label then is uncertain out of the mass. By sign alone, a gain that is all theirs would pass on every second night.
    """
    c, say = columns, columns.say.toarray()
    searched = np.argsort(-np.abs(say).sum(0), kind="stable")[:SEARCHED_RATERS]
    each_without = np.stack([_mass_without(columns, say[:, rater]) for rater in searched])
    gains = statistics.gain_of(c.candidate, c.incumbent, each_without)
    # NaN: a class is gone without them, the greatest influence of all.
    fall = np.where(np.isnan(gains), -np.inf, gains)
    left_out = searched[np.argsort(fall, kind="stable")[: rules.influential_raters]]
    rest = float(statistics.gain_of(c.candidate, c.incumbent, _mass_without(columns, say[:, left_out].sum(1))))
    bound = max(rules.gain_kept * gain.value, 0.0)
    sentence = (
        f"Without the {len(left_out)} raters who carry most of it the gain is {rest:+.1%} ({bound:.1%} is asked)."
    )
    return Check("without top raters", Kind.PROOF, rest, bound, rest > bound, sentence)


def _mass_without(columns: _Columns, removed: Floats) -> Floats:
    certainty = 2 * special.expit(special.logit(columns.p_good) - removed) - 1
    kept = np.where(np.abs(certainty) >= MIN_CERTAINTY, certainty, 0.0)
    changed = columns.weight * kept / np.maximum(np.abs(2 * columns.p_good - 1), MIN_CERTAINTY)
    return np.asarray(np.where(removed == 0, columns.mass, changed))


def _score(estimate: Estimate) -> float:
    return estimate.value / estimate.error if estimate.error > 0 else math.nan


def _times_as_many(score: float, smallest: float, level: float, freedom: float, rules: Rules) -> float:
    """Return by how much the ratings must grow for the rules' power, errors shrinking as 1 / sqrt(n)."""
    wanted = float(stats.t.isf(level, freedom)) + float(stats.norm.ppf(rules.power))
    reachable = np.nanmax([score, smallest, 1e-3])
    return max((wanted / float(reachable)) ** 2, 1.0)
