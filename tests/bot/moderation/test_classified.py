"""A classifier reads a member's message without its disguises too."""

from __future__ import annotations

import pytest

from bot.moderation.findings import Audience, Category
from bot.records import ServerSettings
from bot.screening import Screening
from models.safety import Scores
from models.safety_embedded import load_classifier

THREAT = "I will kill you tonight."
VERMIN = "All immigrants are vermin and should be exterminated."
_CYRILLIC = str.maketrans("aeopcxi", "аеорсхі")


class Embedded:
    """Encore's own classifier; `read` has what it was asked of."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def scores(self, text: str) -> Scores:
        self.read.append(text)
        return load_classifier().scores(text)


async def categories(content: str, classifier: Embedded) -> set[Category]:
    screening = Screening(classifier)
    policy = await screening.policy(ServerSettings(), Audience.GENERAL)
    return {found.category for found in await screening.classified(content, policy, policy.messages)}


@pytest.mark.parametrize("plain", [THREAT, VERMIN])
@pytest.mark.parametrize("disguise", ["plain", "zero width", "Cyrillic", "full width", "bold", "spoilers", "link"])
async def test_a_disguise_hides_nothing(plain: str, disguise: str) -> None:
    disguised = {
        "plain": plain,
        "zero width": "\u200b".join(plain),
        "Cyrillic": plain.translate(_CYRILLIC),
        "full width": "".join(chr(ord(sign) + 0xFEE0) if sign > " " else sign for sign in plain),
        "bold": plain.replace("i", "i**").replace("e", "**e"),
        "spoilers": plain.replace("il", "i||l||"),
        "link": plain.replace("ill", "i[ll](https://wikipedia.org)").replace("erm", "e[rm](https://wikipedia.org)"),
    }
    wanted = await categories(plain, Embedded())
    assert wanted
    assert await categories(disguised[disguise], Embedded()) >= wanted


@pytest.mark.parametrize("content", ["所有黑人都是垃圾，應該滾出中國", "所有黑人都是垃 圾，应该滚 出 中 国"])
async def test_traditional_characters_and_blanks_hide_nothing(content: str) -> None:
    assert Category.HATE in await categories(content, Embedded())


@pytest.mark.parametrize("content", ["How tall is the lighthouse, Mei?", "灯塔有多高，你知道吗？"])
async def test_what_wears_no_disguise_is_read_once(content: str) -> None:
    classifier = Embedded()
    assert not await categories(content, classifier)
    assert classifier.read == [content]
