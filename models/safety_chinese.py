"""Attacks on groups and insults in Chinese, found by which words stand together in a sentence.

Owns the reading of a text against safety_data/attacks_chinese.toml. There is no segmentation: an entry is found
wherever its characters are. It learned from nothing: a score says how plain a pattern is, not how probable.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SENTENCE_END = re.compile(r"[。！？!?\n；;…]+")
_NEAR = 16  # characters between a group and what is said of it
_INSULTED_GROUP, _SLUR, _INSULT, _HOSTILE = 0.9, 0.8, 0.8, 0.6
_OBJECTED = 0.5  # factor for a sentence that objects to attacks or reports them


@dataclass(frozen=True, slots=True)
class Abuse:
    """How plainly a text attacks a group, and insults anyone; both from 0 to 1."""

    hate: float
    insult: float


class AbuseReader:
    """Reads Chinese abuse; the lexicon has comma-separated entries by kind."""

    def __init__(self, lexicon: Mapping[str, str]) -> None:
        entries = {kind: "".join(listed.split()).split(",") for kind, listed in lexicon.items()}
        self._patterns = {kind: re.compile("|".join(map(_pattern, _longest_first(of)))) for kind, of in entries.items()}

    def read(self, text: str) -> Abuse:
        """Read a lower-case text; the strongest sentence counts."""
        found = [self._sentence(sentence) for sentence in _SENTENCE_END.split(text)]
        return Abuse(max(abuse.hate for abuse in found), max(abuse.insult for abuse in found))

    def _sentence(self, sentence: str) -> Abuse:
        groups = [match.span() for match in self._patterns["groups"].finditer(sentence)]
        insult = _INSULT if self._patterns["insults"].search(sentence) else 0.0
        hate = _INSULTED_GROUP if insult and groups else 0.0
        if self._patterns["slurs"].search(sentence):
            hate = max(hate, _SLUR)
        ends = [end for _, end in groups]
        for hostile in self._patterns["hostility"].finditer(sentence):
            nearest = bisect_left(ends, hostile.start() - _NEAR)
            if nearest < len(groups) and groups[nearest][0] - hostile.end() <= _NEAR:
                hate = max(hate, _HOSTILE)
        factor = _OBJECTED if self._patterns["objecting"].search(sentence) else 1.0
        return Abuse(round(hate * factor, 4), round(insult * factor, 4))


def load_reader(lexicon: Path) -> AbuseReader:
    """Read the lexicon's file."""
    return AbuseReader(tomllib.loads(lexicon.read_text("utf-8")))


def _longest_first(entries: list[str]) -> list[str]:
    return sorted({entry for entry in entries if entry}, key=len, reverse=True)


def _pattern(entry: str) -> str:
    """Return an entry's pattern; one in Latin letters is a word of its own ("sb" isn't in "husband")."""
    return rf"(?<![a-z]){re.escape(entry)}(?![a-z])" if entry.isascii() else re.escape(entry)
