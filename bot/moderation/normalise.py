"""One normal form of a text in disguise, with a map back to where each character stood.

`clean` undoes what cannot be seen or is only another width; `fold` goes on to what only looks alike: case, accents and
stacked marks, homoglyphs, traditional characters; `unmark` takes off Discord's markup. Leetspeak, parted letters and
repeats are readings of a folded word (bot/moderation/blocklist.py), not of a text: "1" is a digit until the word around
it says otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

_DATA = Path(__file__).parent / "tables"
_CACHED_CHARACTERS = 1 << 16
# Shown as nothing, yet neither Cf nor marks that combine: fillers, joiners, variation selectors, the Braille blank.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0")
_EAST_ASIAN = "\u2e80"  # from here on, a mark is part of the letter (kana, Hangul)
_MODIFIERS = range(0x1F3FB, 0x1F400)  # skin tones
# The scripts without spaces, as a class of signs; each of their characters stands for itself.
SPACELESS = "\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKUP = re.compile(
    r"\[(?=[^\[\]\n]{1,100}\]\()|\]\([^()\n]{0,300}\)"  # [text](address) shows as the text
    r"|<a?:\w{2,32}:\d{1,20}>|:\w{1,32}:"  # a server's own emoji
    r"|\|(?:[3)<]|-\||_\|)"  # letters drawn by signs
    rf"|[*_~|`\\]+|(?<=[{SPACELESS}]) +(?=[{SPACELESS}])"
)
_DRAWN = {"|3": "b", "|)": "d", "|<": "k", "|-|": "h", "|_|": "u"}
_TURNED = dict(zip("ɐɔǝɟᵷɥᴉʞɯɹʇʌʍʎ", "acefghikmrtvwy", strict=True))  # upside down

_PERSIAN = dict(zip("۱۵۷", "157", strict=True))  # look like Latin letters, and are digits of numbers


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end`, the latter excluded, of the text as it was written."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A normal form; `origins[i]` is where character i of `text` stood in the text as it was written."""

    text: str
    origins: Sequence[int]

    def span(self, start: int, end: int) -> Span:
        """Return where characters `start` to `end` (not empty) stood, what was hidden between them included."""
        return Span(self.origins[start], self.origins[end - 1] + 1)

    def place(self, origin: int) -> int:
        """Return the first place in `text` whose character stood at `origin` or later."""
        low, high = 0, len(self.text)
        while low < high:
            middle = (low + high) // 2
            if self.origins[middle] < origin:
                low = middle + 1
            else:
                high = middle
        return low


class Forms:
    """A text and its normal forms, each made when first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def clean(self) -> Plain:
        return clean(self.text)

    @cached_property
    def folded(self) -> Plain:
        return fold(self.text)

    @cached_property
    def unmarked(self) -> Plain:
        return unmark(self.folded)

    @cached_property
    def letters(self) -> Plain:
        """The letters and digits of the folded text, with their places there."""
        return letters_of(self.folded)


def clean(text: str) -> Plain:
    """Return the text in NFKC without invisible characters and marks stacked on letters; case stays."""
    if text.isascii() and text.isprintable():
        return Plain(text, range(len(text)))
    return _mapped(text, _clean_character)


def fold(text: str) -> Plain:
    """Return `clean` in one case, without accents, look-alikes as Latin letters, Chinese in simplified characters."""
    if text.isascii() and text.isprintable():
        return Plain(text.lower(), range(len(text)))
    return _mapped(text, _fold_character)


def letters_of(plain: Plain) -> Plain:
    """Return the letters and digits of a normal form, with their places there."""
    places = [at for at, sign in enumerate(plain.text) if sign.isalnum()]
    return Plain("".join([plain.text[at] for at in places]), places)


def unmark(folded: Plain) -> Plain:
    """Return a folded text without the markup and emoji that may stand inside a word, the same if it has none."""
    letters, at = "", 0
    origins: list[int] = []
    for match in _MARKUP.finditer(folded.text):
        drawn = _DRAWN.get(match[0], "")
        letters += folded.text[at : match.start()] + drawn
        origins += folded.origins[at : match.start()] if not drawn else folded.origins[at : match.start() + 1]
        at = match.end()
    return Plain(letters + folded.text[at:], [*origins, *folded.origins[at:]]) if at else folded


def is_hidden(character: str) -> bool:
    """Return whether a character shows as nothing of its own: zero-width, bidi, control, a stacked mark."""
    if character < "\u0300":
        return character not in "\t\n" and unicodedata.category(character) in ("Cc", "Cf")
    category = unicodedata.category(character)
    return (
        category in ("Cc", "Cf", "Me", "Cs")
        or character in _BLANK
        or unicodedata.combining(character) != 0
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
        or ord(character) in _MODIFIERS
    )


def is_spaceless(character: str) -> bool:
    """Return whether a character belongs to a script that puts no spaces between words (Chinese, Japanese)."""
    return (
        "\u3041" <= character <= "\u30ff"
        or "\u3400" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


def _mapped(text: str, form: Callable[[str], str]) -> Plain:
    letters: list[str] = []
    origins: list[int] = []
    for index, character in enumerate(text):
        for letter in form(character):
            letters.append(letter)
            origins.append(index)
    return Plain("".join(letters), origins)


def _remembered(form: Callable[[str], str]) -> Callable[[str], str]:
    """Cache what becomes of a character, without lru_cache's cost a call."""
    known: dict[str, str] = {}

    def look_up(character: str) -> str:
        try:
            return known[character]
        except KeyError:
            if len(known) >= _CACHED_CHARACTERS:
                known.clear()
            known[character] = result = form(character)
            return result

    return look_up


@_remembered
def _clean_character(character: str) -> str:
    if is_hidden(character):
        return ""
    if character.isspace():
        return "\n" if character in "\n\u2028\u2029" else " "
    return "".join(letter for letter in unicodedata.normalize("NFKC", character) if not is_hidden(letter))


@_remembered
def _fold_character(character: str) -> str:
    look_alikes = _tables()
    if character in look_alikes:
        return look_alikes[character]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    folded: list[str] = []
    for letter in _clean_character(character).casefold():
        parts = unicodedata.normalize("NFD", letter) if letter < _EAST_ASIAN else letter
        folded += (look_alikes.get(part, part) for part in parts if not is_hidden(part))
    return "".join(folded)


@cache
def _tables() -> dict[str, str]:
    """Return look-alikes and traditional characters, each with how it reads."""
    lines = (_DATA / "look_alikes.txt").read_text("utf-8").splitlines()
    readings = dict(line.split("\t") for line in lines)
    traditional, simplified = (_DATA / "simplified.txt").read_text("utf-8").splitlines()
    table = {character: reading for reading, characters in readings.items() for character in characters}
    return table | _TURNED | _PERSIAN | dict(zip(traditional, simplified, strict=True))
