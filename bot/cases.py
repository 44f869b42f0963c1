"""The moderators' queue and their panic button: reports become cases, decisions close them, a lock silences a server.

Says what a case's card holds; its buttons are `bot.case_ui`'s, and deleting messages is Discord's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bot import text
from bot.moderation.limits import Scope
from bot.night_cards import Card, Field, Tone
from bot.records import Case, CaseSource, Decision

if TYPE_CHECKING:
    from bot.responder import Responder
    from bot.store import Store

REPORTS_AN_HOUR = 5  # of one member

_HOUR_SECONDS = 3600.0
_REPORTERS_KEPT = 10_000
_QUOTED = 1000  # characters
_REPORTS_SHOWN = 5
_WHAT = {
    CaseSource.REPORT: "A reply was reported",
    CaseSource.AUTOMOD: "AutoMod acted on a message to me",
    CaseSource.FILTER: "This server's filter found something",
}
_NO_MESSAGE = "Discord stopped it before it was posted: there is nothing to delete, and nothing to learn from."
_DECIDED = {
    Decision.DISMISS: "Dismissed",
    Decision.DELETE: "Deleted",
    Decision.MUTE: "I don't answer the member any more",
    Decision.BAN: "The member's votes count no more",
    Decision.UNLEARN: "Never learned from",
}


class Cases:
    """For all servers; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, responder: Responder, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._responder = responder
        self._clock = clock
        self.showing = asyncio.Lock()  # reports that come at once make one card
        self._reported: OrderedDict[int, deque[float]] = OrderedDict()  # when a member reported, within the hour

    # ------------------------------------------------------------------ cases

    async def report(self, reply_id: int, message_id: int, member_id: int, reason: str) -> int | None:
        """Return the case that a report came to; None when the member reported too often within the hour."""
        if not self._may_report(member_id):
            return None
        case_id, _ = await self._store.report_reply(reply_id, message_id, member_id, text.normalise(reason))
        return case_id

    async def decide(self, case: Case, decision: Decision, actor_id: int) -> bool:
        """Decide on a case; return False when that was decided already, or the case was dismissed."""
        if not await self._store.decide(case, decision, actor_id):
            return False
        if decision is Decision.MUTE:
            self._responder.silence(case.guild_id, case.subject_id)
        return True

    async def card(self, case: Case) -> Card:
        """Return what moderators see of a case."""
        fields = [Field("Where", _where(case), inline=True)]
        if case.message_id is None:
            fields.append(Field("Message", _NO_MESSAGE))
        if case.subject_id is not None:
            about = "Asked by" if case.reply_id is not None else "Written by"
            fields.append(Field(about, f"<@{case.subject_id}>", inline=True))
        if case.report_count:
            told = [
                f"<@{report.member_id}>: {text.as_written(report.reason)}" for report in case.reports[:_REPORTS_SHOWN]
            ]
            if more := case.report_count - len(told):
                told.append(f"and {more} more" if told else f"{more} who {'is' if more == 1 else 'are'} not named")
            fields.append(Field(f"Reports: {case.report_count}", "\n".join(told)))
        if case.decision is not None:
            fields.append(Field("Decided", decided(case)))
        what = _WHAT[case.source]
        footer = "" if case.reply_id is None else f"Reply {case.reply_id}"
        tone = Tone.BAD if case.decision is None else Tone.PLAIN
        return Card(f"Case {case.id}: {what}", _quoted(await self._words(case)), tuple(fields), footer, tone)

    async def _words(self, case: Case) -> str:
        if case.quote or case.reply_id is None:
            return case.quote
        reply = await self._store.reply(case.reply_id)
        return text.visible(reply.outcome.completion) if reply is not None and reply.outcome is not None else ""

    def _may_report(self, member_id: int) -> bool:
        """Return whether a member may report now, and count it."""
        now = self._clock()
        times = self._reported.pop(member_id, None) or deque()
        self._reported[member_id] = times  # the newest
        while times and not 0 <= now - times[0] < _HOUR_SECONDS:
            times.popleft()
        if len(self._reported) > _REPORTERS_KEPT:
            self._reported.popitem(last=False)
        if len(times) >= REPORTS_AN_HOUR:
            return False
        times.append(now)
        return True

    # ------------------------------------------------------------------ members and servers

    async def mute(self, guild_id: int, member_id: int, actor_id: int, minutes: int | None) -> None:
        """Answer a member no more in a server, for some minutes or (None) until that is ended; replies stop at once."""
        await self._store.mute(guild_id, member_id, actor_id, minutes)
        self._responder.silence(guild_id, member_id)

    async def mute_role(
        self,
        guild_id: int,
        role_id: int,
        actor_id: int,
        minutes: int | None,
        *,
        has_role: Callable[[int], Awaitable[bool]],
    ) -> None:
        """Answer a role's members no more, as `mute` does; `has_role` says of who is answered now if they have it."""
        await self._store.mute(guild_id, role_id, actor_id, minutes, Scope.ROLE)
        for member_id in self._responder.askers(guild_id):
            if await has_role(member_id):
                self._responder.silence(guild_id, member_id)

    async def lock(self, guild_id: int, actor_id: int) -> bool:
        """Answer and post nothing in a server, and learn nothing anywhere, until `unlock`; return False if it was so.

        Done again, it finishes what a kill cut short.
        """
        before = await self._store.server_settings(guild_id)
        await self._store.change_server_settings(guild_id, actor_id, paused=True, locked=True)
        self._responder.silence(guild_id)
        await self._store.freeze_learning(True, actor_id, by_lock=True)
        return not before.locked

    async def unlock(self, guild_id: int, actor_id: int) -> bool:
        """End a lock; learning goes on with the last one, if a lock froze it. Return False when there was none."""
        if not (await self._store.server_settings(guild_id)).locked:
            return False
        await self._store.change_server_settings(guild_id, actor_id, paused=False, locked=False)
        if not await self._store.locked_servers():
            await self._store.freeze_learning(False, actor_id, by_lock=True)
        return True


def choices(case: Case) -> list[Decision]:
    """Return the decisions that a case leaves to make, in the order of its buttons: one may need more than one."""
    made = {case.decision, *case.further}
    if Decision.DISMISS in made:
        return []
    shown = case.reply_id is not None or case.message_id is not None
    of_message = {Decision.DELETE, Decision.UNLEARN} if shown else set()
    if Decision.DELETE in made:  # what is deleted teaches nothing
        made.add(Decision.UNLEARN)
    only_of_open = {Decision.DISMISS} if case.decision is None else set()
    of_member = {Decision.MUTE, Decision.BAN} if case.subject_id is not None else set()
    return [decision for decision in Decision if decision in (only_of_open | of_message | of_member) - made]


def decided(case: Case) -> str:
    """Say what was decided on a closed case and by whom, and what since."""
    assert case.decision is not None
    by = f" by <@{case.decided_by}>" if case.decided_by else ""
    since = "".join(f" Since then: {_DECIDED[decision]}." for decision in case.further)
    return f"{_DECIDED[case.decision]}; decided{by}.{since}"


def _where(case: Case) -> str:
    if case.message_id is None:
        return f"<#{case.channel_id}>"
    link = f"https://discord.com/channels/{case.guild_id}/{case.channel_id}/{case.message_id}"
    return f"<#{case.channel_id}>, [the message]({link})"


def _quoted(words: str) -> str:
    if not words.strip():
        return ""
    cut = words if len(words) <= _QUOTED else words[: _QUOTED - 1] + "…"
    return "> " + text.as_written(cut).replace("\n", "\n> ")
