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


def without_added_marks(parts: list[str], original: str) -> str:
    """Return the text that the parts show, with the original's white space where it was cut."""
    place = 0
    for part in parts:
        body = part.strip()
        if original[:place].count("```") % 2:
            opening, _, body = body.partition("\n")
            assert opening.startswith("```")
        body = body.strip()
        place += len(original[place:]) - len(original[place:].lstrip())
        if not original.startswith(body, place):
            body = body.removesuffix("```").rstrip()
        assert original.startswith(body, place), (part, original[place:])
        place += len(body)
        if original[:place].count("```") % 2 and original[place:].lstrip().startswith("```"):
            place = original.index("```", place) + 3  # the mark that closed the part is the original's
    return original[:place]


PIECES = ["```", "`", "``", "py", "py\n", "\n", "\n\n", "    ", " ", "word", ". ", "。", "!", "字", "😀", "x" * 30]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=150).map("".join)


@given(TEXTS | st.text(), st.integers(40, 80))
def test_every_part_fits_with_its_fences_closed_and_nothing_is_lost(original: str, limit: int) -> None:
    parts = text.split(original, limit)
    assert all(len(part) <= limit for part in parts)
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert without_added_marks(parts, original).rstrip() == original.rstrip()


@given(TEXTS, TEXTS)
def test_a_growing_text_never_moves_the_cuts_already_made(original: str, more: str) -> None:
    before, after = text.split(original, 60), text.split(original + more, 60)
    for earlier, later in zip(before[:-1], after, strict=False):
        assert later == earlier
    assert len(after) >= len(before) - 1


CODE = "\n".join(f"print({n})" for n in range(400))


@pytest.mark.parametrize(
    ("before", "opening"), [("Here is code: ", "```python"), ("- so:\n    ", "```python"), ("", "```"), ("a", "```")]
)
def test_a_fence_is_cut_as_discord_sees_it_wherever_it_stands(before: str, opening: str) -> None:
    first, *middle, last = text.split(f"{before}{opening}\n{CODE}\n```\nDone.")
    assert first.startswith(f"{before}{opening}\nprint(0)\n")
    assert first.endswith(")\n```")
    assert all(part.startswith(f"{opening}\nprint(") and part.endswith(")\n```") for part in middle)
    assert last.endswith(")\n```\nDone.")


def test_words_after_a_mark_are_no_language() -> None:
    assert text.split("```python is my favourite\n" + CODE)[1].startswith("```\nprint(")


def test_a_fence_that_ends_where_the_text_is_cut_is_not_opened_again() -> None:
    code = "x" * 30 + "\n" + "y" * 18
    assert text.split(f"```\n{code}\n```\nDone.", 60) == [f"```\n{code}\n```", "Done."]
    assert text.split("z" * 40 + "\n```py\nx = 1\n```", 56) == ["z" * 40, "```py\nx = 1\n```"]


def test_small_print_stands_outside_an_open_fence() -> None:
    assert text.close_fence("see\n```py\nx = 1") == "see\n```py\nx = 1\n```"
    assert text.close_fence("see: ```py\nx = 1") == "see: ```py\nx = 1\n```"


@pytest.mark.parametrize(
    "closed", ["see\n```py\nx = 1\n```", "Run this:\n```pip install x```\nThen enjoy.", "- so\n    ```\n    x\n    ```"]
)
def test_a_fence_that_is_closed_gets_no_further_mark(closed: str) -> None:
    assert text.close_fence(closed) == closed
    assert text.split(closed) == [closed]


