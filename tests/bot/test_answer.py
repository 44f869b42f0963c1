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
        if answer.is_over:
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


IMPERSONATIONS = [
    "Mei 小美:",
    "mei：",
    "Alex#0001 :",
    "Alex: ",
    "Mei :",
    "ＭＥＩ:",
    "Mеi:",  # its second letter is Cyrillic
    "M\u200bei:",
    "**Mei**:",
    "*Mei:*",
    "**Mei:** ",
    "[Mei]:",
    "<Mei>:",
    "> Mei: ",
    "@Alex: ",
    "### Mei:",
    " \n_Mei_ ：",
    "Encore: Mei:",
]


@pytest.mark.parametrize("label", IMPERSONATIONS)
def test_a_members_label_is_impersonation_at_once(label: str) -> None:
    answer, shown = answered(*label, *"obey")
    assert answer.impersonates
    assert not any(shown)
    assert (answer.completion, answer.token_ids) == ("", [])


@pytest.mark.parametrize("label", IMPERSONATIONS)
def test_an_answer_ends_before_a_line_in_a_members_name(label: str) -> None:
    answer, shown = answered(*"Hi, Mei: ok\n\n", *label, *"obey")
    assert (answer.completion, answer.impersonates) == ("Hi, Mei: ok", False)
    assert shown[-1] == "Hi, Mei: ok"
    assert answer.token_ids == list(range(1000, 1011))
    assert answer.outcome(ReplyState.DONE).finish_reason == FinishReason.END


def test_a_line_in_a_members_name_that_begins_inside_a_token_is_taken_out_of_the_tokens_too() -> None:
    answer, shown = answered("Hel", "lo\nMe", "i: obey")
    assert shown == ["Hel", "Hello", "Hello"]
    assert answer.token_ids == [1000, *letters("lo")]


@pytest.mark.parametrize("own", ["Encore: ", "**encore:** ", "[Encore]：\n", "Encore : Encore: "])
def test_the_characters_label_is_taken_out_of_every_line(own: str) -> None:
    answer, shown = answered(*f"one\n{own}two\n{own}three")
    assert answer.completion == "one\ntwo\nthree"
    assert not any("ncore" in part for part in shown)


def test_every_speaker_of_the_prompt_counts() -> None:
    answer = Answer(letters)
    answer.begin(Labels("Encore", [f"Fan{number}" for number in range(40)]), reasoning=False)
    answer.add(Piece("Sure.\nFan39: I love it"))
    assert answer.completion == "Sure."


def test_a_first_word_shared_with_a_member_is_still_the_characters_whole_label() -> None:
    answer = Answer(letters)
    answer.begin(Labels("Mei Bot", ["Mei", "Mei Bot#0001"]), reasoning=False)
    answer.add(Piece("Mei Bot: yes\nMei: no"))
    assert answer.completion == "yes"


@pytest.mark.parametrize(
    "words",
    [
        "Mei",
        "Mei, see: this",
        "Mei 小美, you asked: why",
        "Mei and Alex: see",
        "I, Mei: no",
        "Note: this",
        "Answer: 42",
        "Step 1: wait",
        "Me: no",
        "Meiosis: a division",
        "Encore, again: now",
        "* Mei likes: tea",
        "- Mei: tea\n- Alex: coffee\n1. Mei: more tea\n* **Alex**: none",
        "at 10:30\nhttps://example.org",
    ],
)
def test_what_only_looks_like_a_label_is_text(words: str) -> None:
    for before in ("", "Hello.\n"):
        answer, shown = answered(*before, *words)
        assert not answer.is_over
        assert answer.completion == before + words
        assert len(shown) == len(answer.token_ids)


def test_words_that_begin_no_label_show_at_once() -> None:
    _, shown = answered(*"So\nMay")
    assert shown == ["S", "So", "So", "So", "So\nMa", "So\nMay"]


def test_hidden_reasoning_may_quote_a_member() -> None:
    answer, _ = answered("Hm <think>so\nMei: tea", "\nwell</think>", "\nMei: obey")
    assert answer.completion == "Hm <think>so\nMei: tea\nwell</think>"


@pytest.mark.parametrize("words", ["Use the <think> tag.", "So:\n<think> is a tag."])
def test_a_tag_that_is_only_mentioned_hides_no_label(words: str) -> None:
    answer, _ = answered(words, "\nMei", ": obey")
    assert answer.completion == words


def test_hidden_reasoning_behind_the_own_label_may_quote_a_member() -> None:
    answer, _ = answered("Encore: <think>so\nMei: tea", "</think>\nHi")
    assert answer.completion == "<think>so\nMei: tea</think>\nHi"


@given(
    st.sampled_from(["Encore: ", "**Encore:** ", "encore：", "Encore: encore: ", ""]),
    st.lists(
        st.one_of(
            st.sampled_from(
                ["Mei", "Encore", "Alex", ":", "\n", "**", "[", "]", "- ", "<think>", "</think>", " ", "hi"]
            ),
            st.text(alphabet="Encore: Mei*小美hi<>/tk\n", max_size=20),
        ),
        max_size=8,
    ).map("".join),
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
    assert answer.finish_reason == whole.finish_reason
    assert all(answer.completion.startswith(part) for part in shown)
