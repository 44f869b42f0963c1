"""How much each vote is to be believed, how good each reply is, and whether that is enough to learn from tonight.

Owns the rules about members: trusted, new and banned ones, caps on influence, blocs, and the freeze. The statistics are
in dawid_skene.py, copies in covoting.py, the cleaning of votes in vote_table.py. Doesn't read or write anything, and
doesn't overrule safety: a reply that the safety filter marks stays out of the positives whatever comes out here.

Not caught: a bloc of more than half of the raters where nobody is trusted and no reply has a gold label (then the
honest are the bloc), and raters who are honest except on a few planted replies: those must be caught by the safety
filter, by the gate's canaries, or by moderators' labels on such replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.learning import covoting
from models.learning.activity import NEW_INFLUENCE, NEW_TOGETHER, is_new, new_held_back, proven
from models.learning.dawid_skene import INDIFFERENT, OPPOSED, RATE_BOUNDS, Fit, Model
from models.learning.vote_table import Flags, Floats, VoteTable, merged, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.learning.examples import RaterFacts, Vote

# The last steps take in full what is within either of these: capped as the EM is, labels fall .05 below majority, and
# where a few do most of the rating .11 (docs/notebook.md). The share is less than what a night lets one rater have.
LABEL_CAP, LABEL_SHARE = 2.0, 0.1  # times the median; of all votes
ANCHOR_VOTES = 30  # by trusted raters or on gold replies, before they count as an anchor
WHOLE_VOICE = 6.0  # votes that make a whole one of the voices whose share is counted (tried: docs/notebook.md)
FREEZE_UNANCHORED, FREEZE_ANCHORED = 0.4, 0.5  # share of the raters' voices that oppose
WARN_OPPOSED, WARN_INDIFFERENT = 0.2, 0.4


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What the votes of a night say. `p_good` is by reply id, the rest by rater id.

    `accuracy` is P(a vote of the rater is right), `influence` what one vote counts beside a full one (1). If `frozen`,
    nothing may be learned from these votes tonight; `warnings` are sentences for moderators.
    """

    p_good: dict[int, float]
    accuracy: dict[int, float]
    influence: dict[int, float]
    clusters: tuple[frozenset[int], ...]
    frozen: bool
    warnings: tuple[str, ...]

    def voices(self) -> dict[int, int]:
        """Return, by rater of a cluster, the one who names its voice; whoever is in none is a voice of their own."""
        return {rater: min(cluster) for cluster in self.clusters for rater in cluster}


def infer(
    votes: Iterable[Vote], facts: Mapping[int, RaterFacts], gold: Mapping[int, bool], *, seed: int = 0
) -> RaterReport:
    """Infer from all votes how good each reply is and how reliable each rater.

    `gold` holds moderators' labels by reply id; they are kept as they are and teach who is reliable. Without enough
    trusted raters' votes or gold, a frozen night's `p_good` is the capped majority's, since nothing says which camp is
    right. The order of the votes doesn't matter. `seed` draws which replies are searched for copies in a very large
    night. Who stands in for the labels of a file says nothing of anybody: full influence, and the most accuracy that
    any rater is believed to have.
    """
    single = tabulate(votes, facts)
    is_trusted = np.array([_is_trusted(facts.get(rater)) for rater in single.raters.tolist()], dtype=np.bool_)
    clusters = covoting.clusters(single, is_trusted, seed=seed)
    table = merged(single, clusters)
    trusted, new = np.zeros((2, table.voices), dtype=np.bool_)
    trusted[table.voice_of] = is_trusted
    new[table.voice_of] = [is_new(facts.get(rater)) for rater in table.raters.tolist()]
    cap, label_cap = _caps(table, new)
    labels = np.array([gold.get(reply, np.nan) for reply in table.replies.tolist()], dtype=np.float64)

    model = Model(table, trusted, labels, cap, label_cap)
    fit = model.best()
    anchored = int((trusted[table.voice] | ~np.isnan(labels)[table.reply]).sum()) >= ANCHOR_VOTES
    shares = _shares(table, fit, new)
    frozen = bool(shares[OPPOSED] > FREEZE_ANCHORED or (shares[OPPOSED] >= FREEZE_UNANCHORED and not anchored))
    p_good = model.majority() if frozen and not anchored else fit.p_good

    size = np.bincount(table.voice_of, minlength=table.voices)[table.voice_of]
    raters = table.raters.tolist()
    inferred = dict(zip(table.replies.tolist(), p_good.tolist(), strict=True))
    return RaterReport(
        p_good=inferred | {reply: float(good) for reply, good in gold.items()},
        accuracy={
            **{rater: RATE_BOUNDS[1] for rater, fact in facts.items() if fact.stands_in},
            **dict(zip(raters, fit.accuracy[table.voice_of].tolist(), strict=True)),
        },
        influence={
            **{rater: 1.0 for rater, fact in facts.items() if fact.stands_in},
            **{rater: 0.0 for rater, fact in facts.items() if fact.banned},
            **dict(zip(raters, (label_cap[table.voice_of] / size).tolist(), strict=True)),
        },
        clusters=clusters,
        frozen=frozen,
        warnings=tuple(_warnings(table, fit, shares, trusted, new, clusters, frozen=frozen, anchored=anchored)),
    )


