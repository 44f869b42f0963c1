"""What stands before the model: how much a member may ask, and whether what they ask may be answered.

Says in a sentence why not; who asks, and where that is told, is the cogs'. Owns the counts of today.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bot.errors import StoreError
from bot.moderation import advice
from bot.moderation.findings import Action, Category, Finding, strongest
from bot.moderation.guard import mind, not_answered
from bot.moderation.limits import Admission, Asker, Limit, Limiter, Quotas, Reason, Refusal, Scope, day_of
from bot.screening import to_review

if TYPE_CHECKING:
    from bot.moderation.findings import Policy
    from bot.records import Reply, ServerSettings
    from bot.screening import Screening
    from bot.settings import Settings
    from bot.store import Store

log = logging.getLogger(__name__)

_REMEMBERED = 10_000  # members who were told that they asked too much, or of whom there was a case
_CASE_SECONDS = 600.0  # between two cases of one member and kind: a spammer must not fill the queue
_BY_THE_ANSWER = frozenset({Category.ADVICE, Category.CRISIS})  # their cautions are the output's guard's to give
LIMITS = tuple(each.name for each in fields(Limit))


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a question: `refusal` says why it isn't answered, `notes` belong below its answer.

    `review` are the findings that moderators should see.
    """

    refusal: str | None = None
    notes: tuple[str, ...] = ()
    review: tuple[Finding, ...] = ()


class Gate:
    """For all servers, and `direct_messages` with their own quotas.

    `answer_tokens` are the most that a prompt and its answer take; `clock` gives UTC seconds.
    """

    def __init__(
        self,
        store: Store,
        screening: Screening,
        *,
        answer_tokens: int,
        direct_messages: Quotas,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self.screening = screening
        self._clock = clock
        self._direct_messages = direct_messages
        self._limiter = Limiter(clock, answer_tokens=answer_tokens)
        self._heard: OrderedDict[tuple[int, int, str], float] = OrderedDict()  # when there was a case
        self._told: OrderedDict[tuple[int, int], float] = OrderedDict()  # until when a member needn't be told again

    async def open(self) -> None:
        """Take over what was used today before a restart. Raises StoreError."""
        self._limiter.restore(await self._store.usage(day_of(self._clock())))

    # ------------------------------------------------------------------ how much

    def admit(self, asker: Asker, server: ServerSettings) -> Admission | Refusal:
        """Count a question, which is then to be settled, or return by which limit it is refused."""
        return self._limiter.admit(asker, quotas(server.quotas) if asker.guild_id else self._direct_messages)

    def is_news(self, asker: Asker, refusal: Refusal) -> bool:
        """Return whether the member wasn't told yet that they have to wait; from now on they were."""
        now, key = self._clock(), (asker.guild_id, asker.member_id)
        if now < self._told.get(key, 0.0):
            return False
        self._told[key] = now + refusal.retry_seconds
        self._told.move_to_end(key)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True

    def sentence(self, refusal: Refusal) -> str:
        """Say why a question is refused, and until when, in Discord's markup."""
        again = f"<t:{int(self._clock() + refusal.retry_seconds) + 1}:R>"
        here = refusal.scope is Scope.CHANNEL
        match refusal.reason:
            case Reason.RATE:
                who = "This channel asks" if here else "You ask"
                return f"{who} more than I may answer in a minute; I answer again {again}."
            case Reason.SLOW_DOWN:
                return f"I answer {'this channel' if here else 'you'} only now and then; I answer again {again}."
            case Reason.UNDER_WAY:
                whose = "for this channel" if here else "for you"
                return f"What I am writing {whose} may take all that is left for today; ask again {again}."
            case _:
                whose = "this channel's" if here else "your"
                return f"I have given all of {whose} answers for today; I answer again {again}."

    async def settle(self, admission: Admission, reply: Reply | None) -> None:
        """Count what a question took, whatever became of it, and keep it; None: no answer was begun."""
        prompt = len(reply.prompt.token_ids) if reply is not None and reply.prompt else 0
        said = len(reply.outcome.completion_token_ids) if reply is not None and reply.outcome else 0
        self._limiter.settle(admission, prompt + said)
        try:
            await self._store.keep_usage(self._limiter.counts_of(admission.asker))
        except StoreError as error:  # it counts until the next restart
            log.warning("what a member used is not kept: %s", error)

    def is_new_case(self, guild_id: int, member_id: int, kinds: Iterable[str]) -> bool:
        """Return whether moderators should have a case: of one member and kind, a finding's category or a case's
        source, they do once in a while.
        """
        now = self._clock()
        keys = [(guild_id, member_id, kind) for kind in kinds]
        if all(0 <= now - self._heard.get(key, -math.inf) < _CASE_SECONDS for key in keys):
            return False
        self._heard.update(dict.fromkeys(keys, now))
        while len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)
        return True

    def forget(self, member_id: int) -> None:
        """Drop what is remembered of a member, everywhere, but how much they asked today."""
        self._limiter.forget(member_id)
        for told in [told for told in self._told if told[1] == member_id]:
            del self._told[told]
        for heard in [heard for heard in self._heard if heard[1] == member_id]:
            del self._heard[heard]

    # ------------------------------------------------------------------ what

    async def read(self, content: str, policy: Policy) -> Reading:
        """Say whether a question may be answered, and what belongs below the answer."""
        found = await self.screening.question(content, policy)
        review = tuple(to_review(found, policy.messages))
        chinese = advice.is_chinese(content)
        hidden = [each for each in found if policy.messages.get(each.category) is Action.HIDE]
        if hidden:
            return Reading(not_answered(hidden[0].category, chinese=chinese), review=review)
        warned = [each for each in found if strongest([each], policy.messages) is Action.WARN]
        notes = (_note(each, chinese=chinese) for each in warned if each.category not in _BY_THE_ANSWER)
        return Reading(notes=tuple(dict.fromkeys(notes)), review=review)


def quotas(given: Mapping[str, Mapping[str, Any]]) -> Quotas:
    """Read a server's quotas: by "member", "channel", "role:ID" or "channel:ID", each with fields of Limit."""
    limits = {subject: Limit(**limit) for subject, limit in given.items()}
    by_id = {tuple(subject.split(":")): limit for subject, limit in limits.items() if ":" in subject}
    return Quotas(
        limits.get("member", Limit()),
        limits.get("channel", Limit()),
        {int(key): limit for (kind, key), limit in by_id.items() if kind == "role"},
        {int(key): limit for (kind, key), limit in by_id.items() if kind == "channel"},
    )


def direct_messages(settings: Settings) -> Quotas:
    """Return how much each member may ask in direct messages, where no moderator sets it."""
    return Quotas(
        Limit(
            messages_per_minute=settings.dm_messages_per_minute or None,
            messages_per_day=settings.dm_messages_per_day or None,
            tokens_per_day=settings.dm_tokens_per_day or None,
        )
    )


def _note(found: Finding, *, chinese: bool) -> str:
    if found.category is Category.SELF_HARM:
        return advice.HELP[chinese]
    return mind(found.category, chinese=chinese)
