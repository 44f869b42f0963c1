"""Attacks on groups and threats in English, found by how words are put together: who is meant, what is said of them.

Owns the reading of a text against safety_data/attacks_english.toml: a group (or "they" beside one) with hostility that
is aimed at it, neither negated nor quoted nor objected to. It learned from nothing: a score says how plain a pattern
is, not how probable. What is hateful without one of its words passes.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_QUOTED = re.compile(r'"[^"]+"|“[^”]+”|(?<!\w)\'[^\']{3,}\'(?!\w)')
_SENTENCE_END = re.compile(r"(?<=[.!?\n])\s+")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*|[,;:]")
_LONGEST_PHRASE = 5
_LONGEST_SENTENCE = 60  # units; without a full stop a text is read in pieces, so that no text takes long
_SHORTEST_REPAIRED, _SHORTEST_SPLIT, _LONGEST_SPLIT = 5, 5, 40
# Of strengths: a plain attack, one by what it denies or implies, a slur that may be banter.
_PLAIN, _DENIED, _SLUR, _QUOTED_STRENGTH = 0.9, 0.7, 0.8, 0.3


@dataclass(frozen=True, slots=True)
class Attack:
    """How plainly a text attacks a group, and threatens anyone; both from 0 to 1."""

    hate: float
    threat: float


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word or phrase with the tags that it has in the lexicon, and whether it stands in quotation marks."""

    tags: frozenset[str]
    quoted: bool


class AttackReader:
    """Reads attacks; the lexicon has comma-separated entries by tag.

    `known` has ordinary words with what each costs (higher is rarer): it tells words from misspellings.
    """

    def __init__(self, lexicon: Mapping[str, str], known: Mapping[str, float]) -> None:
        tags: dict[str, set[str]] = {}
        for tag, entries in lexicon.items():
            for entry in entries.split(","):
                tags.setdefault(" ".join(entry.split()), set()).add(tag)
        self._tags = {phrase: frozenset(found) for phrase, found in tags.items()}
        words = {word for phrase in tags for word in phrase.split()}
        self._costs = dict(known) | {word: known.get(word, 8.0) for word in words}
        self._repairs = _repairs(words)

    def read(self, text: str) -> Attack:
        """Read a lower-case text; the strongest sentence counts."""
        text = text.replace("’", "'")
        quotes = [found.span() for found in _QUOTED.finditer(text)]
        sentences = [
            units[at : at + _LONGEST_SENTENCE]
            for span in _sentences(text)
            for units in [list(self._units(*span, text, quotes))]
            for at in range(0, len(units), _LONGEST_SENTENCE)
        ]
        if any(_objected(units) for units in sentences):
            return Attack(0.0, 0.0)
        hate = threat = 0.0
        meant = 0  # sentences for which "they" still means the group
        for at, units in enumerate(sentences):
            said_next = at + 1 < len(sentences) and _says_who(sentences[at + 1])
            found = _Sentence(units, carried=meant > 0 or said_next).attack()
            hate, threat = max(hate, found.hate), max(threat, found.threat)
            meant = 2 if _names_group(units) else meant - 1
        return Attack(hate, threat)

    def _units(self, start: int, end: int, text: str, quotes: Sequence[tuple[int, int]]) -> Iterator[_Unit]:
        words = [
            (word, any(low <= found.start() < high for low, high in quotes))
            for found in _WORD.finditer(text, start, end)
            for word in self._spelled(found[0])
        ]
        at = 0
        while at < len(words):
            for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
                tags = self._tags.get(" ".join(word for word, _ in words[at : at + length]))
                if tags is not None or length == 1:
                    yield _Unit(tags or frozenset(), words[at][1])
                    at += length
                    break

    def _spelled(self, word: str) -> Sequence[str]:
        if word in self._costs or not _SHORTEST_REPAIRED <= len(word) + 1 <= _LONGEST_SPLIT:
            return (word,)
        if word.endswith("'s"):
            return (word[:-2],)
        if word in self._repairs:
            return (self._repairs[word],)
        return _split(word, self._costs) if len(word) >= _SHORTEST_SPLIT else (word,)


def load_reader(lexicon: Path, known: Mapping[str, float]) -> AttackReader:
    """Read the lexicon's file; `known` is AttackReader's."""
    return AttackReader(tomllib.loads(lexicon.read_text("utf-8")), known)


