"""The rules on text and a classifier, by what a server's moderators set: questions before, answers while they grow.

Owns the compiled rules of servers, and which part of a growing answer has been read. What may be shown of an answer is
decided where an edit is made, never a token. Long texts and moderators' expressions are read in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from bot import text
from bot.moderation.advice import is_chinese
from bot.moderation.blocklist import LANGUAGES, Blocklist, built_in, explicit
from bot.moderation.check import check_message
from bot.moderation.findings import Action, Actions, Audience, Category, Finding, Policy, default_policy, strongest
from bot.moderation.guard import MOST_HELD, Outcome, OutputGuard, Verdict, left_out
from bot.moderation.normalise import Forms, Span
from bot.moderation.patterns import Patterns
from bot.records import Ask
from models.safety import DEFAULT_THRESHOLDS

if TYPE_CHECKING:
    from bot.records import ServerSettings
    from models.safety import Scores
    from models.safety_process import TextClassifier

log = logging.getLogger(__name__)

THRESHOLDS = {kind.value: score for kind, score in DEFAULT_THRESHOLDS.items()} | {Category.HATE.value: 0.75}
"""From which score a category is found. Hatred by a plain pattern alone, as it is hidden and not queued: see the
notebook's figures."""

MOST_CLASSIFIED = 32
"""How many new messages of a history are classified for one question; the next one reads on."""

_CATEGORIES: frozenset[str] = frozenset(Category)
_RULES_KEPT = 256  # servers with rules of their own
_IN_THREAD = 1000  # characters; what is shorter takes about a millisecond
_CONTEXT = 200  # characters of the reply that is carried on, which may hold the beginning of a finding
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+[\"'”’)\]*_]*\s+|[。！？]+|\n+")

Review = Callable[[Ask, int | None, str, Sequence[Finding]], Awaitable[None]]
"""Brings what was said, or asked (reply None), before the moderators, with what was found; never fails."""

_Rules = tuple[Blocklist | None, Patterns | None]
T = TypeVar("T")


class Screening:
    """Screens what members ask and what the character says. Without a classifier the rules on text do alone."""

    def __init__(self, classifier: TextClassifier | None = None) -> None:
        self._classifier = classifier
        self._rules: OrderedDict[tuple[tuple[str, ...], ...], _Rules] = OrderedDict()

    async def policy(self, server: ServerSettings, audience: Audience, *, member_id: int | None = None) -> Policy:
        """Return the rules of a channel, for what `member_id` asks there and is answered."""
        words, patterns = await self.rules(server)
        if patterns is not None and member_id is not None:
            patterns = patterns.on_texts_of(member_id)
        policy = default_policy(audience, words=words, patterns=patterns)
        return replace(
            policy,
            messages=_with_actions(policy.messages, server, "messages", audience),
            answers=_with_actions(policy.answers, server, "answers", audience),
            explicit=explicit(),
            allowed_hosts=policy.allowed_hosts.union(server.filter_sites),
            thresholds=_thresholds(server, audience),
        )

    async def rules(self, server: ServerSettings) -> _Rules:
        """Return a server's words and expressions, compiled when they are first asked for."""
        key = (tuple(server.filter_words), tuple(server.filter_patterns), tuple(server.filter_lists))
        if not any(key):
            return None, None
        if key not in self._rules:
            self._rules[key] = await asyncio.to_thread(_compile, *key)
        self._rules.move_to_end(key)
        while len(self._rules) > _RULES_KEPT:
            self._rules.popitem(last=False)
        return self._rules[key]

    async def question(self, content: str, policy: Policy) -> list[Finding]:
        """Return what a member's message holds, what the policy ignores too."""
        found = await _read(content, policy, lambda: check_message(content, policy))
        return [*found, *await self.classified(content, policy, policy.messages)]

    async def hidden(self, contents: Sequence[str], policy: Policy) -> list[bool | None]:
        """Say of each of members' texts, oldest first, whether it is hidden; None: unread, as there are too many.

        The rules read all of them; a classifier, which takes longer, the newest `MOST_CLASSIFIED`.
        """
        hidden: list[bool | None] = [*await self.hidden_by_rules(contents, policy)]
        hiding = {category: action for category, action in policy.messages.items() if action is Action.HIDE}
        if self.wanted(policy, hiding):
            unread = [place for place, by_rules in enumerate(hidden) if not by_rules]
            newest = unread[-MOST_CLASSIFIED:]
            # All at once, so that a classifier in a process of its own reads them in one or two batches.
            found = await asyncio.gather(*(self.classified(contents[place], policy, hiding) for place in newest))
            hidden = [by_rules or None for by_rules in hidden]
            for place, findings in zip(newest, found, strict=True):
                hidden[place] = bool(findings)
        return hidden

    async def hidden_by_rules(self, contents: Sequence[str], policy: Policy) -> list[bool]:
        """Say of each of members' texts, or names, whether the rules on text hide it."""

        def read() -> list[bool]:
            found = [check_message(content, policy) for content in contents]
            return [strongest(each, policy.messages) is Action.HIDE for each in found]

        return await asyncio.to_thread(read)

    def answer(
        self, policy: Policy, system_prompt: str, *, earlier_prompt: str = "", question: str = "", before: str = ""
    ) -> AnswerScreen:
        """Return the screen of one answer to `question`, which goes on from the raw text `before`.

        `earlier_prompt` is the system prompt that it is made with, where that was changed since.
        """
        return AnswerScreen(self, policy, (system_prompt, earlier_prompt), question=question, before=before)

    def wanted(self, policy: Policy, actions: Actions) -> list[Category]:
        """Return the categories for which texts are classified."""
        if self._classifier is None:
            return []
        return [kind for kind in policy.thresholds if actions.get(kind, Action.IGNORE) is not Action.IGNORE]

    async def classified(self, content: str, policy: Policy, actions: Actions) -> list[Finding]:
        """Return the categories that a classifier finds in a text, of those that something is done about."""
        wanted = self.wanted(policy, actions)
        if self._classifier is None or not wanted or not content.strip():
            return []
        scores = {kind.value: score for kind, score in (await read_scores(self._classifier, content)).items()}
        return [
            Finding("classifier", kind, Span(0, len(content)), content, f"{scores[kind.value]:.2f}")
            for kind in wanted
            if scores.get(kind.value, -1.0) >= policy.thresholds[kind]
        ]


