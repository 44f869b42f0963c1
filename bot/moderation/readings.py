"""A word's readings: leetspeak, repeated letters, letters parted by marks or spaces. Knows folded text, no lists.

Everything is compared by runs of letters: "shiit" is s-h-i-t with a stretched i, and "sh1!t" is not, since two signs
in a row are two letters ("tilt" is not "tit").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bot.moderation.normalise import SPACELESS

# Letters that are written for each other share one of them: "l" and "1" for "i", "v" for "u".
_READ_AS = {
    **dict(zip("0134578", "oieastb", strict=True)),
    **dict(zip("69@$!|+(<", "ggasiitcc", strict=True)),
    **dict(zip("€£¢lv", "eiciu", strict=True)),
}
_SYMBOLS = "@$!|+(<€£¢"
CHUNK = re.compile(rf"[^\s{SPACELESS}]+")  # of scripts with spaces
_WORD = re.compile(r"[^\W_]+")
_PIECE = re.compile(rf"(?:[^\W_]|[{re.escape(_SYMBOLS)}])+")
_LETTER = rf"(?:[^\W_{SPACELESS}]|[@$!])(?![^\W_])"
_GAP = rf"(?:[^\w@$!{SPACELESS}_]|_){{1,6}}"
_PARTED = re.compile(rf"(?<![^\W_])(?:{_LETTER}{_GAP}){{2,}}{_LETTER}")
_PARTED_TAIL = re.compile(rf"(?<![^\W_])(?:{_LETTER}{_GAP})+(?:{_LETTER})?\Z")
_LONGEST_WORD = 64  # letters; more is no word of any list
_LONGEST_TAIL = 160


class Run(NamedTuple):
    """The same letter some times in a row, at `start` to `end` of the text; `signs` counts the different ways it is
    written in a row: "1!" is one run of two signs, "11" of one."""

    letter: str
    times: int
    signs: int
    start: int
    end: int

    def covers(self, wanted: Run) -> bool:
        """Return whether this may be a stretched `wanted`: more of the same letter, but no other sign for it."""
        return self.letter == wanted.letter and self.times >= wanted.times and self.signs <= wanted.times


def runs(letters: str, places: Sequence[int]) -> tuple[Run, ...]:
    """Return the runs of `letters`, which stand at `places` of a text."""
    found: list[Run] = []
    letter = before = ""
    count = signs = start = end = 0
    for sign, place in zip(letters, places, strict=True):
        read = _READ_AS.get(sign, sign)
        if read == letter:
            count, signs = count + 1, signs + (sign != before)
        else:
            if letter:
                found.append(Run(letter, count, signs, start, end))
            letter, count, signs, start = read, 1, 1, place
        before, end = sign, place + 1
    if letter:
        found.append(Run(letter, count, signs, start, end))
    return tuple(found)


def signs_of(letter: str) -> str:
    """Return every sign that may be written for a letter, itself included."""
    read = _READ_AS.get(letter, letter)
    return read + "".join(sign for sign, other in _READ_AS.items() if other == read)


class Word(NamedTuple):
    """A word of a text at `start` to `end`, as `letters`."""

    letters: str
    start: int
    end: int

    @property
    def runs(self) -> tuple[Run, ...]:
        return runs(self.letters, range(self.start, self.end))


def words(text: str) -> Iterator[tuple[Word, ...]]:
    """Yield each word of a folded text in the ways it may be delimited: "$hit!" is that, "$hit", "hit!" and "hit"."""
    for chunk in CHUNK.finditer(text):
        for piece in _PIECE.finditer(chunk[0]):
            start, letters = chunk.start() + piece.start(), piece[0]
            if letters.isalnum():
                if len(letters) <= _LONGEST_WORD:
                    yield (Word(letters, start, start + len(letters)),)
                continue
            right, left = letters.rstrip(_SYMBOLS), letters.lstrip(_SYMBOLS)
            shift = start + len(letters) - len(left)
            ways = [Word(letters, start, start + len(letters)), Word(right, start, start + len(right))]
            ways += [Word(left, shift, start + len(letters))]
            ways += [Word(word[0], start + word.start(), start + word.end()) for word in _WORD.finditer(letters)]
            both = left.rstrip(_SYMBOLS)
            ways += [Word(both, shift, shift + len(both))]
            yield tuple(dict.fromkeys(way for way in ways if 0 < len(way.letters) <= _LONGEST_WORD))


def joined(text: str) -> Iterator[tuple[Run, ...]]:
    """Yield words whose letters are parted by signs and not by spaces: "s.h.i.t", "sh-it", "$.h.1.t"."""
    for chunk in CHUNK.finditer(text):
        written = chunk[0]
        if written.isalnum():
            continue
        pieces = list(_WORD.finditer(written))
        if len(pieces) < 2 and "@" not in written and "$" not in written:
            continue
        if any(mark in written for mark in "'’") and any(len(piece[0]) > 1 for piece in pieces):
            continue  # "he'll" is not "hell"
        for signs in ("", "@$!"):
            places = [at for at, sign in enumerate(written) if sign.isalnum() or sign in signs]
            if 1 < len(places) <= _LONGEST_WORD:
                yield runs("".join(written[at] for at in places), [chunk.start() + at for at in places])


def parted(text: str) -> Iterator[tuple[Run, ...]]:
    """Yield three or more single letters that up to six spaces or marks part from each other: "s h i t"."""
    for match in _PARTED.finditer(text):
        places = [at for at in range(match.start(), match.end()) if text[at].isalnum() or text[at] in "@$!"]
        yield runs("".join(text[at] for at in places), places)


def parted_tail(text: str) -> int | None:
    """Return where parted letters begin that may go on after the end of the text."""
    match = _PARTED_TAIL.search(text, max(0, len(text) - _LONGEST_TAIL))
    return match.start() if match else None
