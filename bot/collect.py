"""What a night may learn from, gathered into a snapshot; and whether what it learned from still stands.

Eligible is what the operator, the demo or an import brought; text of Discord's only where Discord permitted it and all
whose words it holds agreed. Whose votes count is the store's one query to say. Completions are the model's own (or an
import's), never a member's words: a correction counts as a vote against the reply, and what the member would have said
is not read here.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from bot.records import DISCORD_EPOCH_SECONDS, Preference, Provenance
from models.learning.examples import RaterFacts, Vote
from models.learning.snapshot import CollectedPair, CollectedReply, Opinion, Snapshot

if TYPE_CHECKING:
    from bot.store import Store
    from bot.store_nights import LearnableReply
    from bot.store_raters import RaterRow

ELIGIBLE = frozenset({Provenance.OPERATOR, Provenance.DEMO, Provenance.IMPORT})
_DAY = 86_400.0
_RIVALS = 8  # versions of one reply that each is paired with unasked
# Their prompts are nobody's share of the training: one person brought them all.
_NOBODYS_PROMPTS = (Provenance.OPERATOR, Provenance.IMPORT)
_CLICK = {Preference.A: 1, Preference.B: -1}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a night rests on, one tuple each. How strong a vote is and when it was cast doesn't matter.

    What banned raters say is none of it, so a ban takes back what counted before.
    """

    votes: frozenset[tuple[int, int, bool]]  # reply, rater, whether it speaks for it
    gold: frozenset[tuple[int, bool]]  # reply, good
    comparisons: frozenset[tuple[int, int, int, str]]  # earlier reply, later reply, member, preference
    corrections: frozenset[tuple[int, int]]  # reply, member

    def less(self, now: Standing) -> Standing:
        """Return what of this stands no more in `now`."""
        return Standing(*(getattr(self, field.name) - getattr(now, field.name) for field in fields(self)))

    def __len__(self) -> int:
        return sum(len(getattr(self, field.name)) for field in fields(self))

    def as_object(self) -> dict[str, Any]:
        return {field.name: sorted(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of_object(cls, told: dict[str, Any]) -> Standing:
        return cls(**{field.name: frozenset(map(tuple, told[field.name])) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Collected:
    """`members` are those whose words, ratings or labels are in the snapshot."""

    snapshot: Snapshot
    standing: Standing
    members: frozenset[int] = frozenset()


async def collect(
    store: Store,
    *,
    model_sha256: str,
    prompt_version: int,
    now: float,
    snowflakes: bool = True,
    discord_permitted: bool = False,
    without: Set[int] = frozenset(),
) -> Collected:
    """Gather what may be learned from. `snowflakes` tells whether members' ids hold the age of their accounts.

    `discord_permitted` is the operator's word that Discord permitted it; even then members have to agree. What members
    in `without` think of replies is left out.
    """
    places = eligible(discord_permitted)
    learnable = await store.learnable(places, model_sha256=model_sha256, prompt_version=prompt_version)
    known = await store.raters()
    # Off the loop: with many replies it takes as long as streams may not stand still.
    return await asyncio.to_thread(_gathered, learnable, known, now=now, snowflakes=snowflakes, without=without)


def _gathered(
    learnable: Sequence[LearnableReply], known: Iterable[RaterRow], *, now: float, snowflakes: bool, without: Set[int]
) -> Collected:
    replies = _without(learnable, without) if without else learnable
    votes = [vote for reply in replies for vote in _votes(reply)]
    facts = _facts(replies, known, now=now, snowflakes=snowflakes)
    snapshot = Snapshot(
        replies=tuple(map(_collected, replies)),
        votes=tuple(votes),
        facts=facts,
        gold={reply.reply_id: reply.gold for reply in replies if reply.gold is not None},
        pairs=tuple(_pairs(replies, {rater for rater, fact in facts.items() if fact.trusted})),
    )
    banned = {rater for rater, fact in facts.items() if fact.banned}
    standing = Standing(
        votes=frozenset(
            (vote.reply_id, vote.rater_id, vote.value > 0) for vote in votes if vote.rater_id not in banned
        ),
        gold=frozenset(snapshot.gold.items()),
        comparisons=frozenset(
            (first, reply.reply_id, member, told.value)
            for reply in replies
            for first, member, told, _ in reply.comparisons
            if member not in banned
        ),
        corrections=frozenset(
            (reply.reply_id, member) for reply in replies for member, _ in reply.corrections if member not in banned
        ),
    )
    return Collected(snapshot, standing, frozenset(member for reply in replies for member in reply.members))


def eligible(discord_permitted: bool) -> frozenset[Provenance]:
    """Return where a reply may come from to be learned from."""
    return ELIGIBLE | {Provenance.DISCORD} if discord_permitted else ELIGIBLE


def _without(replies: Iterable[LearnableReply], members: Set[int]) -> list[LearnableReply]:
    """Return the replies as if these members had said nothing of them, and not those of which nobody else did."""
    left = [
        replace(
            reply,
            votes=tuple(vote for vote in reply.votes if vote.member_id not in members),
            corrections=tuple(said for said in reply.corrections if said[0] not in members),
            comparisons=tuple(said for said in reply.comparisons if said[1] not in members),
        )
        for reply in replies
    ]
    compared = {said[0] for reply in left for said in reply.comparisons}
    return [
        reply
        for reply in left
        if reply.votes or reply.corrections or reply.comparisons or reply.gold is not None or reply.reply_id in compared
    ]


def _collected(reply: LearnableReply) -> CollectedReply:
    return CollectedReply(
        reply_id=reply.reply_id,
        conversation_id=reply.conversation_id,
        created_at=reply.created_at,
        author_id=_own(reply),
        prompt_token_ids=reply.prompt_token_ids,
        completion_token_ids=reply.completion_token_ids,
        prompt_version=reply.prompt_version,
        provenance=reply.provenance.value,
        completion_text=reply.completion,
        cut=reply.cut,
        adapter=reply.adapter,
    )


def _own(reply: LearnableReply) -> int | None:
    """Return whose prompt it answers."""
    return None if reply.provenance in _NOBODYS_PROMPTS else reply.author_id


def _votes(reply: LearnableReply) -> Iterable[Vote]:
    """Yield one vote a member: what they said last, and a correction where they said nothing else."""
    own = _own(reply)
    said = {vote.member_id: (vote.value, vote.rated_at) for vote in reply.votes if vote.value}
    for member_id, corrected_at in reply.corrections:
        said.setdefault(member_id, (-1.0, corrected_at))
    for member_id, (value, rated_at) in sorted(said.items()):
        yield Vote(reply.reply_id, member_id, value, own_prompt=member_id == own, rated_at=rated_at)


def _facts(
    replies: Iterable[LearnableReply], known: Iterable[RaterRow], *, now: float, snowflakes: bool
) -> dict[int, RaterFacts]:
    spoke_in: defaultdict[int, set[int | None]] = defaultdict(set)
    for reply in replies:
        for rater_id in {vote.rater_id for vote in _votes(reply)} | {told[1] for told in reply.comparisons}:
            spoke_in[rater_id].add(reply.guild_id)
    rows = {(row.member_id, row.guild_id): row for row in known}
    facts = {}
    for rater_id, guilds in spoke_in.items():
        here = [rows.get((rater_id, guild_id)) for guild_id in guilds]
        joined = [row.joined_at for row in here if row is not None and row.joined_at is not None]
        # A moderator of one server is a stranger in another.
        trusted = all(row is not None and row.trusted for row in here)
        facts[rater_id] = RaterFacts(
            rater_id=rater_id,
            trusted=trusted,
            account_age_days=_age(rater_id, now) if snowflakes and any(guilds) else None,
            membership_days=max(0.0, now - min(joined)) / _DAY if joined else None,
            banned=any(row is not None and row.banned for row in here),
            stands_in=trusted and rater_id < 0,  # raters of a file have negative ids, and those with a name no trust
        )
    return facts


def _age(member_id: int, now: float) -> float:
    """Return the days since an account was made, which its id tells."""
    return max(0.0, now - ((member_id >> 22) / 1000 + DISCORD_EPOCH_SECONDS)) / _DAY


def _pairs(replies: Iterable[LearnableReply], trusted: Set[int]) -> Iterable[CollectedPair]:
    """Yield the pairs of replies to one prompt that members, or an import, prefer one of, each pair once.

    A member's comparison says so itself; else they voted for one version and against the other; else they corrected
    one, and the other is a version that members aren't against on balance.
    """
    asked: defaultdict[tuple[int, tuple[int, ...]], list[LearnableReply]] = defaultdict(list)
    for reply in replies:
        asked[reply.asked_message_id, reply.prompt_token_ids].append(reply)
    for versions in asked.values():
        for earlier, later in _met(versions):
            if pair := _preferred(versions[earlier], versions[later], trusted):
                yield pair


def _met(versions: Sequence[LearnableReply]) -> list[tuple[int, int]]:
    """Return the places of the versions to pair, the earlier one first.

    They are those that somebody compared, and each with `_RIVALS` others, drawn by the prompt's id; of up to nine
    versions that is every pair. All pairs of the thousands of replies that may share a prompt would be millions.
    """
    place = {reply.reply_id: at for at, reply in enumerate(versions)}
    compared = {
        (place[first], at) for at, reply in enumerate(versions) for first, *_ in reply.comparisons if first in place
    }
    ring = list(range(len(versions)))
    random.Random(versions[0].asked_message_id).shuffle(ring)
    near = {
        (ring[at], ring[(at + apart) % len(ring)]) for at in range(len(ring)) for apart in range(1, _RIVALS // 2 + 1)
    }
    met = {(min(pair), max(pair)) for pair in compared | near if pair[0] != pair[1]}
    return sorted(met, key=lambda pair: (pair[1], pair[0]))


def _preferred(a: LearnableReply, b: LearnableReply, trusted: Set[int]) -> CollectedPair | None:
    for first, rater, told, at in b.comparisons if b.provenance is Provenance.IMPORT else ():
        if first == a.reply_id and rater in trusted:  # a ranking that names no rater: the operator's word
            chosen, rejected = (a, b) if told is Preference.A else (b, a)
            return CollectedPair(chosen.reply_id, rejected.reply_id, 1.0, "import", at)
    if b.provenance is Provenance.IMPORT and a.gold is not None and b.gold is not None:
        if a.gold == b.gold:
            return None
        chosen, rejected = (a, b) if a.gold else (b, a)
        imported_at = max((vote.rated_at for reply in (a, b) for vote in reply.votes), default=0.0)
        return CollectedPair(chosen.reply_id, rejected.reply_id, 1.0, "import", imported_at)
    said: dict[int, Opinion] = {}
    sources = []
    for source, opinion in _opinions(a, b):
        said.setdefault(opinion.rater_id, opinion)  # each member's plainest
        sources.append(source)
    opinions = [said[rater_id] for rater_id in sorted(said)]
    if not any(opinion.side for opinion in opinions):
        return None
    newest = max(opinion.rated_at for opinion in opinions)
    pair = CollectedPair(a.reply_id, b.reply_id, 1.0, sources[0], newest, tuple(opinions))
    return pair if sum(opinion.side for opinion in opinions) >= 0 else pair.turned()


def _opinions(a: LearnableReply, b: LearnableReply) -> Iterator[tuple[str, Opinion]]:
    """Yield what members think of two versions, with its source, the plainest kind first: 1 for `a`, -1 for `b`."""
    own = _own(a)
    for first, rater, told, at in b.comparisons:
        if first == a.reply_id:
            yield "click", Opinion(rater, _CLICK.get(told, 0), rater == own, at)
    of_a, of_b = ({vote.rater_id: vote for vote in _votes(reply)} for reply in (a, b))
    for rater in sorted(of_a.keys() & of_b.keys()):
        one, other = of_a[rater], of_b[rater]
        side = (one.value > 0) - (other.value > 0)
        yield "regeneration", Opinion(rater, side, rater == own, max(one.rated_at, other.rated_at))
    for reply, version, side in ((a, b, -1), (b, a, 1)):
        if reply.corrections and not version.corrections and sum(vote.value for vote in _votes(version)) >= 0:
            for rater, at in reply.corrections:
                yield "correction", Opinion(rater, side, rater == own, at)
