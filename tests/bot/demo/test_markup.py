"""Discord's markdown becomes HTML that can do no harm."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot.demo.markup
from bot.demo.markup import plain, render


def naming(sigil: str, identity: int) -> str:
    return {("@", 1): "Mei 小美", ("#", 2): "general", ("@&", 3): "Moderator"}.get((sigil, identity), "<b>odd</b>")


@pytest.mark.parametrize(
    ("content", "html"),
    [
        ("**b** __u__ *i* ~~s~~", "<strong>b</strong> <u>u</u> <em>i</em> <s>s</s>"),
        ("今天天气**怎么样**？", "今天天气<strong>怎么样</strong>？"),
        ("one\ntwo", "one<br>\ntwo"),
        ("text\n-# small *print*", 'text</p>\n<p class="subtext">small <em>print</em>'),
        ("# Big", '<p class="h1">Big</p>'),
        ("<@1> <@!1> <#2> <@&3>", '<span class="mention">@Mei 小美</span>'),
        ("<:wave:123>", ":wave:"),
        ("see||x||y", '>x</button>y'),
        ("||", "<p>||</p>"),
        ("```py\nprint('<x>')\n```", '<pre><code class="language-py">print(\'&lt;x&gt;\')'),
        ("```\nunfinished", "<pre><code>unfinished"),
    ],
)  # fmt: skip
def test_discord_syntax_is_rendered(content: str, html: str) -> None:
    assert html in render(content, naming)


def test_masked_and_bare_links_open_apart_from_the_page() -> None:
    html = render("[here](https://a.example/x) and (https://b.example/?q=1&r=2).", naming)
    assert html.count('rel="noopener noreferrer nofollow" target="_blank"') == 2
    assert 'href="https://b.example/?q=1&amp;r=2"' in html
    assert html.endswith(").</p>\n")


@pytest.mark.parametrize(
    "content",
    [
        "[x](javascript:alert(1))", "<javascript:alert(1)>", "[x](data:text/html,hi)", "[x](file:///etc/passwd)",
        "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "https://x.example/<script>", "<@7>",
        '[a](https://x.example/"onclick="y)', "||<b>bold</b>||", "<a:b><style>", "![image](https://x.example/y.png)",
    ],
)  # fmt: skip
def test_nothing_dangerous_gets_through(content: str) -> None:
    html = render(content, naming)
    assert set(re.findall(r"<(\w+)", html)) <= {"p", "a", "span", "button", "br"}
    assert not re.search(r'href="(?!https?://)', html)
    assert 'onclick="' not in html and " onerror=" not in re.sub("&lt;.*?&gt;", "", html)


@given(st.text(alphabet="*_~`|<>@#&-# \n[]()!:/\\ahttps.小", max_size=200))
def test_any_text_gives_balanced_tags(content: str) -> None:
    open_tags: list[str] = []
    for close, name in re.findall(r"<(/?)(\w+)[^>]*>", render(content, naming)):
        if name in ("br", "hr"):
            continue
        if close:
            assert open_tags.pop() == name
        else:
            open_tags.append(name)
    assert open_tags == []


def test_plain_text_drops_the_marks_and_is_cut() -> None:
    assert plain("**Hi** <@1>,\n> look in <#2> ||now||", naming) == "Hi @Mei 小美, look in #general now"
    assert plain("x" * 200, naming, limit=10) == "x" * 9 + "…"


def test_times_are_shown_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot.demo.markup.time, "time", lambda: 1_795_000_000.0)
    shown = render("<t:1795007200:R>, <t:1794999940:R>, <t:1795000000:D>, <t:999999999999>", naming)
    assert "in 2 hours" in shown
    assert "1 minute ago" in shown
    assert "November 2026" in shown
    assert "&lt;t:999999999999&gt;" in shown
    assert plain("next <t:1795086400:R>", naming) == "next in 1 day"
