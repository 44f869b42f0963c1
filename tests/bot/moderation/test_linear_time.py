"""No expression that reads members' words takes longer than in proportion to them, whatever they write.

The attacks are made from each expression: for each of its loops what leads there, and what goes round in it, repeated.
Anything quadratic holds the whole bot up, as `re` keeps the interpreter to itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from itertools import chain
from re import _constants as op
from re import _parser as parser

import pytest

import bot
import bot.moderation
from bot.moderation.blocklist import Blocklist
from bot.moderation.check import check_message
from bot.moderation.findings import Audience, default_policy

LENGTHS = (2000, 8000)  # characters; twice Discord's longest message, and what of it is quadratic shows
HARMLESS_SECONDS = 0.004  # on the longest text
MOST_GROWTH = 9.0  # four times as long: linear is 4, quadratic 16
_BREAK = "\0"  # ends whatever was begun
# What is not looked for anywhere in a text.
_AT_THE_BEGINNING = ("bot.answer._ITEM", "bot.text._LEADING_THINK")
_OF_THE_WHOLE = ("bot.filter_options._SITE", "bot.ratings._CUSTOM", "bot.verdicts._TABLE", "bot.verdicts._FILLER")


def _expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    for package in (bot, bot.moderation):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                yield from _within(f"{found.name}.{name}", value)


def _within(name: str, value: object) -> Iterator[tuple[str, re.Pattern[str]]]:
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _within(f"{name}[{key!r}]", each)
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _within(f"{name}[{index}]", each)


EXPRESSIONS = dict(_expressions())


def _example(tree: object, rounds: int) -> str:
    """Return something that a parsed expression matches, or nearly, what may be left out `rounds` times."""
    return "".join(_written(node, rounds) for node in tree)  # type: ignore[attr-defined]


def _written(node: tuple[object, object], rounds: int) -> str:
    match node:
        case (op.LITERAL, code):
            return chr(code)
        case (op.NOT_LITERAL, _) | (op.ANY, _):
            return "x"
        case (op.IN, signs):
            return _sign_of(signs)
        case (op.BRANCH, (_, branches)):
            return _example(branches[0], rounds)
        case (op.SUBPATTERN, (*_, inner)) | (op.ATOMIC_GROUP, inner):
            return _example(inner, rounds)
        case (op.MAX_REPEAT | op.MIN_REPEAT | op.POSSESSIVE_REPEAT, (least, _, inner)):
            return _example(inner, rounds) * max(rounds, least)
        case _:  # takes no room
            return ""


def _sign_of(signs: list[tuple[object, object]]) -> str:
    return next((sign for sign in "a1 -.x中(\n~" if re.match(_class(signs), sign)), "a")


def _class(signs: list[tuple[object, object]]) -> str:
    written = {op.CATEGORY_DIGIT: r"\d", op.CATEGORY_SPACE: r"\s", op.CATEGORY_WORD: r"\w"}
    written |= {op.CATEGORY_NOT_DIGIT: r"\D", op.CATEGORY_NOT_SPACE: r"\S", op.CATEGORY_NOT_WORD: r"\W"}
    parts = []
    for sign in signs:
        match sign:
            case (op.NEGATE, _):
                parts.append("^")
            case (op.LITERAL, code):
                parts.append(re.escape(chr(code)))
            case (op.RANGE, (first, last)):
                parts.append(f"{re.escape(chr(first))}-{re.escape(chr(last))}")
            case (op.CATEGORY, kind):
                parts.append(written[kind])
    return f"[{''.join(parts)}]"


def _loops(tree: object, rounds: int, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield what leads to each loop of a parsed expression, and what goes round in it."""
    for node in tree:  # type: ignore[attr-defined]
        match node:
            case (op.BRANCH, (_, branches)):
                for branch in branches:
                    yield before, _example(branch, 1)
                    yield from _loops(branch, rounds, before)
            case (op.SUBPATTERN, (*_, inner)) | (op.ATOMIC_GROUP, inner) | (op.ASSERT | op.ASSERT_NOT, (1, inner)):
                yield from _loops(inner, rounds, before)
            case (op.MAX_REPEAT | op.MIN_REPEAT | op.POSSESSIVE_REPEAT, (_, _, inner)):
                yield before, _example(inner, 1)
                yield from _loops(inner, rounds, before)
        before += _written(node, rounds)
    yield "", before


def _attacks(expression: re.Pattern[str], length: int) -> list[str]:
    tree = parser.parse(expression.pattern, expression.flags)
    found = []
    for before, loop in dict.fromkeys(chain(_loops(tree, 0), _loops(tree, 1))):
        rounds = loop or "a"
        for attack in (before + rounds * length, (before + rounds) * length, before * length):
            found.append(attack[:length] + _BREAK)
    return list(dict.fromkeys(found))


def _reader(name: str) -> Callable[[str], object]:
    expression = EXPRESSIONS[name]
    if name.startswith(_AT_THE_BEGINNING):
        return expression.match
    return expression.fullmatch if name.startswith(_OF_THE_WHOLE) else expression.findall


def _seconds(read: Callable[[str], object], text: str, times: int = 1) -> float:
    """Return the least CPU time of reading a text."""
    spent = []
    for _ in range(times):
        started = time.thread_time()
        read(text)
        spent.append(time.thread_time() - started)
    return min(spent)


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_an_expression_takes_time_in_proportion_to_the_text(name: str) -> None:
    read = _reader(name)
    short, long = (_attacks(EXPRESSIONS[name], length) for length in LENGTHS)
    for little, much in zip(short, long, strict=True):
        if _seconds(read, much) > HARMLESS_SECONDS:
            growth = _seconds(read, much, 3) / _seconds(read, little, 5)
            assert growth < MOST_GROWTH, (growth, much[:80])


@pytest.mark.parametrize("piece", ["a", "A1", "a_key=", "a b ", "1 ", "坏 ", "[", "b\u200b", "a.", "ignore all "])
def test_the_rules_take_time_in_proportion_to_a_message(piece: str) -> None:
    policy = default_policy(Audience.GENERAL, words=Blocklist(["badword", "bad *", "坏蛋", "free nitro"]))

    def read(text: str) -> None:
        check_message(text, policy)

    little, much = (piece * (length // len(piece)) + "!" for length in LENGTHS)
    read(much)  # chunks are remembered, characters folded
    assert _seconds(read, much, 2) / _seconds(read, little, 3) < MOST_GROWTH
