"""What engines do to pieces before they hand them on: merge those that wait."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
