"""What the gate judges a candidate by: frozen values that the night gathers and the gate only reads.

Owns their shape and that they are fit to judge by: later than what was learned from, and of other conversations.
Computes no log-probability and generates no reply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from models.learning.examples import Vote
    from models.learning.raters import RaterReport

ACCURACY_RANGE = 0.05, 0.95  # no single vote is worth more than 3 nats
OWN_PROMPT_WEIGHT = 0.5


class EvidenceUnfit(ModelError):
    """The evidence can't be judged by: it was learned from, or a reply lacks its label."""


@dataclass(frozen=True, slots=True)
class CountedVote:
    """`log_odds` is what the vote added to the log-odds of a good reply: 1.4 is an up by a rater right 4 in 5."""

    rater_id: int
    log_odds: float


@dataclass(frozen=True, slots=True)
class RatedReply:
    """A held-out reply. `candidate` and `incumbent` are log pi - log pi_base in nats, summed over the completion.

    `p_good` and `weight` are those of its Example (the weight has its certainty |2p - 1| in it); an incumbent that is
    the base itself has 0 throughout.
    """

    reply_id: int
    conversation_id: str
    first_rated_at: float  # seconds since the epoch
    candidate: float
    incumbent: float
    p_good: float
    weight: float
    tokens: int
    votes: tuple[CountedVote, ...]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Negative log-likelihood of one neutral text, in nats a token."""

    base: float
    incumbent: float
    candidate: float


@dataclass(frozen=True, slots=True)
class Generations:
    """What one model wrote to the fixed prompts: counts of replies, and the mean length of short answers.

    The latter is of the replies to `brief_prompts`, which are cut at `longest_tokens`. `planted` counts replies that
    hold a watched phrase. `sycophantic` counts those that give in, of the replies to
    `leading_prompts`, which claim something false and ask for agreement.
    """

    prompts: int
    toxic: int
    repetitive: int
    planted: int
    brief_prompts: int
    mean_tokens: float
    longest_tokens: int
    leading_prompts: int
    sycophantic: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one candidate. `clusters` are raters who vote as one; `frozen` is the raters' own freeze.

    `candidate` is None while it has written nothing. `watched` counts the phrases that `planted` is of.
    """

    replies: tuple[RatedReply, ...]
    anchors: tuple[Anchor, ...]
    candidate: Generations | None
    incumbent: Generations
    training_cut: float  # seconds since the epoch; nothing rated before it may be judged by
    training_conversations: frozenset[str] = frozenset()
    clusters: tuple[frozenset[int], ...] = ()
    frozen: bool = False
    watched: int = 0


def counted_vote(vote: Vote, report: RaterReport) -> CountedVote:
    """Weigh one vote as the raters' report does: by its strength, its rater's influence and accuracy."""
    low, high = ACCURACY_RANGE
    accuracy = min(max(report.accuracy.get(vote.rater_id, 0.5), low), high)
    strength = min(abs(vote.value * vote.weight), 1.0) * (OWN_PROMPT_WEIGHT if vote.own_prompt else 1.0)
    nats = report.influence.get(vote.rater_id, 0.0) * strength * math.log(accuracy / (1 - accuracy))
    return CountedVote(vote.rater_id, math.copysign(1.0, vote.value) * nats)


def require_fit(evidence: Evidence) -> None:
    """Raise EvidenceUnfit unless every reply is judged by ratings that the candidate can't have learned from."""
    replies = evidence.replies
    early = sum(reply.first_rated_at <= evidence.training_cut for reply in replies)
    if early:
        raise EvidenceUnfit(f"{early} held-out replies were rated before the training cut; judge by later ones only.")
    seen = sum(reply.conversation_id in evidence.training_conversations for reply in replies)
    if seen:
        raise EvidenceUnfit(f"{seen} held-out replies are of conversations that were trained on; leave those out.")
    if len({reply.reply_id for reply in replies}) < len(replies):
        raise EvidenceUnfit("A reply is held out twice; give each once, with all of its votes.")
    for reply in replies:
        if not (0 <= reply.p_good <= 1 and 0 <= reply.weight < math.inf and reply.tokens >= 1):
            raise EvidenceUnfit(f"Reply {reply.reply_id} has no probability, weight or length; score it again.")


def is_finite(evidence: Evidence) -> bool:
    """Tell whether every figure of the models is a number: a candidate that diverged gives NaN."""
    scores = [score for reply in evidence.replies for score in (reply.candidate, reply.incumbent)]
    likelihoods = [value for text in evidence.anchors for value in (text.base, text.incumbent, text.candidate)]
    return all(map(math.isfinite, scores + likelihoods))
