"""Whose words a reply may hold, and whose it passes on to the replies that read it.

A reply has read its members: those who wrote a message in its prompt, its own, and those whom it inherits from the
character's earlier answers there. What an answer inherited isn't inherited again, or one member would stay in all that
is ever said in a channel; but where a reply repeats an answer, that answer's members become its own. So words that are
repeated are followed however far, and a retelling in other words as far as one answer on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.moderation.normalise import SPACELESS, fold, is_spaceless

# Rarely chance: one in 300 answers of the embedded model shares so much with one of ten to other questions.
_RUN = 12  # six words at 2, or twelve characters of a script without spaces
_UNIT = re.compile(rf"[{SPACELESS}]|[^\W_{SPACELESS}]+(?:['’][^\W_{SPACELESS}]+)*")


@dataclass(frozen=True, slots=True)
class Members:
    """Whom a reply has read, its own first, and who of them is inherited: not passed on."""

    all: tuple[int, ...]
    inherited: frozenset[int] = frozenset()

    @property
    def own(self) -> frozenset[int]:
        return frozenset(self.all) - self.inherited


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer of the character's in a prompt; `said` is None where its text is gone since."""

    said: str | None
    members: Members


def settled(started: Members, said: str, answers: Iterable[ReadAnswer]) -> Members:
    """Return the members of a reply that has ended, from those it started with: all of the answers that it read.

    Who isn't inherited from any of `answers` as they stand now counts as its own.
    """
    repeated: set[int] = set()
    near: set[int] = set()
    far: set[int] = set()
    runs = _runs(said)
    for answer in answers:
        if answer.said is None or not runs.isdisjoint(_runs(answer.said)):
            repeated |= answer.members.own | answer.members.inherited
        else:
            near |= answer.members.own
            far |= answer.members.inherited
    inherited = started.inherited - repeated
    dropped = (inherited & far) - near
    kept = [member for member in started.all if member not in dropped]
    return Members(tuple(dict.fromkeys([*kept, *sorted(repeated)])), inherited & near)


def _runs(text: str) -> set[tuple[str, ...]]:
    """Return the shortest run of each place in a text that is long enough, whatever its case, marks and spacing."""
    units: Sequence[str] = _UNIT.findall(fold(text).text)
    runs: set[tuple[str, ...]] = set()
    start = weight = 0
    for end, unit in enumerate(units, 1):
        weight += _weight(unit)
        while weight - _weight(units[start]) >= _RUN:
            weight -= _weight(units[start])
            start += 1
        if weight >= _RUN:
            runs.add(tuple(units[start:end]))
    return runs


def _weight(unit: str) -> int:
    return 1 if is_spaceless(unit[0]) else 2
