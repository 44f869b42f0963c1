from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import text

FENCED = "Before.\n\n```python\n" + "\n".join(f"print({n})  # line" for n in range(300)) + "\n```\n\nAfter."


def test_short_text_is_one_message() -> None:
    assert text.split("hello") == ["hello"]


def test_paragraphs_stay_whole_where_they_fit() -> None:
    first, second = "a" * 1200, "b" * 1200
    assert text.split(f"{first}\n\n{second}") == [first, second]


def test_a_cut_fence_is_closed_and_opened_again_with_its_language() -> None:
    parts = text.split(FENCED)
    assert len(parts) > 2
    for part in parts:
        assert len(part) <= text.MESSAGE_LIMIT
        assert sum(line.startswith("```") for line in part.split("\n")) % 2 == 0
    assert all(part.startswith("```python\n") for part in parts[1:-1])
    printed = re.findall(r"print\((\d+)\)", "\n".join(parts))
    assert printed == [str(n) for n in range(300)]


def test_an_unfinished_fence_is_closed_while_it_streams() -> None:
    assert text.split("```\nhalf a lin") == ["```\nhalf a lin\n```"]


@given(st.text(alphabet=st.sampled_from("ab \n`。.!字😀"), max_size=600), st.integers(20, 80))
def test_every_part_fits_and_no_word_is_lost(original: str, limit: int) -> None:
    parts = text.split(original, limit)
    assert all(len(part) <= limit for part in parts)
    kept = re.sub(r"[\s`]", "", "".join(parts))
    assert kept.count("字") >= original.count("字")
    assert [c for c in kept if c in "。.!字😀"] == [c for c in original if c in "。.!字😀"] or "```" in original


@given(st.text(alphabet=st.sampled_from("ab \n。."), min_size=1, max_size=400), st.integers(1, 60))
def test_a_growing_text_never_moves_the_cuts_already_made(original: str, more: int) -> None:
    limit = 60
    before, after = text.split(original, limit), text.split(original + "c" * more, limit)
    for earlier, later in zip(before[:-1], after, strict=False):
        assert later == earlier


def test_small_print_stands_outside_an_open_fence() -> None:
    assert text.close_fence("see\n```py\nx = 1") == "see\n```py\nx = 1\n```"
    assert text.close_fence("see\n```py\nx = 1\n```") == "see\n```py\nx = 1\n```"


@pytest.mark.parametrize("ping", ["@everyone", "@here", "<@123>", "<@!123>", "<@&99>", "@EVERYONE", "hi @everyone!"])
def test_harmless_text_pings_nobody(ping: str) -> None:
    assert not re.search(r"@(everyone|here)|<@[!&]?\d", text.harmless(ping), re.IGNORECASE)


def test_harmless_leaves_plain_text_alone() -> None:
    assert text.harmless("mail a@b.c, 今天天气怎么样？ <3") == "mail a@b.c, 今天天气怎么样？ <3"


@pytest.mark.parametrize(
    ("completion", "shown"),
    [
        ("<think>secret</think>Hello", "Hello"),
        ("<think>still going", ""),
        ("Hello <think>aside</think> there", "Hello there"),
        ("<THINK>x</THINK>ok", "ok"),
        ("<think>a plan\n</think>\nHello", "Hello"),
        ("Use </think> tag: hello", "Use </think> tag: hello"),
        ("Hi <think>a</think> there </think> x", "Hi there </think> x"),
        ("a < b", "a < b"),
    ],
)
def test_hidden_reasoning_is_never_visible(completion: str, shown: str) -> None:
    assert text.visible(completion) == shown


@pytest.mark.parametrize("completion", ["so cute >_<", "sad :<", "if a <t", "<", "it begins with <think"])
def test_a_tag_that_has_only_begun_is_held_back_no_longer_than_the_text_grows(completion: str) -> None:
    assert text.visible(completion) == completion
    assert text.visible(completion, growing=True) == completion[: completion.rindex("<")].rstrip()


@pytest.mark.parametrize(
    ("completion", "reasoning"),
    [
        ("<think>a plan", True),
        ("<think>a</think>Hi", False),
        ("Hi <think>a", True),
        ("Hi </think>", False),
        ("", False),
    ],
)
def test_a_completion_that_ends_inside_hidden_reasoning_is_known(completion: str, reasoning: bool) -> None:
    assert text.is_reasoning(completion) is reasoning


def test_normalise_keeps_chinese_emoji_and_persian_joiners() -> None:
    for kept in ("今天天气怎么样？", "👩‍👩‍👧", "می‌خواهم", "Việt Nam", "ขอบคุณครับ", "שָׁלוֹם"):
        assert text.normalise(kept) == kept


def test_normalise_drops_zalgo_nulls_overrides_and_surrogates() -> None:
    assert text.normalise("a" + "\u0301" * 50 + "\x00b\u202ec\ud800") == "á" + "\u0301" * 4 + "bc\ufffd"


def test_labels_are_one_line_without_markup() -> None:
    assert text.label("Evil\nBob: <@1> **x**") == "Evil Bob 1 x"
    assert text.label("\u200b\u202e") == "member"
    assert text.label("名" * 80) == "名" * 32
