from __future__ import annotations

from models.engines.pieces import merged
from models.types import Finish, FinishReason, Piece


def test_merging_joins_text_ids_and_logprobs_and_keeps_the_finish() -> None:
    finish = Finish(FinishReason.END, 1, 0, 3, 1.0, 2.0)
    last = Piece("c", (3,), (-3.0,), finish)
    assert merged([Piece("a", (1,), (-1.0,)), Piece("b", (2,), (-2.0,)), last]) == Piece(
        "abc", (1, 2, 3), (-1.0, -2.0, -3.0), finish
    )
