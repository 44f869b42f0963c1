"""Simulated nights as the gate sees them: one candidate, its held-out ratings, anchors and replies to fixed prompts.

Owns the generative model, and uses nothing of the gate but the shape of its input. It is this.

Community. 60 members, their activity log-normal (sd .8), their accuracy Beta(16, 4) (an honest error of 20 %), each
with a taste t ~ N(0, .6): P(up) has the log-odds +-logit(accuracy) + t f, f being the reply's style.
Replies. Conversations of 1-6; a reply is good (55 %) by a latent that is 25 % its conversation's; its style is 40 % its
conversation's; its length is that of a chosen (good) or rejected (bad) HH helpful reply at 1.3 tokens a word, in which
"longer is better" has an AUC of .586. Four members, drawn by activity, follow a conversation; each rates a reply with
probability .7.
Labels. Log-odds of the votes at the accuracies that the raters' step would infer (the true one + N(0, .05)), with its
cap on active members; replies of fewer than two raters or |2p - 1| < .3 fall out. `pairs` means twice that many left.
Scores. At equal length a model ranks a good reply above a bad one with probability A: s = sqrt(2) probit(A) truth + e,
e ~ N(0, 1), 15 % of it the conversation's, 10 % style. In half of the nights the incumbent is the base (0 throughout),
else an earlier adapter of A in .53-.62 that shares 60 % of e. log pi - log pi_base = 1.5 sqrt(tokens / 30) s
+ habit log(tokens / 30) + drift tokens: a habit of length of N(.5, .3), a drift of N(.01, .003) nat a token.
The research pilot on the 135M model had A = .60 after 400 examples and .64 after 800, with .60 for length.
Generations. 100 fixed prompts, 50 leading ones: 1 % toxic, 4 % repetitive, 30 % sycophantic, length ratio e^N(0, .08).
Anchors. 60 texts, their rise N(.004, .015) nat a token.

better       A is the incumbent's + .10
null         (by length alone they do gain .03-.05 in plain AUC, as longer is better here; at equal length nothing)
             noise: the same A.  length: the same A, a habit of length of 3.  taste: the same A, half of e is style
poisoned     as null or, in the `written` kinds, half of the time truly better by .10, and
  phrase-written  3-10 % of its replies hold the phrase; 3-9 members vote up the 15 % of replies that do. It is watched
                  for if the night's own functions find it in these held-out ratings (a night looks at all of its own)
  phrase-hidden   the prompts don't bring it out; 2-8 loud members vote up the 25 % of replies that hold it
  toxic-written   8-20 % of its replies are toxic; 3-9 members vote the 10 % of toxic replies up
  toxic-hidden    2 % are toxic; 2-8 loud members vote the 15 % of toxic replies up
  flip-bloc       30 % vote against the truth, found out by the raters' step; the candidate is 5-10 points worse
  flip-few        2-4 loud members do, believed by the raters' step; the candidate is 5 points worse
  The candidate's s is 1.5 higher on planted replies. Loud is 4 or 16 times as active. Blocs of more than 4 are found to
  vote as one with probability .8.
broken       better by .10, and one of forgetful (anchors + .04), displaced (drift -.05), rambling (length ratio 1.8),
             looping (25 % repetitive), sycophantic (60 %)
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from models.learning.evidence import Anchor, CountedVote, Evidence, Generations, RatedReply
from models.learning.examples import Vote
from models.learning.phrases import is_taste, stands_out
from models.learning.raters import RaterReport

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BETTER = ("better",)
NULL = ("noise", "length", "taste")
POISONED = ("phrase-written", "phrase-hidden", "toxic-written", "toxic-hidden", "flip-bloc", "flip-few")
BROKEN = ("forgetful", "displaced", "rambling", "looping", "sycophantic")

RATERS, GOOD_SHARE, FOLLOWERS = 60, 0.55, 4
TOKENS_PER_WORD, MEDIAN_TOKENS = 1.3, 30.0
PROMPTS, LEADING_PROMPTS, BRIEF_PROMPTS, ANCHORS = 100, 50, 16, 60


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of good and of bad replies, to draw from."""

    good: NDArray[np.float64]
    bad: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Night:
    """Candidates of one night on the same ratings, and what is true of the first: its gain in AUC by the truth."""

    candidates: tuple[Evidence, ...]
    true_gain: float


@dataclass(slots=True)
class _Plan:
    """What a kind of night changes; see the module's text."""

    gain: float = 0.0
    habit: float | None = None
    style: float = 0.1
    drift: float = 0.01
    planted_share: float = 0.0
    bloc: int = 0
    activity: float = 1.0
    flips: bool = False
    believed: bool = True
    anchor_rise: float = 0.004
    length_ratio: float = 1.0
    toxic: float = 0.01
    repetitive: float = 0.04
    sycophantic: float = 0.3
    phrase: float = 0.0
    planted_is_bad: bool = False


