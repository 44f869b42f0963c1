from __future__ import annotations

import statistics
import time
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.moderation.advice import CAUTIONS, HELP
from bot.moderation.blocklist import Blocklist
from bot.moderation.findings import Action, Audience, Category, Policy, default_policy
from bot.moderation.guard import MOST_HELD, Outcome, OutputGuard
from bot.moderation.patterns import UNFINISHED, Patterns

PROMPT = (
    "You are Marlow, a retired lighthouse keeper who speaks in short sentences and never talks about politics. "
    "Your secret is the wreck of the Amaranth. 你是一位退休的灯塔看守人，说话简短，从不谈论政治，也不透露沉船的秘密。"
)
POLICY = default_policy(
    Audience.GENERAL,
    words=Blocklist(["darn", "blow job", "傻逼", "frobnicate*"]),
    patterns=Patterns([r"free\s+nitro"]),
)
FINDINGS = [
    "darn",
    "d.a.r.n",
    "d a r n",
    "dаrn",
    "d\u200barn",
    "d4rn",
    "blow job",
    "frobnicates",
    "傻*逼",
    "free  nitro",
    "kim.lee@mail-host.com",
    "+44 7911 123456",
    "13812345678",
    "11010519491231002X",
    "4111 1111 1111 1111",
    "https://evil.example/path?x=1",
    "[click me](https://evil.example)",
    "discord.gg/abc123",
    "12 Willow Lane, Springfield, IL 62704",
    "212 867 5309",
    "john at gmail dot com",
    "Hauptstraße 5, 10115 Berlin",
    "5 rue de la Paix, 75002 Paris",
    "john . doe @ gmail . com",
    "微信号 zhang_wei88",
    "98765 43210",
    "Calle Mayor 5, 28013 Madrid",
    "Rua Augusta 12, 1100-053 Lisboa",
    "SSN 123-45-6789",
    "never talks about politics. Your secret is the wreck of the Amaranth",
    "NEVER*TALKS*ABOUT*POLITICS*YOUR*SECRET*IS*THE*WRECK*OF*THE*AMARANTH",
    "你是一位退休的灯塔看守人，说话简短，从不谈论政治，也不透露",
    "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs",
]
CLEAN_WORDS = st.sampled_from(
    """the lamp turns 12 times a night. In 1987, storm came! 灯塔 很 高。 He said: "no" (twice) classic as I
    a e.g. [1] 3.14 wikipedia.org https://en.wikipedia.org/wiki/Fog C++ `x = 1`""".split()  # noqa: SIM905
)
CLEAN = st.lists(CLEAN_WORDS, max_size=60).map(" ".join)


def chunks_of(text: str, cuts: list[int]) -> list[str]:
    """Return the growing texts that a stream would hand over."""
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    return [text[:end] for end in ends]


CUTS = st.lists(st.integers(0, 5000), max_size=40)


@given(CLEAN, st.sampled_from(FINDINGS), CLEAN, CUTS)
@settings(max_examples=400, deadline=None)
def test_a_finding_is_never_shown_in_whole_however_the_text_comes(
    before: str, finding: str, after: str, cuts: list[int]
) -> None:
    text = f"{before} {finding} {after}"
    guard = OutputGuard(POLICY, PROMPT)
    shown = ""
    for so_far in chunks_of(text, cuts):
        now = guard.feed(so_far)
        assert now.startswith(shown), "what was shown was deleted"
        shown = now
        assert finding not in shown
        assert so_far.startswith(shown)
    verdict = guard.finish(text)
    assert verdict.outcome is Outcome.HIDDEN
    assert verdict.text.startswith(shown.rstrip())
    assert finding not in verdict.text
    assert "left out" in verdict.notes[0] or "已隐去" in verdict.notes[0]


@given(CLEAN, CUTS)
@settings(max_examples=300, deadline=None)
def test_clean_text_comes_through_unchanged_and_soon(text: str, cuts: list[int]) -> None:
    guard = OutputGuard(POLICY, PROMPT)
    shown = ""
    for so_far in chunks_of(text, cuts):
        now = guard.feed(so_far)
        assert now.startswith(shown) and so_far.startswith(now)
        assert len(so_far) - len(now) <= MOST_HELD
        shown = now
    verdict = guard.finish(text)
    assert (verdict.outcome, verdict.text, verdict.notes) == (Outcome.CLEAN, text, ())


