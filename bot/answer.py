"""An answer while it is generated: its text and tokens, and whose label it begins with.

Models that read labelled talk sometimes begin with a label of their own. The character's is taken out, of the text and
of the tokens, before any of it shows; another member's means that the character speaks for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bot import text
from bot.records import Outcome, ReplyState
from models.types import Finish, Piece

_AFTER_NAME = re.compile(r"[*_]{0,3} ?(?:[:：][*_]{0,3})?")
_MARKS = "*_ \n"  # what may stand before a label
_MOST_MARKS = 8


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an answer's first words are: from `start` to `end` the character's own label, then another's or the text.

    Not `settled` means that more of the text has to come before this is certain.
    """

    start: int
    end: int
    settled: bool
    impersonates: bool = False


class Labels:
    """The label of the character and those of the members whom it must not speak for."""

    def __init__(self, own: str, others: Iterable[str]) -> None:
        others = tuple(others)
        self._own, self._others = _label_of([own]), _label_of(others)
        self._names = tuple(name.casefold() for name in (own, *others))

    def beginning(self, completion: str, *, ended: bool = False) -> Beginning:
        """Read how a completion begins, behind its hidden reasoning; `ended` says that no more of it will come."""
        start = text.reasoning_ends(completion)
        if start is None:
            return Beginning(len(completion), len(completion), settled=ended)
        end = start
        while match := self._own.match(completion, end):
            end = match.end()
        if self._others.match(completion, end):
            return Beginning(start, end, settled=True, impersonates=True)
        return Beginning(start, end, settled=ended or not self._may_become_label(completion[end:]))

    def _may_become_label(self, words: str) -> bool:
        words = words.lstrip(_MARKS) if len(words) - len(words.lstrip(_MARKS)) <= _MOST_MARKS else words
        folded = words.casefold()
        return any(
            name.startswith(folded) or (folded.startswith(name) and _AFTER_NAME.fullmatch(folded, len(name)))
            for name in self._names
        )


@dataclass(slots=True)
class Answer:
    """What has been generated so far. `spell` gives the tokens of a text: a label can end inside a token."""

    spell: Callable[[str], Sequence[int]]
    completion: str = ""
    token_ids: list[int] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    first_token_milliseconds: float | None = None
    finish: Finish | None = None
    failure: str | None = None  # the sentence for the member
    impersonates: bool = False
    _labels: Labels = field(default_factory=lambda: Labels("", ()))
    _before: str = ""  # a tag that the prompt ends with
    _pieces: list[Piece] | None = field(default_factory=list)  # until the beginning is settled

    def begin(self, labels: Labels, *, reasoning: bool) -> None:
        """Start over; `reasoning` says that the prompt opened `<think>`, so that the model will not."""
        self._labels = labels
        self._before = self.completion = "<think>" if reasoning else ""
        self.token_ids, self._pieces = [], []
        self.finish, self.impersonates = None, False

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        if self.first_token_milliseconds is None and (piece.text or piece.token_ids):
            self.first_token_milliseconds = self.elapsed_milliseconds
        self.completion += piece.text
        self.token_ids += piece.token_ids
        self.finish = piece.finish or self.finish
        if self._pieces is not None:
            self._pieces.append(piece)
            self._settle(ended=piece.finish is not None)

    def end(self) -> None:
        """Note that no more will come."""
        self._settle(ended=True)

    @property
    def presentable(self) -> str:
        """Return what may be shown: nothing while it could still begin with a label."""
        return self.completion if self._pieces is None else ""

    @property
    def elapsed_milliseconds(self) -> float:
        return (time.monotonic() - self.started) * 1000

    def outcome(self, state: ReplyState) -> Outcome:
        first, finish = self.first_token_milliseconds, self.finish
        queued = max(0.0, first - finish.prompt_milliseconds) if first is not None and finish else 0.0
        return Outcome(
            state=state,
            completion=self.completion,
            completion_token_ids=tuple(self.token_ids),
            finish_reason=finish.reason.value if finish else None,
            cached_tokens=finish.cached_tokens if finish else 0,
            queue_milliseconds=queued,
            first_token_milliseconds=first,
            total_milliseconds=self.elapsed_milliseconds,
        )

    def _settle(self, *, ended: bool) -> None:
        if self._pieces is None:
            return
        beginning = self._labels.beginning(self.completion, ended=ended)
        if not beginning.settled:
            return
        if beginning.impersonates:
            self.impersonates = True
            self.completion, self.token_ids = "", []
        elif beginning.start < beginning.end:
            start, end = (place - len(self._before) for place in (beginning.start, beginning.end))
            self.token_ids = _ids_without(self._pieces, start, end, self.spell)
            self.completion = self.completion[: beginning.start] + self.completion[beginning.end :]
        self._pieces = None


def _label_of(names: Sequence[str]) -> re.Pattern[str]:
    if not names:
        return re.compile(r"(?!)")
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    marks = rf"[{re.escape(_MARKS)}]{{0,{_MOST_MARKS}}}?(?P<mark>[*_]{{0,3}})"
    return re.compile(rf"{marks}(?:{either})(?:(?P=mark) ?[:：]|[:：](?P=mark))\s*", re.IGNORECASE)


def _ids_without(pieces: Sequence[Piece], start: int, end: int, spell: Callable[[str], Sequence[int]]) -> list[int]:
    """Return the pieces' ids without those of their text from `start` to `end`; what is cut in two is spelled anew."""
    ids: list[int] = []
    place = 0
    for piece in pieces:
        after = place + len(piece.text)
        if after <= start or place >= end:
            ids += piece.token_ids
        else:
            ids += spell(piece.text[: max(0, start - place)] + piece.text[max(0, end - place) :])
        place = after
    return ids
