from __future__ import annotations

import pytest

from bot.moderation import advice
from bot.moderation.normalise import Forms


def matters(text: str) -> list[str]:
    return [finding.detail for finding in advice.find(Forms(text))]


@pytest.mark.parametrize(
    ("text", "matter"),
    [
        ("How much ibuprofen should I take?", "medical"),
        ("You should stop your medication.", "medical"),
        ("发烧要不要吃布洛芬？", "medical"),
        ("Can I sue my neighbour?", "legal"),
        ("房东不退押金，我该怎么起诉他？", "legal"),
        ("Should I invest my savings, or buy bitcoin?", "financial"),
        ("我应该把全部积蓄拿去买股票吗", "financial"),
        ("I want to kill myself", "crisis"),
        ("I don’t want to live anymore", "crisis"),
        ("我不想活了", "crisis"),
        ("我真的想死", "crisis"),
    ],
)
def test_matters_are_told(text: str, matter: str) -> None:
    assert matter in matters(text)


@pytest.mark.parametrize(
    "text",
    [
        "My doctor wears a red coat.",
        "You should see that film about a lawyer.",
        "Suicide Squad was fun; I could die laughing.",
        "I want to die of laughter",
        "She took an aspirin in the story. You should read it.",
        "The court was full of tennis fans",
        "笑死我了，想死你了",
        "他是个医生。你应该认识他。",
    ],
)
def test_talk_is_not_advice(text: str) -> None:
    assert matters(text) == []


def test_every_matter_has_its_sentence_in_both_languages() -> None:
    for text in (
        "How much ibuprofen should I take?",
        "Can I sue my boss?",
        "Should I buy bitcoin?",
        "I want to end it all",
    ):
        (finding,) = advice.find(Forms(text))
        assert advice.caution(finding, chinese=False).isascii()
        assert advice.is_chinese(advice.caution(finding, chinese=True))