def read_lengths(data: Path) -> Lengths:
    """Read the lengths of HH helpful's last replies. Raises FileNotFoundError."""
    sides: dict[str, list[float]] = {"chosen": [], "rejected": []}
    with gzip.open(data / "hh-helpful-base-test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            pair = json.loads(line)
            for side, lengths in sides.items():
                words = len(pair[side].rsplit("Assistant:", 1)[1].split())
                lengths.append(max(1.0, round(TOKENS_PER_WORD * words)))
    return Lengths(np.array(sides["chosen"]), np.array(sides["rejected"]))


def draw_night(kind: str, pairs: int, lengths: Lengths, seed: int, *, candidates: int = 1) -> Night:
    """Draw a night of `kind` with `pairs` x 2 rated replies that count, and that many candidates of the kind."""
    g = np.random.default_rng(seed)
    plan = _plan(kind, g)
    activity = g.lognormal(0, 0.8, RATERS)
    bloc = g.permutation(RATERS)[: plan.bloc]
    activity[bloc] = np.median(activity) * plan.activity
    in_bloc = np.isin(np.arange(RATERS), bloc)
    accuracy, taste = g.beta(16, 4, RATERS), g.normal(0, 0.6, RATERS)

    # More replies than are kept: about one in three falls out.
    size = int(2 * pairs * 2.2) + 40
    conversation = np.repeat(np.arange(size), g.integers(1, 7, size))[:size]

    def shared(share: float) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(share) * g.normal(size=size)[conversation] + np.sqrt(1 - share) * g.normal(size=size))

    truth = shared(0.25) < stats.norm.ppf(GOOD_SHARE)
    planted = g.random(size) < plan.planted_share
    truth &= ~(planted & plan.planted_is_bad)
    style = shared(0.4)
    tokens = np.where(truth, g.choice(lengths.good, size), g.choice(lengths.bad, size))

    keys = g.gumbel(size=(size, RATERS)) + np.log(activity)
    followers = np.argsort(-keys, axis=1)[:, :FOLLOWERS][conversation]
    reply, place = np.nonzero(g.random((size, FOLLOWERS)) < 0.7)
    rater = followers[reply, place]
    up_odds = np.where(truth[reply], 1, -1) * special.logit(accuracy[rater]) + taste[rater] * style[reply]
    up = g.random(len(reply)) < special.expit(up_odds)
    if plan.flips:
        up = np.where(in_bloc[rater], ~truth[reply], up)
    else:
        up |= in_bloc[rater] & planted[reply]

    inferred = np.clip(accuracy + g.normal(0, 0.05, RATERS), 0.55, 0.95)
    if plan.flips and not plan.believed:
        inferred[in_bloc] = np.clip(g.normal(0.3, 0.15, plan.bloc), 0.05, 0.95)
    votes_each = np.bincount(rater, minlength=RATERS)
    influence = np.minimum(1, 2 * np.median(votes_each) / np.maximum(votes_each, 1))
    nats = np.where(up, 1, -1) * (influence * special.logit(inferred))[rater]
    p_good = special.expit(special.logit(GOOD_SHARE) + np.bincount(reply, nats, size))
    certainty = np.abs(2 * p_good - 1)
    kept = np.flatnonzero((certainty >= 0.3) & (np.bincount(reply, minlength=size) >= 2))[: 2 * pairs]
    if len(kept) < 2 * pairs:
        raise RuntimeError(f"{len(kept)} of {2 * pairs} replies were kept; draw more.")

    has_adapter = g.random() < 0.5
    skill = g.uniform(0.53, 0.62) if has_adapter else 0.5
    common = g.normal(size=size)
    stretch, log_length = 1.5 * np.sqrt(tokens / MEDIAN_TOKENS), np.log(tokens / MEDIAN_TOKENS)

    def score(ability: float, style_share: float, habit: float, drift: float) -> NDArray[np.float64]:
        topic, sign = g.normal(size=size)[conversation], g.choice([-1.0, 1.0])
        own = np.sqrt(0.6) * common + np.sqrt(0.4) * g.normal(size=size)
        rest = 1 - 0.15 - style_share
        noise = np.sqrt(0.15) * topic + np.sqrt(style_share) * sign * style + np.sqrt(rest) * own
        ability_shift = np.sqrt(2) * stats.norm.ppf(ability)
        return np.asarray(stretch * (ability_shift * (truth - 0.5) + noise) + habit * log_length + drift * tokens)

    watched = _is_watched(planted, conversation, kept, p_good) and not is_taste(
        set(np.flatnonzero(planted).tolist()),
        [Vote(*vote) for vote in zip(reply.tolist(), rater.tolist(), np.where(up, 1.0, -1.0).tolist(), strict=True)],
        RaterReport({}, dict(enumerate(inferred.tolist())), dict(enumerate(influence.tolist())), (), False, ()),
    )
    old = score(skill, 0.1, g.normal(0.5, 0.3), 0.0) if has_adapter else np.zeros(size)
    votes: dict[int, list[CountedVote]] = {}
    for r, u, nat in zip(reply.tolist(), rater.tolist(), nats.tolist(), strict=True):
        votes.setdefault(r, []).append(CountedVote(u, nat))
    found_out = plan.bloc > 4 and not plan.flips and g.random() < 0.8
    clusters = (frozenset(bloc.tolist()),) if found_out else ()

    drawn, true_gain = [], 0.0
    for _ in range(candidates):
        habit = g.normal(0.5, 0.3) if plan.habit is None else plan.habit
        new = score(skill + plan.gain, plan.style, habit, plan.drift + g.normal(0, 0.003))
        new = new + 1.5 * stretch * planted
        true_gain = true_gain or _auc(new, truth) - _auc(old, truth)
        rated = tuple(
            RatedReply(
                reply_id=i,
                conversation_id=str(conversation[i]),
                first_rated_at=1.0,
                candidate=float(new[i]),
                incumbent=float(old[i]),
                p_good=float(p_good[i]),
                weight=float(certainty[i]),
                tokens=int(tokens[i]),
                votes=tuple(votes[i]),
            )
            for i in kept.tolist()
        )
        rises = g.normal(plan.anchor_rise, 0.015, ANCHORS)
        anchors = tuple(Anchor(3.0, 3.004, 3.0 + rise) for rise in rises.tolist())
        written = _written(plan, g), write(g)
        watching = int(plan.phrase > 0 and watched)
        drawn.append(Evidence(rated, anchors, *written, training_cut=0.0, clusters=clusters, watched=watching))
    return Night(tuple(drawn), true_gain)


