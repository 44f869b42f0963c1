from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.moderation.normalise import clean, fold, is_hidden


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Hello", "hello"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("z\u200be\u2060r\u200do", "zero"),
        ("\u202eright\u202c to left", "right to left"),
        ("za\u0300\u0489\u0316\u0321l\u0334g\u0337o", "zalgo"),
        ("раура1", "paypa1"),  # Cyrillic but for the digit
        ("𝓬𝓾𝓻𝓼𝓲𝓿𝓮 𝔣𝔯𝔞𝔨𝔱𝔲𝔯", "cursive fraktur"),
        ("🅱🅰🅳 🇧🇦🇩 ⓑⓐⓓ", "bad bad bad"),
        ("Café naïve Łódź", "cafe naive lodz"),
        ("ꓐɑԁ", "bad"),
        ("straße", "strasse"),
        ("臺灣的龍", "台湾的龙"),
        ("ﾊﾛｰ", "ハロー"),
        ("한국어", "한국어"),
        ("b\u3164a\u115fd", "bad"),
        ("1\ufe0f\u20e3", "1"),
    ],
)
def test_disguises_are_read_through(written: str, read: str) -> None:
    assert fold(written).text == read


def test_clean_keeps_case_and_letters_that_only_look_alike() -> None:
    assert clean("ＡＢ\u200bc а").text == "ABc а"


def test_a_line_stays_a_line_and_other_white_space_is_a_space() -> None:
    assert fold("a\tb\u00a0c\nd\u2028e\r\n").text == "a b c\nd\ne\n"


def test_a_span_holds_what_was_hidden_inside() -> None:
    written = "so b\u200b\u200ba\u0301d\u0301!"
    plain = fold(written)
    start = plain.text.index("bad")
    span = plain.span(start, start + 3)
    assert written[span.start : span.end] == "b\u200b\u200ba\u0301d"


@given(st.text())
def test_every_character_stands_where_its_origin_says(text: str) -> None:
    for form in (clean, fold):
        plain = form(text)
        assert len(plain.origins) == len(plain.text)
        assert list(plain.origins) == sorted(plain.origins)
        assert not any(is_hidden(character) for character in plain.text)
        for origin in set(plain.origins):
            alone = form(text[origin]).text
            at = plain.place(origin)
            assert plain.text[at : at + len(alone)] == alone


@given(st.text(st.characters(max_codepoint=0x2FFF)))
def test_folding_what_is_folded_changes_nothing_but_order(text: str) -> None:
    once = fold(text).text
    assert fold(unicodedata.normalize("NFC", once)).text == once