class AnswerScreen:
    """Says what of one answer may be shown; that only grows. `completion` is always the whole raw text so far."""

    def __init__(
        self, screening: Screening, policy: Policy, system_prompts: Sequence[str], *, question: str, before: str
    ) -> None:
        self._screening = screening
        self.policy = policy
        self._guard = OutputGuard(policy, *system_prompts, question=question)
        self._question = question
        self._before = before
        self._known = text.visible(before)
        self._context = len(_tail(self._known))
        self._reads = bool(screening.wanted(policy, policy.answers))
        self._clear = 0  # sentences up to here were classified, and may be shown
        self._shown = ""
        self._found: Finding | None = None  # by the classifier, so that nothing more is shown
        self._marked: list[Finding] = []  # by the classifier, of what may be shown
        self._alone = asyncio.Lock()

    @property
    def hidden(self) -> bool:
        """Whether the rest of the answer will not be shown, so that generating it can end."""
        return self._guard.hidden or self._found is not None

    async def feed(self, completion: str) -> str:
        """Return what may be shown now."""
        async with self._alone:
            whole = self._whole(completion, growing=True)
            added = whole[len(self._shown) :]
            allowed = await _read(added, self.policy, lambda: self._guard.feed(whole))
            return self._said(await self._classified(allowed))

    async def finish(self, completion: str) -> Verdict:
        """Return the verdict on the whole answer; what was shown of it is the beginning of the verdict's text."""
        try:
            return await self._verdict(completion)
        except Exception:
            log.exception("an answer can't be read, so its rest is left out")
            shown = self._said(self._shown)
            sentence = left_out(None, begun=bool(shown), chinese=is_chinese(completion))
            return Verdict(Outcome.HIDDEN, shown, (sentence,), ())

    def why(self, verdict: Verdict) -> str:
        """Return the category for which an answer is hidden."""
        return next((f.category.value for f in verdict.findings if self._hiding([f])), "rules")

    async def _verdict(self, completion: str) -> Verdict:
        async with self._alone:
            whole = self._whole(completion)
            verdict = await _read(whole, self.policy, lambda: self._guard.finish(whole))
            kept = await self._classified(verdict.text, ended=True)
            verdict = replace(verdict, findings=(*verdict.findings, *self._marked))
            if self._found is not None:
                chinese = is_chinese(self._question + whole)
                sentence = left_out(self._found.category, begun=bool(self._said(kept)), chinese=chinese)
                others = verdict.notes if verdict.outcome is Outcome.CLEAN else verdict.notes[1:]
                found = (self._found, *verdict.findings)
                verdict = Verdict(Outcome.HIDDEN, kept, (sentence, *others), found)
            return replace(verdict, text=self._said(verdict.text))

    def _whole(self, completion: str, *, growing: bool = False) -> str:
        """Return what a member would read without any rules, behind the end of what it goes on from."""
        seen = text.visible(self._before + completion, growing=growing)
        said = seen[len(self._known) :] if seen.startswith(self._known) else text.visible(completion, growing=growing)
        return self._known[len(self._known) - self._context :] + said

    def _said(self, shown: str) -> str:
        return shown[self._context :].strip()

    async def _classified(self, allowed: str, *, ended: bool = False) -> str:
        """Return what of `allowed` the classifier lets through: whole sentences, and the beginning of a long one.

        A beginning that reads badly may yet turn out well, so it is kept back until its end.
        """
        if not allowed.startswith(self._shown):
            if self._shown.startswith(allowed):
                return allowed
            self._clear, self._shown, self._found = 0, "", None
            self._marked.clear()
        if not self._reads:
            return self._show(allowed)
        if self._found is not None:
            return self._shown
        ends = [match.end() for match in _SENTENCE_END.finditer(allowed, self._clear)]
        if ended:
            ends.append(len(allowed))
        for end in ends:
            found = await self._read_sentence(allowed[self._clear : end])
            self._found = self._hiding(found)
            if self._found is not None:
                return self._show(allowed[: self._clear])
            self._marked += found
            self._clear = end
        begun = allowed[self._clear :]
        if len(begun) <= MOST_HELD or self._hiding(await self._read_sentence(begun)) is not None:
            return self._show(allowed[: self._clear])
        return self._show(allowed)

    def _show(self, allowed: str) -> str:
        self._shown = max(self._shown, allowed, key=len)
        return self._shown

    async def _read_sentence(self, sentence: str) -> list[Finding]:
        return await self._screening.classified(sentence, self.policy, self.policy.answers)

    def _hiding(self, found: Iterable[Finding]) -> Finding | None:
        return next((each for each in found if self.policy.answers.get(each.category) is Action.HIDE), None)