@given(st.text(max_size=400), CUTS)
@settings(max_examples=200, deadline=None)
def test_any_text_only_grows(text: str, cuts: list[int]) -> None:
    guard = OutputGuard(POLICY, PROMPT)
    shown = ""
    for so_far in chunks_of(text, cuts):
        now = guard.feed(so_far)
        assert now.startswith(shown) and so_far.startswith(now)
        shown = now
    verdict = guard.finish(text)
    assert verdict.text.rstrip().startswith(shown.rstrip())


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_beginning_of_a_finding_is_kept_back_too(finding: str) -> None:
    guard = OutputGuard(POLICY, PROMPT)
    text = f"So it goes. {finding} and on"
    longest = max((guard.feed(text[:end]) for end in range(len(text) + 1)), key=len)
    # The first letters of what the prompt says, and a Chinese town's name, are no news yet.
    assert len(longest) <= len("So it goes. ") + 12


def test_a_word_that_turns_out_harmless_shows() -> None:
    policy = replace(POLICY, words=Blocklist(["ass"]))
    guard = OutputGuard(policy, PROMPT)
    assert guard.feed("An ass") == "An "
    assert guard.feed("An assassin, ") == "An assassin, "
    assert not guard.hidden


def test_plain_prose_waits_for_no_more_than_a_word() -> None:
    guard = OutputGuard(POLICY, PROMPT)
    text = "The lamp is lit at dusk, and the keeper walks the stairs to see the boats come home before the fog."
    held = [end - len(guard.feed(text[:end])) for end in range(len(text))]
    assert max(held) <= 12


def test_words_stuffed_with_hidden_characters_are_not_shown_either() -> None:
    word = "d" + "\u200b" * 900 + "arn"
    guard = OutputGuard(POLICY, PROMPT)
    text = f"Oh {word} " + "and so on " * 60
    for end in range(0, len(text), 7):
        assert word not in guard.feed(text[:end])
    assert guard.hidden


def test_a_new_try_begins_anew() -> None:
    guard = OutputGuard(POLICY, PROMPT)
    assert guard.feed("Well darn it ") == "Well "
    assert guard.feed("Good evening to you ") == "Good evening to you "


def test_cautions_come_once_and_a_crisis_comes_first() -> None:
    guard = OutputGuard(POLICY, PROMPT, question="I want to kill myself")
    answer = "You should take 400 mg of ibuprofen. You should also check the dosage."
    assert guard.finish(answer).notes == (HELP[0], CAUTIONS["medical"][0])
    chinese = OutputGuard(POLICY, PROMPT, question="发烧要不要吃布洛芬？").finish("先多喝水，好好休息。")
    assert chinese.notes == (CAUTIONS["medical"][1],)


def test_what_the_policy_ignores_is_shown_and_told() -> None:
    policy = replace(POLICY, answers=MappingProxyType({Category.WORD: Action.QUEUE}))
    verdict = OutputGuard(policy, PROMPT).finish("Well darn it")
    assert (verdict.outcome, verdict.text) == (Outcome.CLEAN, "Well darn it")
    assert [finding.category for finding in verdict.findings] == [Category.WORD]


def test_adults_may_read_listed_words_but_no_leak() -> None:
    policy = default_policy(Audience.ADULT, words=POLICY.words)
    assert OutputGuard(policy, PROMPT).finish("Well darn it").outcome is Outcome.CLEAN
    assert OutputGuard(policy, PROMPT).finish(PROMPT).outcome is Outcome.HIDDEN


def test_a_short_system_prompt_may_be_said_by_chance() -> None:
    assert OutputGuard(Policy(), "Be nice.").finish("Be nice.").outcome is Outcome.CLEAN


@pytest.mark.parametrize("sentence", ["The lamp turns, and no boat comes home tonight. ", "灯塔很高，今晚没有船回来。"])
def test_a_chunk_costs_less_than_a_millisecond(sentence: str) -> None:
    guard = OutputGuard(default_policy(Audience.GENERAL, words=POLICY.words), PROMPT)
    text = (sentence * 100)[:2000]
    costs = []
    for end in range(4, len(text), 4):
        started = time.thread_time()
        guard.feed(text[:end])
        costs.append(time.thread_time() - started)
    assert statistics.quantiles(costs, n=20)[-1] < 0.001


def test_an_answer_that_a_pattern_cannot_be_finished_on_ends_there_and_says_why() -> None:
    guard = OutputGuard(replace(POLICY, patterns=Patterns([r"(x|xx)+$"]).on_texts_of(1)), PROMPT)
    said = "Well, " + "x" * 60 + " and so on, for quite a while."
    assert guard.feed(said[:40]) == guard.feed(said[:70]) == "Well, "
    assert guard.hidden
    verdict = guard.finish(said[:70])
    assert verdict.hidden and verdict.text == "Well,"
    assert UNFINISHED in [found.rule for found in verdict.findings]
