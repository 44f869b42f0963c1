"""Whether a text repeats the system prompt word for word, whatever its case, spacing, marks and disguises.

Only letters count, so that a prompt told in numbered words is found too; backwards, in rot13, base64 or hexadecimal it
is still word for word. A retelling in other words or another language is not found, nor is one over several answers;
nothing that must stay secret belongs in a system prompt.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterator

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms, Plain, is_spaceless

_SPACELESS_WEIGHT = 3  # a Chinese character says as much as three letters
_SHORTEST_PROMPT = 24  # letters; what is shorter may be said by chance
_NOTABLE = 12  # letters in common after which the rest is waited for
_BASE64_GROUP = 3  # bytes that four letters of base64 stand for


class PromptLeak:
    """The system prompt, prepared to be looked for."""

    def __init__(self, system_prompt: str, overlap: int) -> None:
        spellings = [*_spellings(system_prompt)]
        total = sum(map(_weight, spellings[0]))
        self._prompt = "\n".join(spellings)
        self._overlap = min(overlap, total)
        self._grams = frozenset(letters[start:end] for letters in spellings for start, end in self._stretches(letters))
        if total < _SHORTEST_PROMPT:
            self._grams = frozenset()
        # A gram covers one whole block of those that begin at each multiple of its size: most texts have none.
        self._block = (min(map(len, self._grams), default=1) + 1) // 2
        self._blocks = frozenset(
            letters[start : start + self._block]
            for letters in spellings
            for start in range(len(letters) - self._block + 1)
        )

    def find(self, forms: Forms) -> list[Finding]:
        """Return each stretch in common that is long enough."""
        if not self._grams:
            return []
        found = sorted(
            (read.origins[start], read.origins[end - 1] + 1)
            for read in _readings(forms)
            if self._is_near(read.text)
            for start, end in self._stretches(read.text)
            if read.text[start:end] in self._grams
        )
        whole: list[tuple[int, int]] = []
        for start, end in found:
            if whole and start <= whole[-1][1]:
                whole[-1] = (whole[-1][0], max(whole[-1][1], end))
            else:
                whole.append((start, end))
        return [Finding.at("system prompt", Category.PROMPT, forms, forms.folded, start, end) for start, end in whole]

    def _is_near(self, letters: str) -> bool:
        starts = range(0, len(letters), self._block)
        return any(letters[start : start + self._block] in self._blocks for start in starts)

    def open_from(self, forms: Forms) -> int | None:
        """Return where the end of the text begins to repeat the prompt, if that may become a leak."""
        if not self._grams:
            return None
        places = (self._open_place(read) for read in _readings(forms))
        return min((place for place in places if place is not None), default=None)

    def _open_place(self, read: Plain) -> int | None:
        letters = read.text
        longest, shortest = min(len(letters), self._overlap), 0
        while shortest < longest:  # if the last n letters are in the prompt, so are the last n - 1
            middle = (shortest + longest + 1) // 2
            if letters[-middle:] in self._prompt:
                shortest = middle
            else:
                longest = middle - 1
        if not shortest or sum(map(_weight, letters[-shortest:])) < _NOTABLE:
            return None
        return read.origins[-shortest]

    def _stretches(self, letters: str) -> Iterator[tuple[int, int]]:
        """Yield, for each start, the shortest stretch that weighs enough."""
        weights = [*map(_weight, letters)]
        end = weight = 0
        for start, lost in enumerate(weights):
            while weight < self._overlap and end < len(letters):
                weight += weights[end]
                end += 1
            if weight < self._overlap:
                return
            yield start, end
            weight -= lost


def _spellings(prompt: str) -> Iterator[str]:
    """Yield the letters of the prompt, as it is written first."""
    for written in (prompt, prompt[::-1], codecs.encode(prompt, "rot13")):
        yield _without_digits(Forms(written).letters).text
    raw = prompt.encode("utf-8", "replace")
    for start in range(_BASE64_GROUP):  # what stands before the prompt shifts its groups
        yield Forms(base64.b64encode(raw[start:]).decode()).letters.text
    yield raw.hex()


def _readings(forms: Forms) -> Iterator[Plain]:
    """Yield the letters of a text, with and without the digits between them."""
    yield forms.letters
    if not forms.letters.text.isalpha():
        yield _without_digits(forms.letters)


def _without_digits(letters: Plain) -> Plain:
    if letters.text.isalpha():
        return letters
    places = [at for at, letter in enumerate(letters.text) if letter.isalpha()]
    return Plain("".join([letters.text[at] for at in places]), [letters.origins[at] for at in places])


def _weight(letter: str) -> int:
    return _SPACELESS_WEIGHT if is_spaceless(letter) else 1
