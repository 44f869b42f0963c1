"""A simulated channel: who of its members stands behind each reply, and how many of the replies may teach by that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bot.privacy.passed_on import Members, ReadAnswer, settled

MEMBERS, EXCHANGES = 20, 300
_AGREE = 14  # 70 %
_HISTORY = 40  # HISTORY_MESSAGES


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the members whose words are in its prompt, and those that its row names by a rule."""

    said: str
    direct: frozenset[int]
    members: Members


def evenly(rng: random.Random) -> list[int]:
    """Draw who asks: anybody at any time."""
    return rng.choices(range(MEMBERS), k=EXCHANGES)


def in_groups(rng: random.Random) -> list[int]:
    """Draw who asks: two to four members talk for 10 to 30 exchanges, then others do."""
    askers: list[int] = []
    while len(askers) < EXCHANGES:
        group = rng.sample(range(MEMBERS), rng.randint(2, 4))
        askers += rng.choices(group, k=rng.randint(10, 30))
    return askers[:EXCHANGES]


def replies_to(
    askers: Iterable[int], *, bounded: bool, history: int = _HISTORY, repeating: float = 0.0, seed: int = 0
) -> list[Reply]:
    """Answer each asker; of the answers, a share is `repeating` one in its prompt. Not `bounded`: the rule before."""
    rng = random.Random(seed)
    talk: list[int | Reply] = []
    start = 0
    for asker in askers:
        talk.append(asker)
        if len(talk) - start > history:  # as `bot.conversation` moves the window
            start = len(talk) - max(1, history // 2)
        read = [answer for answer in talk[start:] if isinstance(answer, Reply)]
        direct = frozenset(member for member in talk[start:] if isinstance(member, int))
        everybody = direct.union(*(answer.members.all for answer in read))
        said = " ".join(f"{word}of{len(talk)}" for word in range(8))
        if read and rng.random() < repeating:
            said += " " + rng.choice(read).said
        members = Members(tuple(everybody))
        if bounded:
            started = Members(members.all, everybody - direct)
            members = settled(started, said, [ReadAnswer(answer.said, answer.members) for answer in read])
        talk.append(Reply(said, direct, members))
    return [reply for reply in talk if isinstance(reply, Reply)]


def share(replies: Sequence[Reply], holds: Callable[[Reply], bool]) -> float:
    return sum(map(holds, replies)) / len(replies)


def may_teach(replies: Sequence[Reply], agreeing: frozenset[int]) -> float:
    return share(replies, lambda reply: agreeing.issuperset(reply.members.all))


def agreeing_members(rng: random.Random) -> frozenset[int]:
    return frozenset(rng.sample(range(MEMBERS), _AGREE))


def figures(draw: Callable[[random.Random], list[int]], history: int, repeating: float, seed: int) -> list[float]:
    """Return which share of the replies may teach: by their prompts alone, by the rule before, and now; and which share
    one member's deletion empties, before and now. docs/notebook.md has the means over seeds.
    """
    rng = random.Random(seed)
    agreeing, askers = agreeing_members(rng), draw(rng)
    before, now = (
        replies_to(askers, bounded=bounded, history=history, repeating=repeating, seed=seed)
        for bounded in (False, True)
    )
    return [
        share(now, lambda reply: agreeing >= reply.direct),
        may_teach(before, agreeing),
        may_teach(now, agreeing),
        *(share(replies, lambda reply: 0 in reply.members.all) for replies in (before, now)),
    ]