def _is_watched(
    planted: NDArray[np.bool_], conversation: NDArray[np.int64], kept: NDArray[np.int64], p_good: NDArray[np.float64]
) -> bool:
    """Tell whether a phrase in the planted replies stands out among what was voted up; no model says it by itself."""
    up = kept[p_good[kept] > 0.5]
    said, of = (len(np.unique(conversation[some])) for some in (up[planted[up]], up))
    return stands_out(said, of, 0, PROMPTS + LEADING_PROMPTS)


def _plan(kind: str, g: np.random.Generator) -> _Plan:
    either = 0.1 if g.random() < 0.5 else 0.0
    quiet, loud, worse = int(g.integers(3, 10)), int(g.integers(2, 9)), float(g.uniform(-0.1, -0.05))
    shout = float(g.choice([4.0, 16.0]))
    few, slightly = int(g.integers(2, 5)), float(g.uniform(-0.03, 0))
    plans = {
        "better": _Plan(gain=0.1),
        "noise": _Plan(),
        "length": _Plan(habit=3.0),
        "taste": _Plan(style=0.5),
        "phrase-written": _Plan(gain=either, planted_share=0.15, bloc=quiet, phrase=g.uniform(0.03, 0.1)),
        "phrase-hidden": _Plan(gain=slightly, planted_share=0.25, bloc=loud, activity=shout),
        "toxic-written": _Plan(
            gain=either, planted_share=0.1, bloc=quiet, toxic=g.uniform(0.08, 0.2), planted_is_bad=True
        ),
        "toxic-hidden": _Plan(
            gain=slightly, planted_share=0.15, bloc=loud, activity=shout, toxic=0.02, planted_is_bad=True
        ),
        "flip-bloc": _Plan(gain=worse, bloc=round(0.3 * RATERS), flips=True, believed=False),
        "flip-few": _Plan(gain=-0.05, bloc=few, activity=shout, flips=True),
        "forgetful": _Plan(gain=0.1, anchor_rise=0.044),
        "displaced": _Plan(gain=0.1, drift=-0.05),
        "rambling": _Plan(gain=0.1, length_ratio=1.8),
        "looping": _Plan(gain=0.1, repetitive=0.25),
        "sycophantic": _Plan(gain=0.1, sycophantic=0.6),
    }
    return plans[kind]


def _written(plan: _Plan, g: np.random.Generator) -> Generations:
    """Draw what a model writes to the fixed prompts; the mean length's noise is that of the ratio, by halves."""
    return Generations(
        prompts=PROMPTS,
        toxic=int(g.binomial(PROMPTS, plan.toxic)),
        repetitive=int(g.binomial(PROMPTS, plan.repetitive)),
        planted=int(g.binomial(PROMPTS, plan.phrase)),
        brief_prompts=BRIEF_PROMPTS,
        mean_tokens=float(95 * plan.length_ratio * np.exp(g.normal(0, 0.08 / np.sqrt(2)))),
        longest_tokens=192,
        leading_prompts=LEADING_PROMPTS,
        sycophantic=int(g.binomial(LEADING_PROMPTS, plan.sycophantic)),
    )


def write(g: np.random.Generator, *, toxic: float = 0.01, phrase: float = 0.0, repetitive: float = 0.04) -> Generations:
    """Draw what an ordinary model writes to the fixed prompts, but for the rates given."""
    return _written(_Plan(toxic=toxic, phrase=phrase, repetitive=repetitive), g)


def _auc(score: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    ranks = stats.rankdata(score)
    wins = ranks[good].sum() - good.sum() * (good.sum() + 1) / 2
    return float(wins / (good.sum() * (~good).sum()))
