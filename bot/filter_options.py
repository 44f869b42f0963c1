"""What moderators can set of the filter and the quotas: checked texts in, values of ServerSettings out.

Knows neither Discord's objects nor the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from bot.moderation.blocklist import LANGUAGES, Blocklist
from bot.moderation.findings import Category
from bot.moderation.limits import Limit
from bot.moderation.patterns import Patterns
from bot.records import ServerSettings
from bot.server_options import OptionError

MOST_WORDS, MOST_SITES = 200, 50
DEFAULT, NO_LIMIT = "default", "none"
_SITE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}")
_LARGEST = 1_000_000_000


class Kind(StrEnum):
    """What a filter is made of; each is a list in the settings."""

    WORD = "word"
    PATTERN = "pattern"
    LIST = "list"  # that Encore brings, by language
    SITE = "site"  # whose links are allowed

    @property
    def field(self) -> str:
        return f"filter_{self.value}s"

    def entries(self, settings: ServerSettings) -> list[str]:
        found: list[str] = getattr(settings, self.field)
        return found


class Side(StrEnum):
    MESSAGES = "messages"
    ANSWERS = "answers"


HELP = {
    Category.WORD: "listed words",
    Category.PATTERN: "your patterns",
    Category.PROMPT: "my instructions, word for word",
    Category.PERSONAL: "e-mails, phones, addresses, cards",
    Category.SECRET: "passwords and keys",
    Category.LINK: "links to other sites",
    Category.DOMAIN: "names of other sites",
    Category.INJECTION: "attempts to talk me out of my role",
    Category.ADVICE: "medical, legal, financial matters",
    Category.CRISIS: "a member in a crisis",
    Category.HATE: "hatred of a group, by the classifier",
    Category.THREAT: "threats, by the classifier",
    Category.OFFENSIVE: "insults and swearing, by the classifier",
    Category.SEXUAL: "sex, by my list and the classifier",
    Category.SELF_HARM: "self-harm, by the classifier",
}


def added(settings: ServerSettings, kind: Kind, given: str) -> list[str]:
    """Return the list of a kind with one more entry; raises OptionError. Compiling a pattern may take a while."""
    entries, entry = kind.entries(settings), _entry(kind, given)
    if entry in entries:
        raise OptionError("it is there already")
    entries = [*entries, entry]
    most = {Kind.WORD: MOST_WORDS, Kind.SITE: MOST_SITES}.get(kind, len(entries))
    if len(entries) > most:
        raise OptionError(f"there is room for {most}; remove one first")
    try:
        if kind is Kind.WORD:
            Blocklist(entries)
        elif kind is Kind.PATTERN:
            Patterns(entries)
    except ValueError as error:
        raise OptionError(_clause(error)) from None
    return entries


def removed(settings: ServerSettings, given: str) -> tuple[Kind, list[str]]:
    """Return the kind that has an entry, and its list without it; raises OptionError."""
    for kind in Kind:
        entries = kind.entries(settings)
        if given.strip() in entries:
            return kind, [entry for entry in entries if entry != given.strip()]
    raise OptionError("it is not in the filter; /mod filter list shows what is")


def with_action(settings: ServerSettings, category: str, action: str | None, sides: list[Side]) -> dict[str, str]:
    """Return the actions with one changed on some sides; None takes it back to its default."""
    names = {f"{side.value}.{category}" for side in sides}
    others = {name: value for name, value in settings.filter_actions.items() if name not in names}
    return others if action is None else others | dict.fromkeys(sorted(names), action)


def with_threshold(settings: ServerSettings, category: str, value: float | None) -> dict[str, float]:
    """Return the thresholds with one changed; None takes it back to its default."""
    others = {name: known for name, known in settings.filter_thresholds.items() if name != category}
    return others if value is None else {**others, category: value}


def with_limit(settings: ServerSettings, subject: str, limit: str, given: str) -> dict[str, dict[str, float]]:
    """Return the quotas with one limit of a subject changed; raises OptionError."""
    limits = {name: value for name, value in settings.quotas.get(subject, {}).items() if name != limit}
    usual = ServerSettings().quotas.get(subject, {})
    if given.strip().lower() == DEFAULT:
        limits |= {name: value for name, value in usual.items() if name == limit}
    elif given.strip().lower() != NO_LIMIT:
        if not re.fullmatch(r"[0-9]{1,10}", given.strip()) or int(given) > _LARGEST:
            raise OptionError(f"use a whole number, {NO_LIMIT} or {DEFAULT}")
        limits[limit] = int(given)
    others = {name: value for name, value in settings.quotas.items() if name != subject}
    return {**others, subject: limits} if limits else others


def shown_limits(limits: Mapping[str, float]) -> str:
    """Return a subject's limits as a person reads them."""
    limit = replace(Limit(), **limits)  # type: ignore[arg-type]  # whole numbers of JSON
    told = {
        "a minute": limit.messages_per_minute,
        "a day": limit.messages_per_day,
    }
    lines = [f"{count:,} questions {span}" for span, count in told.items() if count is not None]
    if limit.tokens_per_day is not None:
        lines.append(f"{limit.tokens_per_day:,} tokens a day")
    if limit.seconds_between is not None:
        lines.append(f"{limit.seconds_between:g} seconds between two questions")
    return ", ".join(lines) or "no limit"


def _entry(kind: Kind, given: str) -> str:
    entry = given.strip()
    if kind is Kind.LIST and entry not in LANGUAGES:
        raise OptionError(f"my lists are {' and '.join(LANGUAGES)}")
    if kind is Kind.SITE:
        entry = re.sub(r"^\w+://", "", entry.lower()).partition("/")[0].removeprefix("www.")
        if not _SITE.fullmatch(entry):
            raise OptionError("use a site's name, such as wikipedia.org")
    return entry


def _clause(error: ValueError) -> str:
    sentence = str(error).rstrip(".")
    return sentence[:1].lower() + sentence[1:]
