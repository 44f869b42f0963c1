from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from models.engines.pieces import StopStrings, merged
from models.types import Finish, FinishReason, Piece


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def piece(text: str) -> Piece:
    return Piece(text, tuple(letters(text)), (-1.0,) * len(text))


def run(stop: tuple[str, ...], *texts: str) -> tuple[list[Piece], bool]:
    """Push one piece a text; return what came out, flushed unless a stop string was met."""
    strings = StopStrings(stop, letters)
    out: list[Piece | None] = []
    for text in texts:
        out.append(strings.push(piece(text)))
        if strings.met:
            break
    out.append(strings.flush())
    return [ready for ready in out if ready is not None], strings.met


def test_merging_joins_text_ids_and_logprobs_and_keeps_the_finish() -> None:
    finish = Finish(FinishReason.END, 1, 0, 3, 1.0, 2.0)
    last = Piece("c", (3,), (-3.0,), finish)
    assert merged([Piece("a", (1,), (-1.0,)), Piece("b", (2,), (-2.0,)), last]) == Piece(
        "abc", (1, 2, 3), (-1.0, -2.0, -3.0), finish
    )


def test_without_stop_strings_every_piece_passes_at_once() -> None:
    strings = StopStrings((), letters)
    assert strings.push(piece("a")) == piece("a")
    assert strings.flush() is None


def test_text_that_only_looks_like_a_stop_string_comes_out_late_and_whole() -> None:
    out, met = run(("\nAnn:",), "Hi", "\nAn", "d so on")
    assert [ready.text for ready in out] == ["Hi", "\nAnd so on"]
    assert not met


def test_stop_string_over_several_pieces_never_comes_out() -> None:
    out, met = run(("\nAnn:",), "Hi", "\nA", "nn", ": hello")
    assert out == [piece("Hi")]
    assert met


def test_text_before_a_stop_string_inside_a_piece_is_spelled_anew() -> None:
    out, met = run(("END",), "a", "bENDc")
    assert [ready.text for ready in out] == ["a", "b"]
    assert out[1].token_ids == (ord("b"),)
    assert math.isnan(out[1].logprobs[0])
    assert met


def test_stop_string_at_the_very_start_gives_nothing() -> None:
    assert run(("END",), "E", "ND") == ([], True)


def test_earliest_of_several_stop_strings_wins() -> None:
    out, met = run(("world", "lo"), "hel", "lo world")
    assert "".join(ready.text for ready in out) == "hel"
    assert met


def test_what_is_held_at_the_end_of_a_stream_is_not_lost() -> None:
    out, met = run(("\nAnn:",), "Hi", "\nAnn")
    assert "".join(ready.text for ready in out) == "Hi\nAnn"
    assert not met


@given(
    st.lists(st.text(alphabet="ab", max_size=3), max_size=12),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
)
def test_what_comes_out_is_the_text_before_the_first_stop_string_with_its_ids(
    texts: list[str], stop: list[str]
) -> None:
    out, met = run(tuple(stop), *texts)
    text = "".join(texts)
    found = [position for position in map(text.find, stop) if position >= 0]
    shown = "".join(ready.text for ready in out)
    assert met == bool(found)
    if not found:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert not any(string in shown for string in stop)
        assert len(shown) <= max(found)
    assert [token_id for ready in out for token_id in ready.token_ids] == letters(shown)
