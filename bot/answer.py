"""An answer while it is generated: its text and tokens, and whose label stands at the beginning of its lines.

Models that read labelled talk sometimes write labels of their own. The character's is taken out, of the text and of the
tokens, before any of it shows; another member's means that the character speaks for them, and the answer ends there.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bot import text
from bot.moderation.normalise import fold
from bot.records import Outcome, ReplyState
from models.types import Finish, FinishReason, Piece

_NUMBER = re.compile(r"#\d{4}\Z")  # what tells two labels of one look apart
_HEAD = re.compile(r"[^\n:：]{0,64}")  # what may be a label: the longest has 37 characters, and marks stand around it
CUT_NOTE = "Cut at the length limit; I can continue."
_SPOKE_FOR_ANOTHER = "I began to speak for somebody else, so I stopped; ask me for another version."
_MARKS = re.compile(r"[\s\[\](){}<>【】「」『』\"“”'‘’`|*_~#@]+")
_EMPHASIS = re.compile(r"[*_]+(?=[^\s*_])")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)]) ")  # a list may well say something of each member
_SPACE = re.compile(r"\s*")
_END = sys.maxsize


@dataclass(frozen=True, slots=True)
class Opening:
    """How a line begins: from `start` to `end` with the character's own label, then with another's or with text."""

    start: int
    end: int
    impersonates: bool = False


class Labels:
    """The label of the character and those of the members whom it must not speak for, in every way to write them.

    That is without the number and by the first word, too, whatever the case, width, accents and marks around it.
    """

    def __init__(self, own: str, others: Iterable[str]) -> None:
        whole = _folded(own)
        self._others = {name for other in others for name in _ways_to_write(other)} - {whole}
        self._own = set(_ways_to_write(own)) - self._others

    def opening(self, answer: str, start: int = 0, *, ended: bool = False) -> Opening | None:
        """Read how the line at `start` begins, behind hidden reasoning; None until enough of it is there.

        `ended` says that no more of the answer will come.
        """
        hidden = text.reasoning_ends(answer[start:])
        if hidden is None:
            return Opening(start, start) if ended else None
        start += hidden
        end = start
        while (head := _HEAD.match(answer, end)) and not _ITEM.match(head[0]):
            colon = head.end()
            if colon == len(answer) and not ended and self._may_become_label(head[0]):
                return None
            name = _folded(head[0]) if answer[colon : colon + 1] in (":", "：") else ""
            if name in self._others:
                return Opening(start, end, impersonates=True)
            if name not in self._own:
                break
            emphasis = _open_emphasis(head[0])
            mark = answer[colon + 1 : colon + 1 + len(emphasis)]
            if mark != emphasis:
                if emphasis.startswith(mark) and not ended:
                    return None
                break
            space = _SPACE.match(answer, colon + 1 + len(emphasis))
            assert space is not None  # it matches nothing, too
            end = space.end()
        return Opening(start, end)

    def _may_become_label(self, words: str) -> bool:
        begun = _MARKS.sub(" ", fold(words).text).lstrip()
        return any(name.startswith(begun) or name == begun.rstrip() for name in (*self._own, *self._others))


@dataclass(slots=True)
class Answer:
    """What has been generated so far. `spell` gives the tokens of a text: a label can end inside a token.

    `impersonates` says that it began as another member's and nothing of it is left.
    """

    spell: Callable[[str], Sequence[int]]
    started: float = field(default_factory=time.monotonic)
    first_token_milliseconds: float | None = None
    finish: Finish | None = None
    failure: str | None = None  # the sentence for the member
    impersonates: bool = False
    is_over: bool = False  # it went on as another member's
    hidden: str | None = None  # why the rest of it may not be shown
    _kept: str = ""  # of what is hidden: what was shown
    _labels: Labels = field(default_factory=lambda: Labels("", ()))
    _before: str = ""  # a tag that the prompt ends with
    _raw: str = ""  # with that tag and with labels
    _pieces: list[Piece] = field(default_factory=list)
    _removed: list[tuple[int, int]] = field(default_factory=list)  # spans of the raw text
    _line: int | None = 0  # where the line begins whose opening isn't read yet
    _read: int = 0  # how far the raw text is read

    def begin(self, labels: Labels, *, reasoning: bool) -> None:
        """Start over; `reasoning` says that the prompt opened `<think>`, so that the model will not."""
        self._labels = labels
        self._before = self._raw = "<think>" if reasoning else ""
        self._pieces, self._removed = [], []
        self._line = self._read = 0
        self.finish, self.impersonates, self.is_over = None, False, False

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        if self.first_token_milliseconds is None and (piece.text or piece.token_ids):
            self.first_token_milliseconds = self.elapsed_milliseconds
        self._raw += piece.text
        self._pieces.append(piece)
        self.finish = piece.finish or self.finish
        self._read_on(ended=piece.finish is not None)

    def end(self) -> None:
        """Note that no more will come."""
        self._read_on(ended=True)

    @property
    def completion(self) -> str:
        return self._without_labels(0, self._raw) if self.hidden is None else self._kept

    @property
    def token_ids(self) -> list[int]:
        """Return the tokens of the completion; a token that is cut in two is spelled anew."""
        if self.hidden is not None:
            return list(self.spell(self._kept))
        ids: list[int] = []
        place = len(self._before)
        for piece in self._pieces:
            after = place + len(piece.text)
            whole = not any(start < after and place < end for start, end in self._removed)
            ids += piece.token_ids if whole else self.spell(self._without_labels(place, piece.text))
            place = after
        return ids

    def hide(self, shown: str, why: str) -> None:
        """Keep of the answer what was shown alone."""
        self._kept, self.hidden = shown, why

    @property
    def presentable(self) -> str:
        """Return what may be shown: nothing of a line while it could still begin with a label."""
        return self._without_labels(0, self._raw[: self._line]).rstrip()

    @property
    def finish_reason(self) -> FinishReason | None:
        if self.is_over:
            return FinishReason.END
        return self.finish.reason if self.finish else None

    @property
    def elapsed_milliseconds(self) -> float:
        return (time.monotonic() - self.started) * 1000

    def ending(self, *, stopped_by_member: bool, closing: bool) -> tuple[ReplyState, list[str]]:
        """Return the state and what the small print below the text says of it."""
        if self.failure:
            return ReplyState.FAILED, [self.failure]
        if self.hidden:
            return ReplyState.STOPPED, []
        if self.impersonates:
            return ReplyState.DONE, [_SPOKE_FOR_ANOTHER]
        if self.finish_reason in (None, FinishReason.CANCELLED):
            if stopped_by_member:
                return ReplyState.STOPPED, ["Stopped."]
            if closing:
                return ReplyState.INTERRUPTED, ["I am restarting; ask me again in a moment."]
            return ReplyState.STOPPED, []
        return ReplyState.DONE, [CUT_NOTE] if self.finish_reason is FinishReason.LENGTH else []

    def outcome(self, state: ReplyState) -> Outcome:
        first, finish = self.first_token_milliseconds, self.finish
        queued = max(0.0, first - finish.prompt_milliseconds) if first is not None and finish else 0.0
        return Outcome(
            state=state,
            completion=self.completion,
            completion_token_ids=tuple(self.token_ids),
            finish_reason=f"hidden:{self.hidden}" if self.hidden else self.finish_reason,
            cached_tokens=finish.cached_tokens if finish else 0,
            queue_milliseconds=queued,
            first_token_milliseconds=first,
            total_milliseconds=self.elapsed_milliseconds,
        )

    def _read_on(self, *, ended: bool) -> None:
        while not self.is_over:
            if self._line is not None and not self._read_opening(self._line, ended=ended):
                return
            line_end = self._raw.find("\n", self._read)
            if line_end < 0:
                self._read = len(self._raw)
                return
            self._line = self._read = line_end + 1

    def _read_opening(self, line: int, *, ended: bool) -> bool:
        """Read how the line that begins at `line` opens and return whether that is certain."""
        hidden = text.is_hidden_between(self._without_labels(0, self._raw[:line]), self._raw[line:])
        if hidden is None and not ended:
            return False
        opening = Opening(line, line) if hidden else self._labels.opening(self._raw, line, ended=ended)
        if opening is None:
            return False
        if opening.impersonates:
            self._cut(line)
        elif opening.start < opening.end:
            self._removed.append((opening.start, opening.end))
        self._line, self._read = None, opening.end
        return True

    def _cut(self, line: int) -> None:
        """End the answer before a line, or take all of it back where nothing stands before."""
        self.is_over = True
        own = self._raw[:line].rstrip()
        self.impersonates = not text.visible(self._without_labels(0, own))
        self._removed.append((0 if self.impersonates else len(own), _END))

    def _without_labels(self, place: int, words: str) -> str:
        """Return `words`, which stand at `place` of the raw text, without what is removed."""
        for start, end in reversed(self._removed):
            words = words[: max(0, start - place)] + words[max(0, end - place) :]
        return words


def _ways_to_write(label: str) -> set[str]:
    plain = _NUMBER.sub("", label)
    first = next(iter(plain.split()), "")
    names = (label, plain, first if len(first) > 1 and not first.isdigit() else "")
    return set(filter(None, map(_folded, names)))


def _folded(label: str) -> str:
    return _MARKS.sub(" ", fold(label).text).strip()


def _open_emphasis(head: str) -> str:
    """Return the emphasis that opens before a name and isn't closed behind it."""
    opening = _EMPHASIS.match(head.lstrip())
    return opening[0] if opening and not head.rstrip().endswith(opening[0]) else ""
