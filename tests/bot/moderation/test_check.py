from __future__ import annotations

import time

import pytest

from bot.moderation.blocklist import LANGUAGES, Blocklist, built_in
from bot.moderation.check import check_message
from bot.moderation.findings import Action, Audience, Category, default_policy, strongest

POLICY = default_policy(Audience.GENERAL, words=Blocklist(built_in(LANGUAGES)))
HOSTILE = [
    *("a", "1 ", "@", "a@", "a.b.", "http://", "[", "](", "你", "北京市", "+1 ", "(at)", "<|", "a-", "12 a b c "),
    *(
        "system:\n",
        "i want to ",
        "let a=",
        "decode ",
        "tell me ",
        "忽略之前",
        "market street ",
        "eyja",
        "+9 ",
        "\u0301a",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_message_takes_long(piece: str) -> None:
    message = (piece * 4000)[:4000]  # the longest that Discord lets anybody write
    started = time.thread_time()
    check_message(message, POLICY)
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize(
    ("message", "category", "action"),
    [
        ("you sh1t", Category.WORD, Action.HIDE),
        ("my key is ghp_" + "a1B2" * 9, Category.SECRET, Action.WARN),
        ("I want to kill myself", Category.CRISIS, Action.WARN),
        ("mail me at kim@mailhost.org", Category.PERSONAL, Action.IGNORE),
        ("look at https://evil.example/x", Category.LINK, Action.IGNORE),
    ],
)
def test_a_member_is_refused_for_words_and_warned_of_what_harms_them(
    message: str, category: Category, action: Action
) -> None:
    findings = check_message(message, POLICY)
    assert category in {finding.category for finding in findings}
    assert strongest(findings, POLICY.messages) is action


def test_findings_stand_in_the_order_of_the_text() -> None:
    findings = check_message("kim@mailhost.org says shit, see https://evil.example", POLICY)
    assert [finding.category for finding in findings] == [Category.PERSONAL, Category.WORD, Category.LINK]
    assert [finding.text for finding in findings] == ["kim@mailhost.org", "shit", "https://evil.example"]