async def read_scores(classifier: TextClassifier, content: str) -> Scores:
    """Return a text's scores, the higher ones of it as it is written and without its disguises, if it wears any."""
    read = Forms(content).unmarked.text
    if read == unicodedata.normalize("NFKC", content).lower():
        return await classifier.scores(content)
    written, plain = await asyncio.gather(classifier.scores(content), classifier.scores(read))
    return {kind: max(written.get(kind, 0.0), plain.get(kind, 0.0)) for kind in written.keys() | plain.keys()}


async def nobody_reviews(ask: Ask, reply_id: int | None, said: str, findings: Sequence[Finding]) -> None:
    """Where there are no moderators, as in a terminal."""


def to_review(findings: Iterable[Finding], actions: Actions) -> list[Finding]:
    """Return the findings that moderators should see: what is hidden, and what only they are told of."""
    return [found for found in findings if actions.get(found.category) in (Action.HIDE, Action.QUEUE)]


def _with_actions(usual: Actions, server: ServerSettings, side: str, audience: Audience) -> Actions:
    own = {}
    for name, action in server.filter_actions.items():
        given, _, category = name.partition(".")
        if given == side and category in _CATEGORIES and action.upper() in Action.__members__:
            own[Category(category)] = Action[action.upper()]
    if audience is Audience.GENERAL:
        own.pop(Category.SEXUAL, None)  # hidden where under-18s may read is Discord's rule, no server's choice
    return MappingProxyType({**usual, **own})


def _thresholds(server: ServerSettings, audience: Audience) -> Mapping[Category, float]:
    given = THRESHOLDS | server.filter_thresholds
    found = {Category(kind): score for kind, score in given.items() if kind in _CATEGORIES}
    if (
        audience is Audience.GENERAL and Category.SEXUAL in found
    ):  # as with its action: a high score would lift the rule
        found[Category.SEXUAL] = min(found[Category.SEXUAL], THRESHOLDS[Category.SEXUAL])
    return MappingProxyType(found)


def _compile(words: Sequence[str], patterns: Sequence[str], lists: Sequence[str]) -> _Rules:
    entries = (*words, *built_in(language for language in lists if language in LANGUAGES))
    try:
        return Blocklist(entries) if entries else None, Patterns(patterns) if patterns else None
    except ValueError as error:  # they were checked when they were added, by the rules of that version
        log.warning("a server's filter can't be used, so all its words and patterns rest: %s", error)
        return None, None


async def _read(content: str, policy: Policy, work: Callable[[], T]) -> T:
    if policy.patterns or len(content) > _IN_THREAD:
        return await asyncio.to_thread(work)
    return work()


def _tail(known: str) -> str:
    """Return the last words of a text; half a word may read as another."""
    if len(known) <= _CONTEXT:
        return known
    tail = known[-_CONTEXT:]
    return tail[tail.index(" ") :] if " " in tail else tail
