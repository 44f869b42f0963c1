"""What the rules find, what a server wants done about it, and what never reaches a member.

Value types alone; the rules are beside this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from bot.moderation.normalise import Forms, Plain, Span

if TYPE_CHECKING:
    from bot.moderation.blocklist import Blocklist
    from bot.moderation.patterns import Patterns


class Category(StrEnum):
    """Why a text was marked; a server decides per category what follows."""

    WORD = "word"  # a word or phrase of a blocklist
    PATTERN = "pattern"  # a moderators' regular expression
    PROMPT = "prompt"  # the system prompt, word for word
    PERSONAL = "personal"  # e-mail, phone, address, identity card, bank card
    SECRET = "secret"  # noqa: S105 - a token or key
    LINK = "link"  # a link, an invitation or a masked link to a host that is not allowed
    DOMAIN = "domain"  # a host's name as plain text, which Discord makes no link of
    INJECTION = "injection"  # tries to talk the model out of its role
    ADVICE = "advice"  # medical, legal or financial
    CRISIS = "crisis"  # a member may be about to harm themselves
    # What a classifier of models/safety.py says, by the names it has there; of sexual content a list says so, too.
    HATE = "hate"
    THREAT = "threat"
    OFFENSIVE = "offensive"
    SEXUAL = "sexual"
    SELF_HARM = "self_harm"


class Action(IntEnum):
    """What to do about a finding, the mildest first. The strongest of a text's findings counts."""

    IGNORE = 0
    QUEUE = 1  # it passes, and moderators get a case
    WARN = 2  # it passes with a caution
    HIDE = 3  # it is not answered, or not shown; moderators get a case


class Audience(StrEnum):
    """Whom a channel is for, as Discord's age restriction says."""

    GENERAL = "general"  # under-18s may read it
    ADULT = "adult"  # Discord's age-restricted channel


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `text` is what was written there, for moderators' eyes; `detail` says what it was read as."""

    rule: str
    category: Category
    span: Span
    text: str
    detail: str = ""

    @classmethod
    def at(
        cls, rule: str, category: Category, forms: Forms, plain: Plain, start: int, end: int, detail: str = ""
    ) -> Finding:
        """Return what was found at `start` to `end` of a normal form, shown as it was written."""
        span = plain.span(start, end)
        return cls(rule, category, span, forms.text[span.start : span.end], detail)


Actions: TypeAlias = Mapping[Category, Action]

_ANSWERS = MappingProxyType(
    {
        Category.WORD: Action.HIDE,
        Category.PATTERN: Action.HIDE,
        Category.PROMPT: Action.HIDE,
        Category.PERSONAL: Action.HIDE,
        Category.SECRET: Action.HIDE,
        Category.LINK: Action.HIDE,
        Category.ADVICE: Action.WARN,
        Category.CRISIS: Action.WARN,
        Category.HATE: Action.HIDE,
        Category.THREAT: Action.HIDE,
        Category.OFFENSIVE: Action.HIDE,
        Category.SEXUAL: Action.HIDE,
        Category.SELF_HARM: Action.HIDE,
    }
)
_MESSAGES = MappingProxyType(
    {
        Category.WORD: Action.HIDE,
        Category.PATTERN: Action.HIDE,
        Category.SECRET: Action.WARN,
        Category.CRISIS: Action.WARN,
        Category.HATE: Action.HIDE,
        Category.THREAT: Action.QUEUE,
        Category.SEXUAL: Action.HIDE,
        Category.SELF_HARM: Action.WARN,
    }
)
# Where only adults read: listed words, swearing and sex are answered, and may be said.
_ADULT = MappingProxyType(dict.fromkeys((Category.WORD, Category.OFFENSIVE, Category.SEXUAL), Action.IGNORE))


@dataclass(frozen=True, slots=True)
class Policy:
    """A channel's rules. The defaults are those of a general channel without a list of words.

    `messages` says what to do about what members write, `answers` about what the character says; a category that is not
    in there is ignored, yet found. `allowed_hosts` are those whose links may be shown, each with its subdomains:
    "wikipedia.org" allows "zh.wikipedia.org" and not "wikipedia.org.example". `prompt_overlap` is how many letters
    of the system prompt in a row are a leak (a Chinese character counts three). `thresholds` says from which score of a
    classifier on its categories are found; one without a threshold never is.
    """

    audience: Audience = Audience.GENERAL
    messages: Actions = field(default_factory=lambda: _MESSAGES)
    answers: Actions = field(default_factory=lambda: _ANSWERS)
    words: Blocklist | None = None
    patterns: Patterns | None = None
    explicit: Blocklist | None = None  # finds sexual content
    allowed_hosts: frozenset[str] = frozenset({"discord.com", "wikipedia.org"})
    prompt_overlap: int = 48
    thresholds: Mapping[Category, float] = field(default_factory=lambda: MappingProxyType({}))


def default_policy(audience: Audience, *, words: Blocklist | None = None, patterns: Patterns | None = None) -> Policy:
    """Return the defaults for a channel: where only adults read, listed words are answered, and may be said."""
    eased: Actions = {} if audience is Audience.GENERAL else _ADULT
    messages, answers = MappingProxyType({**_MESSAGES, **eased}), MappingProxyType({**_ANSWERS, **eased})
    return Policy(audience, messages, answers, words, patterns)


def strongest(findings: Iterable[Finding], actions: Actions) -> Action:
    """Return what the findings call for together."""
    return max((actions.get(finding.category, Action.IGNORE) for finding in findings), default=Action.IGNORE)
