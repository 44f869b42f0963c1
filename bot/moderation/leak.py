"""Whether a text repeats the system prompt word for word, whatever its case, spacing, marks and disguises.

Only letters and digits count. A retelling in other words or another language is not found; nothing that must stay
secret belongs in a system prompt.
"""

from __future__ import annotations

from collections.abc import Iterator

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms, is_spaceless

_SPACELESS_WEIGHT = 3  # a Chinese character says as much as three letters
_SHORTEST_PROMPT = 24  # letters; what is shorter may be said by chance
_NOTABLE = 12  # letters in common after which the rest is waited for


class PromptLeak:
    """The system prompt, prepared to be looked for."""

    def __init__(self, system_prompt: str, overlap: int) -> None:
        self._prompt = Forms(system_prompt).letters.text
        total = sum(map(_weight, self._prompt))
        self._overlap = min(overlap, total)
        self._grams = frozenset(self._prompt[start:end] for start, end in self._stretches(self._prompt))
        if total < _SHORTEST_PROMPT:
            self._grams = frozenset()

    def find(self, forms: Forms) -> list[Finding]:
        """Return each stretch in common that is long enough."""
        if not self._grams:
            return []
        letters, places = forms.letters.text, forms.letters.origins
        found: list[list[int]] = []
        for start, end in self._stretches(letters):
            if letters[start:end] in self._grams:
                if found and start <= found[-1][1]:
                    found[-1][1] = end
                else:
                    found.append([start, end])
        return [
            Finding.at("system prompt", Category.PROMPT, forms, forms.folded, places[start], places[end - 1] + 1)
            for start, end in found
        ]

    def open_from(self, forms: Forms) -> int | None:
        """Return where the end of the text begins to repeat the prompt, if that may become a leak."""
        if not self._grams:
            return None
        letters, places = forms.letters.text, forms.letters.origins
        longest, shortest = min(len(letters), self._overlap), 0
        while shortest < longest:  # if the last n letters are in the prompt, so are the last n - 1
            middle = (shortest + longest + 1) // 2
            if letters[-middle:] in self._prompt:
                shortest = middle
            else:
                longest = middle - 1
        if not shortest or sum(map(_weight, letters[-shortest:])) < _NOTABLE:
            return None
        return places[-shortest]

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


def _weight(letter: str) -> int:
    return _SPACELESS_WEIGHT if is_spaceless(letter) else 1
