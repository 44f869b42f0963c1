from __future__ import annotations

import time

import pytest

from bot.moderation.normalise import Forms
from bot.moderation.patterns import LONGEST_PATTERN, MOST_PATTERNS, Patterns


def test_a_pattern_is_found_in_text_as_written_and_without_its_disguises() -> None:
    patterns = Patterns([r"free\s+nitro", r"Ж{2}"])
    assert [f.detail for f in patterns.find(Forms("get FREE  Nitro"))] == [r"free\s+nitro"]
    (finding,) = patterns.find(Forms("get frее n\u200bitro!"))  # with Cyrillic e
    assert finding.text == "frее n\u200bitro"
    assert [f.text for f in patterns.find(Forms("ЖЖ"))] == ["ЖЖ"]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:(?:a|aa)+)+$", r"(.*a){30}b"])
def test_a_pattern_that_backtracks_for_ever_is_cut_off_and_rests(pattern: str) -> None:
    now = 0.0
    patterns = Patterns([pattern, "found"], clock=lambda: now)
    hostile = Forms("a" * 1900 + "! found")
    started = time.monotonic()
    for _ in range(6):
        assert [f.text for f in patterns.find(hostile)] == ["found"]
    assert time.monotonic() - started < 1.0
    assert patterns.resting == (pattern,)
    now = 601.0
    assert patterns.resting == ()


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "1 to"),
        ("a" * (LONGEST_PATTERN + 1), "1 to"),
        ("(", "not a regular expression"),
        ("a*", "every message"),
        ("(?:(?:a{999}){999}){999}b", "braces"),
        ("a{999999999999999999999}", "braces"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_reason(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Patterns([pattern])


def test_there_is_a_most_of_patterns() -> None:
    with pytest.raises(ValueError, match="remove one"):
        Patterns(str(number) for number in range(MOST_PATTERNS + 1))


def test_a_match_that_may_go_on_is_told_from_where_it_begins() -> None:
    patterns = Patterns([r"free\s+nitro"])
    assert patterns.open_from(Forms("get free ni")) == 4
    assert patterns.open_from(Forms("get free beer")) is None
