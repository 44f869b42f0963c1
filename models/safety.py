"""Which texts are unsafe: categories, scores and marks, and the filter that the gate of learning goes by.

Owns the mark on a text. What follows from it (never a positive, a candidate blocked, a message held back) is decided by
who asks. Moderation asks a classifier for scores and marks them by its server's thresholds: Encore's own is
models/safety_embedded.py, the operator's models/safety_process.py.

The gate's filter stays what it is whatever moderates, so that nights can be compared: a linear classifier of offensive
English (alt-profanity-check's, as numbers: see safety_data/NOTICE) and, for Chinese, a list of 58 insults and threats,
no more. It knows bad words, not bad meanings: hatred in polite words passes, a quoted slur is marked. docs/notebook.md
has how often. Other languages are not read at all.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Protocol

DATA = Path(__file__).parent / "safety_data"
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
    OFFENSIVE = "offensive"  # insults, slurs and profanity; the gate's filter can't tell them from hate and threats
    LISTED = "listed"  # holds an entry of the Chinese list; of the gate's filter only
    HATE = "hate"  # attacks a group of people for what they are
    THREAT = "threat"
    SEXUAL = "sexual"
    SELF_HARM = "self_harm"


Scores = Mapping[Category, float]
"""From 0 to 1 by category; a category that a classifier doesn't know is absent. Not probabilities, and only
comparable between texts that one classifier scored."""

# A server's own thresholds take the place of these; a category without one is never marked.
DEFAULT_THRESHOLDS: Scores = {
    Category.HATE: 0.5,
    Category.THREAT: 0.5,
    Category.OFFENSIVE: 0.8,
    Category.SEXUAL: 0.8,
    Category.SELF_HARM: 0.5,
}


@dataclass(frozen=True, slots=True)
class Marked:
    """What the filter says of a text; `score` is from 0 to 1, and `category` None unless it is unsafe."""

    unsafe: bool
    category: Category | None
    score: float


class SafetyFilter(Protocol):
    """Anything that marks texts: the interface by which filters are compared and exchanged."""

    def check(self, text: str) -> Marked: ...


class SafetyClassifier(Protocol):
    """Anything that scores texts at once, in this process."""

    def scores(self, text: str) -> Scores: ...


def mark(scores: Scores, thresholds: Scores = DEFAULT_THRESHOLDS) -> Marked:
    """Mark a text that reaches a threshold, by the category that is furthest above its own."""
    above = {kind: score - thresholds[kind] for kind, score in scores.items() if kind in thresholds}
    worst = max(above, key=above.__getitem__, default=None)
    if worst is None or above[worst] < 0:
        return Marked(False, None, max(scores.values(), default=0.0))
    return Marked(True, worst, scores[worst])


@cache
def load_filter() -> SafetyFilter:
    """Return Encore's filter, read once in some 10 ms; a check takes less than a millisecond."""
    return _WordFilter(load_linear(), load_listed())


@cache
def load_linear() -> LinearClassifier:
    return LinearClassifier(**json.loads((DATA / "english.json").read_text("utf-8")))


@cache
def load_listed() -> tuple[str, ...]:
    """Return the Chinese list."""
    return tuple((DATA / "chinese.txt").read_text("utf-8").split())


@dataclass(frozen=True, slots=True)
class LinearClassifier:
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

    def worst(self, text: str) -> float:
        """Return the score of the worst sentence: a long polite reply must not dilute an insult."""
        return max(self.score(part) for part in (text, *_SENTENCE_END.split(text)))


class _WordFilter:
    def __init__(self, classifier: LinearClassifier, listed: tuple[str, ...]) -> None:
        self._classifier, self._listed = classifier, listed

    def check(self, text: str) -> Marked:
        """Mark a text by its worst sentence."""
        text = unicodedata.normalize("NFKC", text).lower()
        if any(entry in text for entry in self._listed):
            return Marked(True, Category.LISTED, 1.0)
        score = max(self._classifier.worst(reading) for reading in {text, undisguised(text)})
        unsafe = score > _THRESHOLD
        return Marked(unsafe, Category.OFFENSIVE if unsafe else None, round(score, 4))


def undisguised(text: str) -> str:
    """Return a text with digits and signs for letters and letters with spaces between read as words."""
    text = _DISGUISED.sub(lambda found: found[0].translate(_DISGUISES), text)
    return _SPACED.sub(lambda found: _SPACES.sub("", found[0]), text)
