from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.answer import Answer, Labels
from bot.records import ReplyState
from models.types import Finish, FinishReason, Piece

LABELS = Labels("Encore", ["Mei 小美", "Mei", "Alex#0001"])
FINISH = Finish(FinishReason.END, 1, 0, 1, 0.0, 0.0)


def letters(text: str) -> list[int]:
    return list(map(ord, text))


def answered(*pieces: str, reasoning: bool = False) -> tuple[Answer, list[str]]:
    """Let an answer come in pieces of one token each; return it and what could be shown after each piece."""
    answer = Answer(letters)
    answer.begin(LABELS, reasoning=reasoning)
    shown = []
    for number, piece in enumerate(pieces):
        answer.add(Piece(piece, (1000 + number,)))
        shown.append(answer.presentable)
        if answer.impersonates:
            break
    answer.end()
    return answer, shown


def test_a_label_that_ends_inside_a_token_is_taken_out_of_the_tokens_too() -> None:
    answer, shown = answered("Enc", "ore: Hel", "lo")
    assert shown == ["", "Hel", "Hello"]
    assert answer.outcome(ReplyState.DONE).completion == "Hello"
    assert answer.token_ids == [*letters("Hel"), 1002]


def test_hidden_reasoning_before_a_label_is_kept() -> None:
    answer, shown = answered("plan", "</think>\n", "Encore:", " ", "Hi", reasoning=True)
    assert shown[:4] == [""] * 4
    assert answer.completion == "<think>plan</think>\nHi"
    assert answer.token_ids == [1000, 1001, 1004]


def test_the_end_of_a_turn_right_after_a_label_is_kept() -> None:
    answer = Answer(letters)
    answer.begin(LABELS, reasoning=False)
    answer.add(Piece("Encore: ", (1,)))
    answer.add(Piece("", (2,), finish=FINISH))
    assert (answer.completion, answer.token_ids) == ("", [2])


def test_a_name_at_the_very_end_is_text() -> None:
    answer, _ = answered("Enc", "ore")
    assert (answer.completion, answer.token_ids, answer.impersonates) == ("Encore", [1000, 1001], False)


@pytest.mark.parametrize("label", ["Mei 小美:", "mei：", "Alex#0001 :", "**Mei**:", "*Mei:*", " \n_Mei_ ："])
def test_a_members_label_is_impersonation_at_once(label: str) -> None:
    answer, shown = answered(*label)
    assert answer.impersonates
    assert not any(shown)
    assert (answer.completion, answer.token_ids) == ("", [])


@pytest.mark.parametrize("words", ["Alex: hi", "Mei", "Mei, see: this", "I, Mei: no", "Note: this", "* Mei likes: tea"])
def test_what_only_looks_like_a_label_is_text(words: str) -> None:
    answer, _ = answered(*words)
    assert not answer.impersonates
    assert answer.completion == words


@given(
    st.sampled_from(["Encore: ", "**Encore:** ", "encore：", "Encore: encore: ", ""]),
    st.text(alphabet="Encore: Mei*小美hi<>/tk\n", max_size=20),
    st.data(),
)
def test_no_way_of_cutting_an_answer_into_pieces_changes_what_it_says(
    label: str, words: str, data: st.DataObject
) -> None:
    whole, _ = answered(label + words)
    places = sorted(data.draw(st.sets(st.integers(0, len(label + words)), max_size=6)))
    cuts = [0, *places, len(label + words)]
    answer, shown = answered(*((label + words)[a:b] for a, b in pairwise(cuts)))
    assert (answer.completion, answer.impersonates) == (whole.completion, whole.impersonates)
    assert all(answer.completion.startswith(part) for part in shown)
