"""What of an answer may be shown while it still grows, so that nothing is ever shown and then deleted.

Kept back are the unfinished word at the end and whatever may be the beginning of a finding: a number, half a phrase, a
masked link that is not closed, words of the system prompt. Never more than `MOST_HELD` visible characters are kept
back: of a longer finding the beginning may show, but never the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from bot.moderation import advice, disclosure, links
from bot.moderation.check import check_answer
from bot.moderation.findings import Action, Category, Finding, Policy, strongest
from bot.moderation.leak import PromptLeak
from bot.moderation.normalise import Forms, Span, is_hidden, is_spaceless
from bot.moderation.patterns import UNFINISHED

MOST_HELD = 160  # visible characters
_LOOK_BACK = 200  # visible characters that are shown already, yet may begin a finding
_VISIBLE = re.compile("[\n -~\u3001-\u3029\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uff01-\uff5e]*")  # as most texts are
_TOLD = frozenset({Category.ADVICE, Category.CRISIS})  # told once, at the end
_WHY: dict[str, tuple[str, str]] = {
    Category.WORD: ("this server's word filter does not allow it", "本服务器的词语过滤不允许"),
    Category.PATTERN: ("this server's word filter does not allow it", "本服务器的词语过滤不允许"),
    Category.PROMPT: ("my instructions are not mine to show", "我的设定不便公开"),
    Category.PERSONAL: ("it looked like personal data", "其中疑似含有个人信息"),
    Category.SECRET: ("it looked like a password or key", "其中疑似含有密码或密钥"),
    Category.LINK: ("it links to a site that is not allowed here", "其中的链接指向本服务器不允许的网站"),
    Category.DOMAIN: ("it names a site that is not allowed here", "其中提到本服务器不允许的网站"),
    Category.SEXUAL: ("sexual content is for age-restricted channels alone", "涉及性的内容只能出现在有年龄限制的频道"),
}
_OTHERWISE = ("this server's rules do not allow it", "本服务器的规则不允许")


class Outcome(StrEnum):
    CLEAN = "clean"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer ended. `text` is what may stay of it, `notes` the fixed sentences that belong below."""

    outcome: Outcome
    text: str
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def hidden(self) -> bool:
        return self.outcome is Outcome.HIDDEN


_leak_of = lru_cache(maxsize=64)(PromptLeak)  # a prompt is prepared once, not with every answer


