"""A labelled table of replies in words: what thanks, what corrects, and what only looks like it."""

from __future__ import annotations

import time

import pytest

from bot.verdicts import detect_verdict

THANKS = """
    谢谢，这个回答很好
    谢谢！
    谢谢你的解释
    非常感谢您的帮助
    多谢啦
    说得不错
    说得很有道理
    你说得对
    这个回答真棒
    你的解释非常清楚
    很有帮助
    学到了
    太好了！
    你真厉害
    好回答 👍
    thanks
    Thanks!
    thank you so much!! 🎉
    ok thanks, that helped a lot
    <@123456789> thank you for the explanation
    thanks for your help
    Thx bot
    that's right
    you're right
    You’re right, I forgot
    great answer
    not bad at all
    well said!
    perfect
    this is a really good answer
    that worked, thanks
    **good bot**
    wow, awesome
    I love this answer
"""
CORRECTS = """
    no, that's wrong
    No. That is not correct.
    that’s wrong, it's Paris
    you're wrong
    sorry but that's wrong
    wrong answer
    wrong.
    incorrect
    that isn't true
    that's nonsense
    you made that up
    you are just making things up
    that doesn't make any sense
    not what I asked for
    thanks for nothing
    bad bot
    这个回答不对
    不对，应该是北京
    错了
    你说错了
    不，你答错了
    你的回答完全错误
    胡说八道！
    答非所问
    说得不对
    这个答案太离谱了
    不是这样的
    没有帮助
"""
NOTHING = """
    thanks to the new patch the game is good
    不好意思
    我错了
    that's not wrong
    thanks but no thanks
    no thanks
    thanks, now it's broken
    thanks, but that's wrong
    谢谢，不过这个不对
    is that wrong?
    that's wrong, isn't it?
    对不对
    是不是错了？
    不对劲
    对不起
    你好
    好的
    没关系
    great, now what
    great scott
    nice weather today
    no
    不
    ok
    thank god it's friday
    he told me that's wrong
    my friend said thanks
    wrong channel
    I got the wrong size shoes
    the answer to life is 42
    what's that
    good morning
    good night bot
    tell me about wrong answers
    这个游戏不错吗
    今天天气怎么样？
    今天天气很好
    他说得不错
    谢谢大家来看直播
    感谢节快乐
    如果你错了怎么办
    that is great news for the team
    you are right handed
    what a terrible day
"""


def lines(text: str) -> list[str]:
    found = [line.strip() for line in text.strip().splitlines()]
    assert len(found) == len(set(found))
    return found


@pytest.mark.parametrize("text", lines(THANKS))
def test_thanks_are_seen(text: str) -> None:
    assert detect_verdict(text) == 1


@pytest.mark.parametrize("text", lines(CORRECTS))
def test_corrections_are_seen(text: str) -> None:
    assert detect_verdict(text) == -1


@pytest.mark.parametrize("text", lines(NOTHING))
def test_what_only_looks_like_a_verdict_is_none(text: str) -> None:
    assert detect_verdict(text) is None


@pytest.mark.parametrize("text", ["", " ", "👍", "\x00", "…", "‮‮", "z̷̢̛a̸l̵g̶o̷", "thanks " * 40])
def test_empty_hostile_and_long_texts_are_none(text: str) -> None:
    assert detect_verdict(text) is None


@pytest.mark.parametrize("unit", ["真", "好", "thanks ", "that's so ", "你的", "回答", "ha", "a lot ", "很好"])
def test_repetition_takes_no_time(unit: str) -> None:
    text = (unit * 120)[:119] + "x"
    began = time.process_time()
    detect_verdict(text)
    assert time.process_time() - began < 0.5  # a runaway pattern would take years
