"""Moderators' regular expressions, under a time limit: no message and no pattern can hold the bot up.

A backtracking engine is used for what it can say of a text that still grows: `partial=True` tells whether a match may
yet complete. What it can also do, run for ever, ends at `MATCH_SECONDS`, and counts as found: else whoever pads a
message would pass. A pattern rests only when it is late on texts of several members, so that none can switch it off.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import regex

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms, Span

log = logging.getLogger(__name__)

MOST_PATTERNS, LONGEST_PATTERN = 10, 260  # as many and as long as in Discord's AutoMod
MATCH_SECONDS = 0.02  # of its thread, a pattern and text
UNFINISHED, RESTS = "unfinished pattern", "pattern that rests"  # rules of findings

_MOST_MATCHES = 100
_SHORT = 200  # characters; a pattern that is late on these is late on most of what members write
_SEVERAL, _MANY = 3, 10  # members on whose short texts a pattern was late, and times on any texts of as many
_WINDOW_SECONDS = _REST_SECONDS = 600.0
_MOST_REPEATS = 1000  # nested counts multiply, and compiling them takes that long
_COUNT = re.compile(r"\{(\d*+),?(\d*+)\}")


class _Late(NamedTuple):
    """A text of a member, or an answer to them, on which a pattern was late."""

    at: float
    member_id: int
    is_short: bool


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
        self._late: list[deque[_Late]] = [deque(maxlen=_MOST_MATCHES) for _ in self._compiled]
        self._rests_until = [0.0] * len(self._compiled)
        self._member_id: int | None = None

    def on_texts_of(self, member_id: int) -> Patterns:
        """Return these patterns for what a member writes or is answered: only there being late makes them rest."""
        patterns = copy.copy(self)
        patterns._member_id = member_id
        return patterns

    @property
    def resting(self) -> tuple[str, ...]:
        """The patterns that are too slow for many texts and not searched for ten minutes: moderators should know."""
        now = self._clock()
        return tuple(p for p, until in zip(self.patterns, self._rests_until, strict=True) if until > now)

    def find(self, forms: Forms) -> list[Finding]:
        """Return every match, at most 100 a pattern; of a pattern that is late, the whole text, `UNFINISHED`.

        A pattern that comes to rest by that is found a second time, as `RESTS`.
        """
        found: list[Finding] = []
        same = forms.folded.text == forms.clean.text
        now = self._clock()
        for index, pattern in enumerate(self.patterns):
            if self._rests_until[index] > now:
                continue
            try:
                for plain in (forms.clean,) if same else (forms.clean, forms.folded):
                    found += (
                        Finding.at("pattern", Category.PATTERN, forms, plain, start, end, pattern)
                        for start, end in self._search(index, plain.text, partial=False)
                    )
            except TimeoutError:
                rules = [UNFINISHED, RESTS] if self._comes_to_rest(index, len(forms.text)) else [UNFINISHED]
                whole = Span(0, len(forms.text))
                found += (Finding(rule, Category.PATTERN, whole, forms.text, pattern) for rule in rules)
        return list(dict.fromkeys(found))

    def open_from(self, forms: Forms) -> int | None:
        """Return the first place of the clean text at which a match may begin that goes on."""
        text = forms.clean.text
        places: list[int] = []
        now = self._clock()
        for index in range(len(self.patterns)):
            if self._rests_until[index] > now:
                continue
            try:
                places += (start for start, end in self._search(index, text, partial=True) if end == len(text))
            except TimeoutError:
                return 0
        return min(places, default=None)

    def _search(self, index: int, text: str, *, partial: bool) -> list[tuple[int, int]]:
        """Return the places of matches that aren't empty; raises TimeoutError."""
        timeout = MATCH_SECONDS
        while True:
            started = time.thread_time()
            try:
                matches = self._compiled[index].finditer(text, partial=partial, timeout=timeout)
                return [match.span() for match in islice(matches, _MOST_MATCHES) if match.end() > match.start()]
            except TimeoutError:
                # It counts the time of the whole process, which a busy model fills: that is no fault of the text's.
                if time.thread_time() - started >= MATCH_SECONDS / 2:
                    raise
                timeout *= 2

    def _comes_to_rest(self, index: int, length: int) -> bool:
        """Note that a pattern was late; return whether it rests from now on."""
        if self._member_id is None:
            return False
        now, late = self._clock(), self._late[index]
        late.append(_Late(now, self._member_id, length <= _SHORT))
        recent = [each for each in late if now - each.at < _WINDOW_SECONDS]
        on_short = {each.member_id for each in recent if each.is_short}
        on_any = {each.member_id for each in recent}
        if len(on_short) < _SEVERAL and (len(on_any) < _SEVERAL or len(recent) < _MANY):
            return False
        late.clear()
        self._rests_until[index] = now + _REST_SECONDS
        log.warning("the pattern %r is too slow for many texts and rests for ten minutes", self.patterns[index])
        return True


def told(findings: Iterable[Finding]) -> list[str]:
    """Say to moderators of which patterns it isn't known whether they match, and which rest."""
    sentences = {
        UNFINISHED: 'The pattern "{}" couldn\'t be finished on this text in time, so it counts as found.',
        RESTS: 'The pattern "{}" is too slow for what members write and rests for ten minutes: nothing is looked for '
        "by it till then. Write it simpler (/mod filter remove, then add).",
    }
    said = (sentences[each.rule].format(each.detail) for each in findings if each.rule in sentences)
    return list(dict.fromkeys(said))


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