def _is_trusted(fact: RaterFacts | None) -> bool:
    return fact is not None and fact.trusted


def _caps(table: VoteTable, new: Flags) -> tuple[Floats, Floats]:
    """Return the influence caps (voices,): min(1, median_n / n_u), less for new accounts; and the wider label caps."""
    votes = np.maximum(table.votes_each(), 1)
    if not len(votes):
        return votes, votes
    median = float(np.median(votes[proven(votes, new)]))
    each = np.where(new, NEW_INFLUENCE, 1.0)
    full, wide = (
        new_held_back(each * np.minimum(votes, most), new) / votes
        for most in (median, max(LABEL_CAP * median, LABEL_SHARE * float(votes.sum())))
    )
    return full, wide


def _shares(table: VoteTable, fit: Fit, new: Flags) -> Floats:
    """Return the share of each kind (3,) in the capped mass.

    The cap here is WHOLE_VOICE, or the lower quartile where few have as many: an active bloc of 45 % would raise a
    median and seem, capped by it, to be more than half, and so would one of 30 % where few do most of the rating. New
    accounts have no share: they would only dilute the others', and the caps hold them to NEW_TOGETHER anyway.
    """
    votes = table.votes_each()
    if not len(votes):
        return np.zeros(3)
    most = min(WHOLE_VOICE, np.quantile(votes[proven(votes, new)], 0.25))
    mass = np.where(new & ~new.all(), 0.0, np.minimum(votes, most))
    shares: Floats = mass @ fit.kinds / mass.sum()
    return shares


def _warnings(
    table: VoteTable,
    fit: Fit,
    shares: Floats,
    trusted: Flags,
    new: Flags,
    clusters: tuple[frozenset[int], ...],
    *,
    frozen: bool,
    anchored: bool,
) -> Iterable[str]:
    opposed, indifferent = float(shares[OPPOSED]), float(shares[INDIFFERENT])
    if frozen:
        limit = FREEZE_ANCHORED if anchored else FREEZE_UNANCHORED
        remedy = "label more replies as good or bad" if anchored else "trust some raters or label some replies"
        yield (
            f"Learning is frozen: raters who vote against the others hold {opposed:.0%} of the vote "
            f"(limit {limit:.0%}); {remedy}, and run the night again."
        )
    elif opposed >= WARN_OPPOSED:
        yield (
            f"Raters who vote against the others hold {opposed:.0%} of the vote; they are read the other way round. "
            "Look at who they are."
        )
    if indifferent >= WARN_INDIFFERENT:
        yield (
            f"{indifferent:.0%} of the vote comes from raters who vote the same whatever the reply; it counts for "
            "nothing. Ask for votes on good and on bad replies."
        )
    if clusters:
        names = "; ".join(", ".join(map(str, sorted(cluster))) for cluster in clusters)
        yield f"Some raters vote as one and count as one rater: {names}. Look whether they are one member."
    if new.any():
        yield f"{int(new.sum())} new accounts rated; together they count for at most {NEW_TOGETHER:.0%}."
    doubtful = trusted[table.voice_of] & (fit.accuracy[table.voice_of] < 0.5)
    if doubtful.any():
        names = ", ".join(map(str, table.raters[doubtful].tolist()))
        yield f"Trusted raters vote against the others and the labels: {names}. Look whether to trust them further."
