"""Which replies are unsafe, whatever raters say: the filter's interface, and the one filter that Encore brings.

Owns the mark on a text. What follows from it (never a positive, a candidate blocked) is decided by who asks. The
filter is a linear classifier of offensive English (alt-profanity-check's, as numbers: see safety_data/NOTICE) and, for
Chinese, a list of 58 insults and threats, no more. It knows bad words, not bad meanings: hatred in polite words passes,
a quoted slur is marked. docs/notebook.md has how often. Other languages are not read at all.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Protocol

_DATA = Path(__file__).parent / "safety_data"
# Of replies that people preferred for being helpful .5 % score higher; of HateCheck's hatred 9 in 10 with profanity.
_THRESHOLD = 0.7
_WORD = re.compile(r"\b\w\w+\b")
_SENTENCE_END = re.compile(r"(?<=[.!?\n])\s+")
# Letters in disguise: "b1tch", "sh!t", "f u c k". A number is left alone.
_DISGUISED = re.compile(r"(?<!\S)(?=\S*[^\W\d_])(?=\S*(?:[013457@$]|!\w))\S+")
_DISGUISES = str.maketrans("013457@$!", "oieastasi")
_SPACED = re.compile(r"\b(?:[^\W\d_][ .*-]){2,}[^\W\d_]\b")
_SPACES = re.compile(r"[ .*-]")


class Category(StrEnum):
    OFFENSIVE = "offensive"  # the classifier's word for insults, slurs, profanity and threats alike
    LISTED = "listed"  # holds an entry of the Chinese list


@dataclass(frozen=True, slots=True)
class Marked:
    """What the filter says of a text; `score` is from 0 to 1, and `category` None unless it is unsafe."""

    unsafe: bool
    category: Category | None
    score: float


class SafetyFilter(Protocol):
    """Anything that marks texts: the interface by which filters are compared and exchanged."""

    def check(self, text: str) -> Marked: ...


@cache
def load_filter() -> SafetyFilter:
    """Return Encore's filter, read once in some 10 ms; a check takes less than a millisecond."""
    numbers = json.loads((_DATA / "english.json").read_text("utf-8"))
    listed = (_DATA / "chinese.txt").read_text("utf-8").split()
    return _WordFilter(_Classifier(**numbers), tuple(listed))


@dataclass(frozen=True, slots=True)
class _Classifier:
    """A linear SVM on TF-IDF, with Platt's sigmoid; `terms` has each word's inverse document frequency and weight."""

    intercept: float
    slope: float
    offset: float
    terms: dict[str, tuple[float, float]]

    def score(self, text: str) -> float:
        """Return P(offensive) of a lower-case text. A text without a known word scores as the intercept does."""
        margin = square = 0.0
        for word, count in Counter(_WORD.findall(text)).items():
            if word in self.terms:
                idf, weight = self.terms[word]
                margin += count * idf * weight
                square += (count * idf) ** 2
        distance = self.intercept + (margin / math.sqrt(square) if square else 0.0)
        return 1.0 / (1.0 + math.exp(self.slope * distance + self.offset))


class _WordFilter:
    def __init__(self, classifier: _Classifier, listed: tuple[str, ...]) -> None:
        self._classifier, self._listed = classifier, listed

    def check(self, text: str) -> Marked:
        """Mark a text by its worst sentence: a long polite reply must not dilute an insult."""
        text = unicodedata.normalize("NFKC", text).lower()
        if any(entry in text for entry in self._listed):
            return Marked(True, Category.LISTED, 1.0)
        readings = {text, _undisguised(text)}
        score = max(
            self._classifier.score(part) for reading in readings for part in (reading, *_SENTENCE_END.split(reading))
        )
        unsafe = score > _THRESHOLD
        return Marked(unsafe, Category.OFFENSIVE if unsafe else None, round(score, 4))


def _undisguised(text: str) -> str:
    text = _DISGUISED.sub(lambda found: found[0].translate(_DISGUISES), text)
    return _SPACED.sub(lambda found: _SPACES.sub("", found[0]), text)
