from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import regex

from bot.moderation.normalise import Forms
from bot.moderation.patterns import LONGEST_PATTERN, MATCH_SECONDS, MOST_PATTERNS, RESTS, UNFINISHED, Patterns, told


def test_a_pattern_is_found_in_text_as_written_and_without_its_disguises() -> None:
    patterns = Patterns([r"free\s+nitro", r"Ж{2}"])
    assert [f.detail for f in patterns.find(Forms("get FREE  Nitro"))] == [r"free\s+nitro"]
    (finding,) = patterns.find(Forms("get frее n\u200bitro!"))  # with Cyrillic e
    assert finding.text == "frее n\u200bitro"
    assert [f.text for f in patterns.find(Forms("ЖЖ"))] == ["ЖЖ"]


HOSTILE = [r"(a+)+$", r"(?:(?:a|aa)+)+$", r"(.*a){30}b"]
ALICE, BOB, CAROL = 1, 2, 3


def rules(patterns: Patterns, text: str) -> list[str]:
    return [found.rule for found in patterns.find(Forms(text))]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_pattern_that_cannot_be_finished_in_time_counts_as_found(pattern: str) -> None:
    patterns = Patterns([pattern, "found"])
    hostile = "a" * 1900 + "! found"
    started = time.thread_time()
    late, found = patterns.find(Forms(hostile))
    assert (late.rule, late.text, late.detail) == (UNFINISHED, hostile, pattern)
    assert (found.rule, found.text) == ("pattern", "found")
    assert time.thread_time() - started < 0.5
    (sentence,) = told([late, found])
    assert pattern in sentence and "couldn't be finished" in sentence


def test_a_match_behind_padding_is_found_and_no_member_alone_makes_a_pattern_rest() -> None:
    patterns = Patterns([r"(x|xx)+$|evil\.ru"])
    of_alice = patterns.on_texts_of(ALICE)
    for length in (60, 1900):
        for more in range(12):
            assert rules(of_alice, "x" * (length + more) + " see evil.ru now") == [UNFINISHED]
    assert rules(patterns.on_texts_of(BOB), "see evil.ru now") == ["pattern"]
    assert patterns.resting == ()


def test_a_pattern_rests_for_a_while_once_it_is_late_on_short_texts_of_several_members() -> None:
    now = 0.0
    patterns = Patterns([r"(a|aa)+$"], clock=lambda: now)
    short = "a" * 60 + "!"
    assert rules(patterns.on_texts_of(ALICE), short) == rules(patterns.on_texts_of(BOB), short) == [UNFINISHED]
    assert rules(patterns, short) == [UNFINISHED], "what was said before is read again for many a question"
    assert rules(patterns.on_texts_of(CAROL), short) == [UNFINISHED, RESTS]
    assert rules(patterns.on_texts_of(ALICE), short) == []
    assert patterns.resting == (r"(a|aa)+$",)
    now = 601.0
    assert patterns.resting == ()
    assert rules(patterns.on_texts_of(ALICE), short) == [UNFINISHED]


def test_a_pattern_that_is_late_on_long_texts_alone_rests_only_after_many_of_them() -> None:
    now = 0.0
    patterns = Patterns([r"(a|aa)+$"], clock=lambda: now)
    long = "a" * 300 + "!"
    for turn in range(3):
        now = turn * 601.0  # too few within ten minutes
        for member_id in (ALICE, BOB, CAROL) * 2:
            assert rules(patterns.on_texts_of(member_id), long) == [UNFINISHED]
    for member_id in (ALICE, BOB, CAROL):
        assert RESTS not in rules(patterns.on_texts_of(member_id), long)
    assert rules(patterns.on_texts_of(ALICE), long) == [UNFINISHED, RESTS]


def test_a_busy_process_makes_no_pattern_late() -> None:
    patterns = Patterns(["found"])
    given: list[float] = []

    class Interrupted:
        """Times out as the engine does when other threads use the process's time."""

        def finditer(self, text: str, *, partial: bool, timeout: float) -> Iterator[regex.Match[str]]:
            given.append(timeout)
            if len(given) < 4:
                raise TimeoutError
            return regex.finditer("found", text)

    patterns._compiled[0] = Interrupted()  # type: ignore[call-overload]
    assert rules(patterns, "it is found") == ["pattern"]
    assert given == [MATCH_SECONDS * times for times in (1, 2, 4, 8)]


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
