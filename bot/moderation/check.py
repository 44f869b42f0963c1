"""All the rules on one text."""

from __future__ import annotations

from collections.abc import Iterable

from bot.moderation import advice, disclosure, injection, links
from bot.moderation.findings import Category, Finding, Policy
from bot.moderation.leak import PromptLeak
from bot.moderation.normalise import Forms

_ALL = frozenset(Category)
_RANK = {category: rank for rank, category in enumerate(Category)}


def check_message(text: str, policy: Policy) -> list[Finding]:
    """Return what a member's message holds, in the order it stands there, ignored categories too: they are counted."""
    forms = Forms(text)
    return _in_order([*_shared(forms, policy, _ALL), *injection.find(forms)])


def check_answer(
    forms: Forms, policy: Policy, leaks: Iterable[PromptLeak], categories: frozenset[Category] = _ALL
) -> list[Finding]:
    """Return what an answer holds of some categories, in the order it stands there."""
    found = _shared(forms, policy, categories)
    if Category.PROMPT in categories:
        for leak in leaks:
            found += leak.find(forms)
    return _in_order(found)


def _shared(forms: Forms, policy: Policy, categories: frozenset[Category]) -> list[Finding]:
    found: list[Finding] = []
    if categories & {Category.PERSONAL, Category.SECRET}:
        found += disclosure.find(forms)
    if categories & {Category.LINK, Category.DOMAIN}:
        found += links.find(forms, policy.allowed_hosts)
    if categories & {Category.ADVICE, Category.CRISIS}:
        found += advice.find(forms)
    if policy.words and Category.WORD in categories:
        found += policy.words.find(forms)
    if policy.explicit and Category.SEXUAL in categories:
        found += policy.explicit.find(forms)
    if policy.patterns and Category.PATTERN in categories:
        found += policy.patterns.find(forms)
    return found


def _in_order(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: (finding.span.start, finding.span.end, _RANK[finding.category]))