@pytest.mark.parametrize("ping", ["@everyone", "@here", "<@123>", "<@!123>", "<@&99>", "@EVERYONE", "hi @everyone!"])
def test_harmless_text_pings_nobody(ping: str) -> None:
    assert not re.search(r"@(everyone|here)|<@[!&]?\d", text.harmless(ping), re.IGNORECASE)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("**Encore security:** _verify_", r"\*\*Encore security:\*\* \_verify\_"),
        ("[here](https://evil.example/log_in)", r"\[here\]\(https://evil.example/log_in\)"),
        ("[[here](https://evil.example)", r"\[\[here\]\(https://evil.example\)"),
        (r"\[here](https://evil.example)", r"\\\[here\]\(https://evil.example\)"),
        ("# big\n-# small\n> quote", "\\# big\n\\-\\# small\n\\> quote"),
        ("||https://evil.example||", r"\|\|https://evil.example\|\|"),
        ("今天天气怎么样？ it's 5.", "今天天气怎么样？ it's 5."),
    ],
)
def test_what_was_typed_shows_as_that(typed: str, written: str) -> None:
    assert text.as_written(typed) == written


def test_what_was_typed_pings_nobody() -> None:
    assert not re.search(r"@(everyone|here)|<@", text.as_written("@everyone <@1> <@&2>"))


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
        ("Use the <think> tag to reason. Then answer me.", "Use the <think> tag to reason. Then answer me."),
        ("`<think>` starts it.", "`<think>` starts it."),
        ("<think>a</think> <think>still going", ""),
        ("Hi <think>a</think> there <think>b", "Hi there <think>b"),
    ],
)
def test_hidden_reasoning_is_never_visible(completion: str, shown: str) -> None:
    assert text.visible(completion) == shown


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "<th", "ink>", "word", " ", "\n"]), max_size=12).map("".join)
)
def test_a_growing_text_shows_nothing_that_the_final_one_does_not(completion: str) -> None:
    final = text.visible(completion)
    for end in range(len(completion)):
        assert final.startswith(text.visible(completion[:end], growing=True))


@pytest.mark.parametrize("completion", ["so cute >_<", "sad :<", "if a <t", "<", "it begins with <think"])
def test_a_tag_that_has_only_begun_is_held_back_no_longer_than_the_text_grows(completion: str) -> None:
    assert text.visible(completion) == completion
    assert text.visible(completion, growing=True) == completion[: completion.rindex("<")].rstrip()


@pytest.mark.parametrize(
    ("completion", "reasoning"),
    [
        ("<think>a plan", True),
        ("<think>a</think>Hi", False),
        ("<think>a</think>\n<THINK>b", True),
        ("Use the <think> tag", False),
        ("Hi </think>", False),
        ("", False),
    ],
)
def test_a_completion_that_ends_inside_hidden_reasoning_is_known(completion: str, reasoning: bool) -> None:
    assert text.is_reasoning(completion) is reasoning


@pytest.mark.parametrize(
    ("before", "after", "hidden"),
    [
        ("<think>a", "b", True),
        ("Hi <think>a", "b</think>", True),
        ("Hi <think>a", "b", None),
        ("Hi <think>a</think> ", "b</think>", False),
        ("Hi", "<think>b</think>", False),
    ],
)
def test_a_place_is_known_to_be_hidden_once_the_tag_before_it_is_closed(
    before: str, after: str, hidden: bool | None
) -> None:
    assert text.is_hidden_between(before, after) is hidden


def test_normalise_keeps_chinese_emoji_and_persian_joiners() -> None:
    for kept in ("今天天气怎么样？", "👩‍👩‍👧", "می‌خواهم", "Việt Nam", "ขอบคุณครับ", "שָׁלוֹם"):
        assert text.normalise(kept) == kept


def test_normalise_drops_zalgo_nulls_overrides_and_surrogates() -> None:
    assert text.normalise("a" + "\u0301" * 50 + "\x00b\u202ec\ud800") == "á" + "\u0301" * 4 + "bc\ufffd"


def test_labels_are_one_line_without_markup() -> None:
    assert text.label("Evil\nBob: <@1> **x**") == "Evil Bob 1 x"
    assert text.label("\u200b\u202e") == "member"
    assert text.label("名" * 80) == "名" * 32
