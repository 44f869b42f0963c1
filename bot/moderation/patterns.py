"""Moderators' regular expressions, under a time limit: no message and no pattern can hold the bot up.

A backtracking engine is used for what it can say of a text that still grows: `partial=True` tells whether a match may
yet complete. What it can also do, run for ever, ends at `MATCH_SECONDS`.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable

import regex

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms

log = logging.getLogger(__name__)

MOST_PATTERNS, LONGEST_PATTERN = 10, 260  # as many and as long as in Discord's AutoMod
MATCH_SECONDS = 0.004  # a pattern and text
_PATIENCE = 3  # times that a pattern may run out of time before it rests
_REST_SECONDS = 600.0
_MOST_REPEATS = 1000  # nested counts multiply, and compiling them takes that long
_COUNT = re.compile(r"\{(\d*+),?(\d*+)\}")


class Patterns:
    """Regular expressions, searched in the text as written and without its disguises. Case does not matter.

    Raises ValueError, in a sentence for whoever wrote it, for a pattern that can't be used.
    """

    def __init__(self, patterns: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        if len(self.patterns) > MOST_PATTERNS:
            raise ValueError(f"There is room for {MOST_PATTERNS} patterns; remove one first.")
        self._compiled = [_compile(pattern) for pattern in self.patterns]
        self._clock = clock
        self._late = [0] * len(self._compiled)
        self._rests_until = [0.0] * len(self._compiled)

    @property
    def resting(self) -> tuple[str, ...]:
        """The patterns that took too long too often and are not searched for ten minutes: moderators should know."""
        now = self._clock()
        return tuple(p for p, until in zip(self.patterns, self._rests_until, strict=True) if until > now)

    def find(self, forms: Forms) -> list[Finding]:
        """Return every match; at most 100 a pattern."""
        found: list[Finding] = []
        for plain in (forms.clean, forms.folded):
            found += (
                Finding.at("pattern", Category.PATTERN, forms, plain, start, end, self.patterns[index])
                for index, start, end in self._search(plain.text, partial=False)
            )
            if forms.folded.text == forms.clean.text:
                break
        return list(dict.fromkeys(found))

    def open_from(self, forms: Forms) -> int | None:
        """Return the first place of the clean text at which a match may begin that goes on."""
        text = forms.clean.text
        places = [at for _, at, end in self._search(text, partial=True) if end == len(text)]
        return min(places, default=None)

    def _search(self, text: str, *, partial: bool) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        now = self._clock()
        for index, pattern in enumerate(self._compiled):
            if self._rests_until[index] > now:
                continue
            try:
                matches = pattern.finditer(text, partial=partial, timeout=MATCH_SECONDS)
                for _, match in zip(range(100), matches, strict=False):
                    if match.end() > match.start():
                        found.append((index, match.start(), match.end()))
            except TimeoutError:
                self._came_late(index)
        return found

    def _came_late(self, index: int) -> None:
        self._late[index] += 1
        if self._late[index] >= _PATIENCE:
            self._late[index] = 0
            self._rests_until[index] = self._clock() + _REST_SECONDS
            log.warning("the pattern %r takes too long and rests for ten minutes", self.patterns[index])


def _compile(pattern: str) -> regex.Pattern[str]:
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"A pattern has 1 to {LONGEST_PATTERN} characters.")
    counts = [max(int(number or 1) for number in found.groups()) for found in _COUNT.finditer(pattern)]
    if math.prod(max(1, count) for count in counts) > _MOST_REPEATS:
        raise ValueError(f"The counts in a pattern's braces multiply to {_MOST_REPEATS} at most; use smaller ones.")
    try:
        compiled = regex.compile(pattern, regex.IGNORECASE | regex.VERSION0)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"The pattern is not a regular expression: {error}.") from None
    if compiled.fullmatch("", timeout=MATCH_SECONDS):
        raise ValueError("The pattern matches every message, as it also matches nothing; add what must be there.")
    return compiled
