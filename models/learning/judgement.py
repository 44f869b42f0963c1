"""What a night thought of one rater, read from its folder: for the moderators who ask why somebody's votes count so.

Owns what of the snapshot and of raters.json concerns one rater. Infers nothing anew, and names raters by their ids: who
may see them is the bot's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.learning import job as jobs
from models.learning.files import read_json
from models.learning.snapshot import read_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from models.learning.examples import RaterFacts


@dataclass(frozen=True, slots=True)
class JudgedVote:
    """`good` is what the night made of the reply, by all votes and labels; `gold` what a label says of it."""

    reply_id: int
    up: bool
    own_prompt: bool
    good: bool | None
    gold: bool | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`accuracy` in [0, 1] is how often the rater is right, as inferred, None where no vote of theirs was weighed.

    `influence` in [0, 1] is what one vote counts beside a full one; `group` are the raters who vote as one, this one
    among them, empty where it votes alone. `frozen`: nothing was learned from any vote of that night.
    """

    fact: RaterFacts
    votes: tuple[JudgedVote, ...]
    accuracy: float | None
    influence: float
    group: frozenset[int]
    is_new: bool
    frozen: bool


def read_judgement(folder: Path, rater_id: int) -> Judgement | None:
    """Return what the night of a folder thought of a rater, None where the rater had said nothing that may be used.

    Raises OSError, ValueError, KeyError, TypeError and ModelError where the night didn't come to it or its files are
    gone.
    """
    from models.learning.activity import is_new  # brings in numpy, which little else of serving needs

    said = read_json(folder / jobs.RATERS)
    snapshot = read_snapshot(folder / jobs.SNAPSHOT)
    fact = snapshot.facts.get(rater_id)
    if fact is None:
        return None
    p_good = {int(reply_id): float(p) for reply_id, p in said["p_good"].items()}
    votes = tuple(
        JudgedVote(
            reply_id=vote.reply_id,
            up=vote.value > 0,
            own_prompt=vote.own_prompt,
            good=p_good[vote.reply_id] > 0.5 if p_good.get(vote.reply_id, 0.5) != 0.5 else None,
            gold=snapshot.gold.get(vote.reply_id),
        )
        for vote in snapshot.votes
        if vote.rater_id == rater_id and vote.value
    )
    key = str(rater_id)
    return Judgement(
        fact=fact,
        votes=votes,
        accuracy=float(said["accuracy"][key]) if key in said["accuracy"] else None,
        influence=float(said["influence"].get(key, 0.0)),
        group=next((frozenset(ids) for ids in map(set, said["clusters"]) if rater_id in ids), frozenset()),
        is_new=is_new(fact),
        frozen=bool(said["frozen"]),
    )
