"""Encore's own safety classifier: hate, threats and offence in English and Chinese, in this process, in a millisecond.

Owns how its three readers make one set of scores: the linear classifier of words (models/safety.py), attacks in English
(models/safety_attacks.py) and abuse in Chinese (models/safety_chinese.py). It knows no other language, nothing of
pictures, and neither sexual content nor self-harm. docs/notebook.md has what it finds, and what it misses.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

from models import safety_attacks, safety_chinese
from models.safety import (
    DATA,
    Category,
    LinearClassifier,
    SafetyClassifier,
    Scores,
    load_linear,
    load_listed,
    undisguised,
)

_LONGEST_TEXT = 4000  # characters, Discord's longest message; what is beyond isn't read


@cache
def load_classifier() -> SafetyClassifier:
    """Return Encore's classifier, read once in some 0.1 s; pure, and safe to share between threads."""
    linear = load_linear()
    known = {word: idf for word, (idf, _) in linear.terms.items()}
    return _EmbeddedClassifier(
        linear,
        safety_attacks.load_reader(DATA / "attacks_english.toml", known),
        safety_chinese.load_reader(DATA / "attacks_chinese.toml"),
        load_listed(),
    )


@dataclass(frozen=True, slots=True)
class _EmbeddedClassifier:
    linear: LinearClassifier
    attacks: safety_attacks.AttackReader
    chinese: safety_chinese.AbuseReader
    listed: tuple[str, ...]

    def scores(self, text: str) -> Scores:
        text = unicodedata.normalize("NFKC", text[:_LONGEST_TEXT]).lower()
        readings = {text, undisguised(text)}
        attacks = [self.attacks.read(reading) for reading in readings]
        abuse = self.chinese.read(text)
        listed = float(any(entry in text for entry in self.listed))
        return {
            Category.OFFENSIVE: round(
                max(abuse.insult, listed, *(self.linear.worst(reading) for reading in readings)), 4
            ),
            Category.HATE: max(abuse.hate, *(attack.hate for attack in attacks)),
            Category.THREAT: max(attack.threat for attack in attacks),
        }