class _Sentence:
    def __init__(self, units: Sequence[_Unit], *, carried: bool) -> None:
        self._units = units
        self._places: dict[str, set[int]] = {}
        for at, unit in enumerate(units):
            for tag in unit.tags:
                self._places.setdefault(tag, set()).add(at)
        self._named = self._at("groups") | {
            at
            for at in self._at("identities")
            if self._near("being", at - 3, at) or self._near("persons", at + 1, at + 2)
        }
        self._slurs = self._at("slurs") - self._named
        if self._at("literal") or (self._at("own") and not self._at("addressed")):
            self._slurs = set()
        meant = self._at("pronouns") if carried or self._named else set()
        self._targets = self._named | self._slurs | meant

    def attack(self) -> Attack:
        hate, threat = 0.0, 0.0
        for at, unit in enumerate(self._units):
            weight = _QUOTED_STRENGTH if unit.quoted else 1.0
            hate = max(hate, weight * self._hostility(at, unit.tags))
            threat = max(threat, weight * self._threat(at, unit.tags))
        return Attack(round(hate, 4), round(threat, 4))

    def _hostility(self, at: int, tags: Collection[str]) -> float:
        before, after = self._target(at - 8, at), self._target(at + 1, at + 7)
        negated = self._negated(at)
        found = [0.0]
        if at in self._slurs:
            found.append(_SLUR)
        if "loathing" in tags and after and not negated and not self._near("others", at - 1, at):
            found.append(_PLAIN)
        if "repelling" in tags and before and not negated:
            found.append(_PLAIN)
        if "traits" in tags and not negated and self._said_of(at):
            found.append(_PLAIN)
        if "traits" in tags and self._compared():
            found.append(_DENIED)
        if "cursing" in tags and at + 1 in self._named:
            found.append(_SLUR)
        if "goods" in tags and negated and self._denied_to(at):
            found.append(_DENIED)
        if "harms" in tags and self._wanted(at) and (before or after):
            found.append(_PLAIN)
        return 0.0 if self._reported(at) else max(found)

    def _threat(self, at: int, tags: Collection[str]) -> float:
        if "violence" not in tags or not self._wanted(at) or self._reported(at):
            return 0.0
        someone = self._target(at - 8, at) or self._target(at + 1, at + 7) or self._near("addressed", at + 1, at + 3)
        return _PLAIN if someone else 0.0

    def _said_of(self, at: int) -> bool:
        """Whether the trait stands beside a target, or a form of "to be" between them."""
        return any(
            target - at in (-1, 1, 2)
            or (at - 9 < target < at and self._near("being", target + 1, at))
            or (at < target < at + 5 and self._near("being", at + 1, target))
            for target in self._targets
        )

    def _compared(self) -> bool:
        """Whether a named group is what something is compared to: "smarter than any ..."."""
        return any(self._near("comparing", named - 4, named) for named in self._named)

    def _denied_to(self, at: int) -> bool:
        """Whether a good thing is denied to a target, and not what somebody does to it."""
        for target in self._targets:
            if at - 7 < target < at:
                return True
            if at < target < at + 7:
                return not (self._near("harms", at + 1, target) or self._near("traits", at + 1, target))
        return False

    def _reported(self, at: int) -> bool:
        """Whether words before tell what others say; "I must say" doesn't."""
        return any(place < at and not self._near("speakers", place - 4, place) for place in self._at("reporting"))

    def _wanted(self, at: int) -> bool:
        wanting = [place for place in self._at("wanting") if at - 7 < place < at]
        if not wanting:
            return at == 0  # an imperative
        return not self._near("negation", min(wanting) - 3, at)

    def _negated(self, at: int) -> bool:
        count = 0
        for unit in reversed(self._units[max(at - 4, 0) : at]):
            if "boundary" in unit.tags:
                break
            count += "negation" in unit.tags
        return count % 2 == 1

    def _at(self, tag: str) -> set[int]:
        return self._places.get(tag, set())

    def _near(self, tag: str, start: int, end: int) -> bool:
        return any(start <= at < end for at in self._at(tag))

    def _target(self, start: int, end: int) -> bool:
        return any(start <= target < end for target in self._targets)


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield start, end.start()
        start = end.end()
    yield start, len(text)


def _names_group(units: Sequence[_Unit]) -> bool:
    return any(unit.tags & {"groups", "slurs", "identities"} for unit in units)


def _says_who(units: Sequence[_Unit]) -> bool:
    """Whether a sentence says who "they" of the one before are: "They are ..."."""
    places = [at for at, unit in enumerate(units) if unit.tags & {"groups", "identities"}]
    return any(unit.tags & {"pronouns", "addressed"} for at in places for unit in units[max(at - 4, 0) : at])


def _objected(units: Sequence[_Unit]) -> bool:
    """Whether a sentence calls something an attack; "I'm not racist, but" doesn't."""
    return any(
        "condemning" in unit.tags and not any("negation" in before.tags for before in units[max(at - 3, 0) : at])
        for at, unit in enumerate(units)
    )


def _misspelt(word: str) -> Iterator[str]:
    """Yield the word without each of its letters in turn, and with each two neighbours changed about."""
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
    for at in range(len(word) - 1):
        yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _repairs(words: Collection[str]) -> dict[str, str]:
    """Map every misspelling by one letter left out or two changed about to its word."""
    return {
        form: word
        for word in sorted(words)
        for form in _misspelt(word)
        if len(word) >= _SHORTEST_REPAIRED or len(form) == len(word) == _SHORTEST_REPAIRED - 1
    }


def _split(word: str, costs: Mapping[str, float]) -> Sequence[str]:
    """Split words that were run together into the cheapest known ones; what can't be split stays."""
    best: list[tuple[float, int]] = [(0.0, 0)] + [(math.inf, 0)] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(end - 14, 0), end):
            cost = best[start][0] + costs.get(word[start:end], math.inf) + 3.0
            if cost < best[end][0]:
                best[end] = (cost, start)
    if math.isinf(best[-1][0]):
        return (word,)
    parts, end = [], len(word)
    while end:
        parts.append(word[best[end][1] : end])
        end = best[end][1]
    return parts[::-1]
