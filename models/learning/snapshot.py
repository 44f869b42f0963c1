"""What a night starts from: the replies, votes, raters, labels and pairs that may be learned from, frozen with a hash.

Owns the values and their canonical file. Doesn't decide what may be learned from (the collector did, consent and
deletions included) nor what any of it is worth (that is the raters').
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from models.learning.examples import PAIR_SOURCES, ExamplesDamaged, RaterFacts, Vote
from models.learning.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class CollectedReply:
    """One reply of ours to a prompt.

    Replies of one `conversation_id` are never on both sides of the split, and conversations are what the gate
    resamples: give the prompt's or the reply chain's, not that of a channel which never ends. `author_id` is the member
    whose prompt it answers, whose share in the training is capped; None for prompts that are no member's (the
    operator's, an import's), which aren't. `adapter` is the one that it was generated under, None for the base. `cut`:
    it broke off at the limit of its length, so nothing says where it would have ended.
    """

    reply_id: int
    conversation_id: str
    created_at: float  # seconds since the epoch
    author_id: int | None
    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    prompt_version: int
    provenance: str
    completion_text: str
    adapter: str | None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one member thinks of a pair: `side` is 1 for the reply named as chosen, -1 for the other, 0 for neither."""

    rater_id: int
    side: int
    own_prompt: bool = False
    rated_at: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class CollectedPair:
    """Two collected replies to one prompt, one preferred; `source` is one of examples.PAIR_SOURCES.

    With `opinions`, at most one a rater, `chosen_reply_id` is what most prefer, and whom to believe decides which is
    learned and its weight. Without, it is the operator's word, worth `weight`. `rated_at` is when it was preferred; 0
    is unknown, and then the later reply's time counts.
    """

    chosen_reply_id: int
    rejected_reply_id: int
    weight: float
    source: str
    rated_at: float = 0.0
    opinions: tuple[Opinion, ...] = ()

    def turned(self) -> CollectedPair:
        """Return the same pair, told with the other reply as the chosen one."""
        opinions = tuple(replace(opinion, side=-opinion.side) for opinion in self.opinions)
        chosen, rejected = self.rejected_reply_id, self.chosen_reply_id
        return replace(self, chosen_reply_id=chosen, rejected_reply_id=rejected, opinions=opinions)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of a night's data. `gold` is moderators' labels by reply id, `facts` by rater id."""

    replies: tuple[CollectedReply, ...]
    votes: tuple[Vote, ...]
    facts: dict[int, RaterFacts]
    gold: dict[int, bool]
    pairs: tuple[CollectedPair, ...] = ()


def write_snapshot(path: Path, snapshot: Snapshot) -> str:
    """Write one JSON object a line, replacing `path` at once, and return the sha256 of its bytes.

    The same data in any order has the same hash. Raises ValueError for what isn't whole: a number that isn't finite, a
    reply given twice, an empty completion, or a vote, label or pair of a reply that isn't there.
    """
    _require_whole(snapshot)
    lines = [
        *(_line("reply", asdict(reply)) for reply in sorted(snapshot.replies, key=lambda reply: reply.reply_id)),
        *sorted(_line("vote", asdict(vote)) for vote in snapshot.votes),
        *(_line("rater", asdict(fact)) for _, fact in sorted(snapshot.facts.items())),
        *(_line("gold", {"reply_id": reply_id, "good": good}) for reply_id, good in sorted(snapshot.gold.items())),
        *sorted(_line("pair", asdict(pair)) for pair in snapshot.pairs),
    ]
    return write_bytes(path, "".join(lines).encode())


def read_snapshot(path: Path, *, sha256: str | None = None) -> Snapshot:
    """Read what `write_snapshot` wrote, in its order.

    Raises ExamplesDamaged, also when `sha256` is given and isn't the file's.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ExamplesDamaged(f"{path.name} is missing; run the night again.") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ExamplesDamaged(f"{path.name} isn't the file that was frozen (its sha256 differs); run the night again.")
    found: dict[str, list[Any]] = {kind: [] for kind in ("reply", "vote", "rater", "gold", "pair")}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            fields = json.loads(line)
            kind = fields.pop("kind")
            found[kind].append(_BUILD[kind](fields))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{path.name}, line {number} isn't a line of a snapshot ({error!r}); run the night again."
            raise ExamplesDamaged(message) from error
    snapshot = Snapshot(
        replies=tuple(found["reply"]),
        votes=tuple(found["vote"]),
        facts={fact.rater_id: fact for fact in found["rater"]},
        gold=dict(found["gold"]),
        pairs=tuple(found["pair"]),
    )
    try:
        _require_whole(snapshot)
    except ValueError as error:
        raise ExamplesDamaged(f"{path.name}: {error}; run the night again.") from error
    return snapshot


def _reply(fields: dict[str, Any]) -> CollectedReply:
    ids = {name: tuple(fields[name]) for name in ("prompt_token_ids", "completion_token_ids")}
    return CollectedReply(**{**fields, **ids})


def _gold(fields: dict[str, Any]) -> tuple[int, bool]:
    return int(fields["reply_id"]), bool(fields["good"])


def _pair(fields: dict[str, Any]) -> CollectedPair:
    return CollectedPair(**{**fields, "opinions": tuple(Opinion(**opinion) for opinion in fields["opinions"])})


_BUILD: dict[str, Any] = {
    "reply": _reply,
    "vote": lambda fields: Vote(**fields),
    "rater": lambda fields: RaterFacts(**fields),
    "gold": _gold,
    "pair": _pair,
}


def _line(kind: str, fields: dict[str, Any]) -> str:
    text = json.dumps(
        {"kind": kind, **fields}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text + "\n"


def _require_whole(snapshot: Snapshot) -> None:
    known = {reply.reply_id for reply in snapshot.replies}
    if len(known) < len(snapshot.replies):
        raise ValueError("a reply is in it twice")
    empty = next((r.reply_id for r in snapshot.replies if not (r.completion_token_ids and r.prompt_token_ids)), None)
    if empty is not None:
        raise ValueError(f"reply {empty} has no prompt or no completion")
    named = [
        *(vote.reply_id for vote in snapshot.votes),
        *snapshot.gold,
        *(reply_id for pair in snapshot.pairs for reply_id in (pair.chosen_reply_id, pair.rejected_reply_id)),
    ]
    missing = next((reply_id for reply_id in named if reply_id not in known), None)
    if missing is not None:
        raise ValueError(f"a vote, label or pair is of reply {missing}, which isn't in it")
    for pair in snapshot.pairs:
        if pair.source not in PAIR_SOURCES or pair.chosen_reply_id == pair.rejected_reply_id:
            raise ValueError(f"the pair of replies {pair.chosen_reply_id} and {pair.rejected_reply_id} is no pair")
        raters = {opinion.rater_id for opinion in pair.opinions}
        if len(raters) < len(pair.opinions) or any(opinion.side not in (-1, 0, 1) for opinion in pair.opinions):
            raise ValueError(f"an opinion of replies {pair.chosen_reply_id} and {pair.rejected_reply_id} is none")
    times = [*(r.created_at for r in snapshot.replies), *(v.rated_at for v in snapshot.votes)]
    of_votes = [size for vote in snapshot.votes for size in (vote.value, vote.weight)]
    of_pairs = [size for pair in snapshot.pairs for size in (pair.weight, pair.rated_at)]
    times += [opinion.rated_at for pair in snapshot.pairs for opinion in pair.opinions]
    if not all(map(math.isfinite, [*times, *of_votes, *of_pairs])):
        raise ValueError("a time, a vote or a weight isn't a finite number")
