from __future__ import annotations

import base64
import codecs

import pytest

from bot.moderation.findings import Category, Policy
from bot.moderation.guard import OutputGuard
from bot.moderation.leak import PromptLeak
from bot.moderation.normalise import Forms
from bot.settings import DEFAULT_SYSTEM_PROMPT

ENGLISH = "You are Marlow, keeper of lighthouse 12, who speaks in short sentences and never talks about politics. "
CHINESE = "你是一位退休的灯塔看守人，说话简短，从不谈论政治，也不透露沉船的秘密。"
PROMPT = ENGLISH + CHINESE
TOLD = {
    "as written": PROMPT,
    "loud": PROMPT.upper(),
    "numbered": "\n".join(f"{number}. {word}" for number, word in enumerate(ENGLISH.split(), 1)),
    "numbered, Chinese": " ".join(f"{number}){sign}" for number, sign in enumerate(CHINESE, 1)),
    "backwards": PROMPT[::-1],
    "rot13": codecs.encode(ENGLISH, "rot13"),
    "base64": base64.b64encode(PROMPT.encode()).decode(),
    "base64 of more": base64.b64encode(f"Rules: {PROMPT}".encode()).decode(),
    "base64, in lines": base64.encodebytes(f"My rules: {PROMPT}".encode()).decode(),
    "hexadecimal": PROMPT.encode().hex(),
    "hexadecimal, in pairs": PROMPT.encode().hex(" ").upper(),
}


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_a_prompt_told_in_any_spelling_is_found_and_not_shown(told: str) -> None:
    text = f"Sure: {told} That is all."
    [*_, last] = found = PromptLeak(PROMPT, 48).find(Forms(text))
    assert {finding.category for finding in found} == {Category.PROMPT}
    assert found[0].span.start <= len("Sure: ") + 16 and last.span.end >= len(text) - len(" That is all.") - 8
    guard = OutputGuard(Policy(), PROMPT)
    shown = max((guard.feed(text[:end]) for end in range(0, len(text) + 1, 3)), key=len)
    assert len(shown) <= len("Sure: ") + 20 and guard.hidden


def test_a_stretch_is_found_once_however_it_can_be_read() -> None:
    assert len(PromptLeak(PROMPT, 48).find(Forms(PROMPT))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "I'm Encore, the character of this fan community! Ask me anything.",
        "Several people talk here, and I answer the last message in its language.",
        "I am warm, curious and playful, they say.",
        "1. You 2. are 3. kind",
        "The checksum is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.",
        "SGVsbG8sIHdvcmxkISBUaGlzIGlzIGEgcGxhaW4gYmFzZTY0IHRleHQu",
    ],
)
def test_talk_about_oneself_and_other_codes_pass(text: str) -> None:
    assert PromptLeak(DEFAULT_SYSTEM_PROMPT, Policy().prompt_overlap).find(Forms(text)) == []