class OutputGuard:
    """Guards one answer. `question` is what it answers: a crisis or a question on medicine is cautioned by either."""

    def __init__(self, policy: Policy, *system_prompts: str, question: str = "") -> None:
        self._policy = policy
        self._leaks = [_leak_of(prompt, policy.prompt_overlap) for prompt in system_prompts if prompt]
        self._question = question
        self._hides = frozenset(c for c, action in policy.answers.items() if action is Action.HIDE)
        self._shown = ""
        self._hidden = False
        self._unfinished: tuple[Finding, ...] = ()  # patterns that may rest when the answer has ended

    @property
    def hidden(self) -> bool:
        """Whether the rest of the answer will not be shown, so that generating it can end."""
        return self._hidden

    def feed(self, text: str) -> str:
        """Return what may be shown of the whole text so far. It only grows; another text begins anew."""
        if not text.startswith(self._shown):
            if self._shown.startswith(text):
                return text  # blanks at the end came off
            self._shown, self._hidden, self._unfinished = "", False, ()
        if self._hidden or len(text) == len(self._shown):
            return self._shown
        start = _word_start(text, _back(text, len(self._shown), _LOOK_BACK))
        forms = Forms(text[start:])
        limit = _back(text, len(text), MOST_HELD) - start
        settled = max(limit, _unfinished(forms.text, limit))
        candidates = self._to_hide(check_answer(forms, self._policy, self._leaks, self._hides))
        # What has been told of the prompt stays told, however the word goes on: base64 is one word to its end.
        found = [each for each in candidates if each.span.end <= settled or each.category is Category.PROMPT]
        if any(each.rule == UNFINISHED for each in candidates):
            found = [each for each in candidates if each.category is Category.PATTERN]
            self._unfinished = tuple(replace(each, span=Span(start, len(text))) for each in found)
        safe = min([settled, *self._open_places(forms), *(finding.span.start for finding in candidates)])
        if not found:
            safe = max(safe, limit)
        self._hidden = bool(found)
        self._shown = text[: max(len(self._shown), start + safe)]
        return self._shown

    def finish(self, text: str) -> Verdict:
        """Return the verdict on the whole answer; what was shown of it is the beginning of the verdict's text."""
        shown = self.feed(text)
        findings = [*self._unfinished, *check_answer(Forms(text), self._policy, self._leaks)]
        to_hide = self._to_hide(findings)
        chinese = advice.is_chinese(self._question + text)
        told = [finding for finding in (*advice.find(Forms(self._question)), *findings) if finding.category in _TOLD]
        cautions = [finding for finding in told if strongest([finding], self._policy.answers) is Action.WARN]
        cautions.sort(key=lambda finding: finding.category is not Category.CRISIS)
        notes = [advice.caution(finding, chinese=chinese) for finding in cautions]
        if not to_hide and not self._hidden:
            return Verdict(Outcome.CLEAN, text, tuple(dict.fromkeys(notes)), tuple(findings))
        first = to_hide[0] if to_hide else None
        kept = text[: max(len(shown), first.span.start)] if first and not self._hidden else shown
        crisis = [note for note in notes if note in advice.HELP]
        hidden = left_out(first.category if first else None, begun=bool(kept.strip()), chinese=chinese)
        return Verdict(Outcome.HIDDEN, kept.rstrip(), (hidden, *dict.fromkeys(crisis)), tuple(findings))

    def _to_hide(self, findings: Iterable[Finding]) -> list[Finding]:
        return [finding for finding in findings if finding.category in self._hides]

    def _open_places(self, forms: Forms) -> list[int]:
        """Return places of the text as written from which on something may still complete."""
        places: list[int | None] = []
        if self._hides & {Category.PERSONAL, Category.SECRET}:
            places.append(disclosure.open_from(forms))
        if Category.LINK in self._hides:
            places.append(links.open_from(forms))
        if Category.PROMPT in self._hides:
            places += (leak.open_from(forms) for leak in self._leaks)
        for words, category in ((self._policy.words, Category.WORD), (self._policy.explicit, Category.SEXUAL)):
            if words and category in self._hides:
                places.append(words.open_from(forms))
        origins = [
            forms.folded.origins[place] for place in places if place is not None and place < len(forms.folded.text)
        ]
        if self._policy.patterns and Category.PATTERN in self._hides:
            place = self._policy.patterns.open_from(forms)
            origins += [forms.clean.origins[place]] if place is not None else []
        return origins


def _back(text: str, end: int, visible: int) -> int:
    """Return the place that many visible characters before `end`."""
    if _VISIBLE.fullmatch(text, max(0, end - visible), end):
        return max(0, end - visible)
    while end > 0 and visible > 0:
        end -= 1
        visible -= not is_hidden(text[end])
    return end


def _ends_word(character: str) -> bool:
    return (character.isspace() and not is_hidden(character)) or is_spaceless(character)


def _word_start(text: str, start: int) -> int:
    """Return where the word at `start` begins: half a word may read as another."""
    lowest = max(0, start - MOST_HELD)
    while start > lowest and not _ends_word(text[start - 1]):
        start -= 1
    return start


def _unfinished(text: str, lowest: int) -> int:
    """Return where the word begins that the end of the text may be in the middle of."""
    place = len(text)
    while place > max(0, lowest) and not _ends_word(text[place - 1]):
        place -= 1
    return place


def left_out(category: str | None, *, begun: bool, chinese: bool) -> str:
    """Return the fixed sentence in the place of what is hidden; `begun` says that some of the answer stands above."""
    why = (_WHY.get(category, _OTHERWISE) if category else _OTHERWISE)[chinese]
    if chinese:
        return f"{'其余内容' if begun else '这条回答'}已隐去：{why}。"
    return f"{'The rest' if begun else 'This answer'} is left out: {why}."


def not_answered(category: Category, *, chinese: bool) -> str:
    """Return the fixed sentence to a member whose message is not answered."""
    why = _WHY.get(category, _OTHERWISE)[chinese]
    return f"这条消息我不回答：{why}。" if chinese else f"I don't answer this: {why}."


def mind(category: Category, *, chinese: bool) -> str:
    """Return the fixed sentence below the answer to a message that was better not written."""
    why = _WHY.get(category, _OTHERWISE)[chinese]
    return f"请留意你的消息：{why}。" if chinese else f"Please mind what you write here: {why}."
