"""What engines do to pieces before they hand them on: merge those that wait, hold back what may be a stop string."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from models.types import Piece

UNKNOWN_LOGPROB = math.nan  # of a token that the engine did not sample or does not tell


def merged(pieces: Sequence[Piece]) -> Piece:
    """Return adjacent pieces as one; only the last may carry a finish."""
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        "".join(piece.text for piece in pieces),
        tuple(token_id for piece in pieces for token_id in piece.token_ids),
        tuple(logprob for piece in pieces for logprob in piece.logprobs),
        pieces[-1].finish,
    )


class StopStrings:
    """Pass pieces on until a stop string is met; neither its text nor its tokens ever come out.

    llama.cpp could look for them too, but it loses the text that it holds back when the length limit ends a stream.
    `spell` gives the ids of a text: where a stop string begins inside a token, what comes before it is spelled anew.
    """

    def __init__(self, stop: Sequence[str], spell: Callable[[str], Sequence[int]]) -> None:
        self._stop = tuple(filter(None, stop))
        self._spell = spell
        self._held: list[Piece] = []
        self.met = False

    def push(self, piece: Piece) -> Piece | None:
        """Take the next piece; return what is certain to come before any stop string, None if nothing yet is."""
        if not self._stop:
            return piece
        self._held.append(piece)
        text = "".join(held.text for held in self._held)
        found = [position for position in map(text.find, self._stop) if position >= 0]
        if found:
            self.met = True
            return self._release(min(found), respell=True)
        return self._release(len(text) - self._possible_beginning(text), respell=False)

    def flush(self) -> Piece | None:
        """Return what is still held back; for the end of a stream."""
        held, self._held = self._held, []
        return merged(held) if held else None

    def _possible_beginning(self, text: str) -> int:
        """Return how many characters at the end of `text` could begin a stop string."""
        longest = min(len(text), max(map(len, self._stop)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0

    def _release(self, length: int, *, respell: bool) -> Piece | None:
        """Return the held pieces that end within the first `length` characters."""
        ready: list[Piece] = []
        while self._held and len(self._held[0].text) <= length:
            if respell and length == 0:
                break
            piece = self._held.pop(0)
            length -= len(piece.text)
            ready.append(piece)
        if respell:
            if length:
                ids = tuple(self._spell(self._held[0].text[:length]))
                ready.append(Piece(self._held[0].text[:length], ids, (UNKNOWN_LOGPROB,) * len(ids)))
            self._held.clear()
        return merged(ready) if ready else None
