"""The prequential split: learn from the older ratings, judge by the newer ones, no conversation on both sides.

Owns which rated replies are on which side and the moment that parts them. A reply is held out only if it, and every
other reply of its conversation, was first rated after all that is trained on, and made after all that the incumbent was
trained on was rated: neither model can have seen it, and a vote taken back and given again makes nothing old new. What
is rated later in a conversation that is trained on waits for the next night, when the cut will have moved. How reliable
each rater is may rest on all votes: it names no reply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.learning.labels import RatedExample, RatedPair

HELD_OUT = 0.3  # of the replies
MOST_HELD_OUT = 0.5  # as long as fewer can't prove anything
ENOUGH_REPLIES = 1500  # held out: more prove little more, and each is read by every candidate


@dataclass(frozen=True, slots=True)
class Split:
    """Replies that weigh nothing are on no side. `cut` (seconds since the epoch) is -inf when nothing is trained on."""

    cut: float
    training: tuple[RatedExample, ...]
    held_out: tuple[RatedExample, ...]
    waiting: tuple[RatedExample, ...]
    pairs: tuple[RatedPair, ...]


def split(
    examples: Sequence[RatedExample],
    pairs: Sequence[RatedPair],
    *,
    not_before: float | None,
    enough: Callable[[Sequence[RatedExample]], bool] = lambda _: True,
) -> Split:
    """Hold out the newest 30 % by first rating, about `ENOUGH_REPLIES` at most.

    While they aren't `enough` to judge by, it is up to half of all.
    `not_before` is the incumbent's cut. Conversations first rated at the same moment stay together, so that ratings
    without times of their own are all trained on.
    """
    usable = sorted((rated for rated in examples if rated.example.weight > 0), key=_order)
    conversations: dict[str, list[RatedExample]] = {}
    for rated in usable:
        conversations.setdefault(rated.example.conversation_id, []).append(rated)
    begun: dict[float, list[RatedExample]] = {}
    for replies in conversations.values():
        if not_before is None or all(rated.example.created_at > not_before for rated in replies):
            begun.setdefault(replies[0].first_rated_at, []).extend(replies)

    held: list[RatedExample] = []
    cut = -math.inf if not_before is None else not_before
    for moment in sorted(begun, reverse=True):
        candidates = held + begun[moment]
        short = len(held) < min(HELD_OUT * len(usable), ENOUGH_REPLIES) or not enough(held)
        if moment <= cut or len(candidates) > MOST_HELD_OUT * len(usable) or not short:
            break
        held = candidates
    since = min((rated.first_rated_at for rated in held), default=math.inf)
    held_conversations = {rated.example.conversation_id for rated in held}
    rest = [rated for rated in usable if rated.example.conversation_id not in held_conversations]
    training = tuple(rated for rated in rest if rated.first_rated_at < since)
    learned = tuple(rated for rated in pairs if rated.rated_at < since and not _of(rated, held_conversations))
    cut = max([cut, *(rated.first_rated_at for rated in training), *(rated.rated_at for rated in learned)])
    return Split(
        cut=cut,
        training=training,
        held_out=tuple(sorted(held, key=_order)),
        waiting=tuple(rated for rated in rest if rated.first_rated_at >= since),
        pairs=learned,
    )


def _order(rated: RatedExample) -> tuple[float, int]:
    return rated.first_rated_at, rated.example.reply_id


def _of(rated: RatedPair, conversations: set[str]) -> bool:
    return any(side.conversation_id in conversations for side in (rated.pair.chosen, rated.pair.rejected))
