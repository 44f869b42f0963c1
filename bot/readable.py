"""What of a channel's talk the character may read. All that was said passes here before it can reach a prompt.

Decides by message: who wrote it, and whether the server's rules hide what it says. Remembers what was read, so that a
question costs only what is new.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.moderation.findings import Audience, Policy
    from bot.records import Message, ServerSettings
    from bot.screening import Screening
    from bot.store import Store

    _Text = tuple[int, str]  # a message by its id, or a name by its member's

_TEXTS_KEPT = 20_000


class Readable:
    """Leave out of a history what must not be read; `audience_of` says for whom a channel is."""

    def __init__(
        self, store: Store, screening: Screening, audience_of: Callable[[int, ServerSettings], Audience]
    ) -> None:
        self._store = store
        self._screening = screening
        self._audience_of = audience_of
        # Whether that policy hides a text, which an edit makes another; nobody's words stay here.
        self._known: OrderedDict[tuple[int, int], tuple[Policy, bool]] = OrderedDict()

    async def of(self, history: Sequence[Message], guild_id: int | None) -> list[Message]:
        """Return what may be read of a history, oldest first; nothing where its last message, the asked one, may not.

        Left out is what members say who opted out or are muted, what they said before they had their data deleted, and
        what the server's rules hide; names that they hide are left out of what stays. The asked words are
        `bot.gate`'s to read, which says why they aren't answered.
        """
        *_, asked = history
        told = await self._of_members_to_read(history, guild_id)
        if asked not in told:
            return []
        server = await self._store.server_settings(guild_id)
        policy = await self._screening.policy(server, self._audience_of(asked.channel_id, server))
        talk = [_words(message) for message in told if not message.is_self and message is not asked]
        clean = await self._clean(talk, policy, self._screening.hidden)
        names = await self._clean(map(_name, told), policy, self._screening.hidden_by_rules)
        return [
            message if message.is_self or _name(message) in names else replace(message, author_name="")
            for message in told
            if message.is_self or message is asked or _words(message) in clean
        ]

    async def _of_members_to_read(self, history: Sequence[Message], guild_id: int | None) -> list[Message]:
        unread = await self._store.opted_out()
        deleted_at = await self._store.deleted_at({message.author_id for message in history})
        return [
            message
            for message in history
            if message.author_id not in unread
            and message.said_at >= deleted_at.get(message.author_id, -math.inf)
            and not await self._store.is_muted(guild_id, message.author_id, message.role_ids)
        ]

    async def _clean(
        self,
        texts: Iterable[_Text],
        policy: Policy,
        read: Callable[[Sequence[str], Policy], Awaitable[Sequence[bool | None]]],
    ) -> set[_Text]:
        """Return those of some texts, oldest first, that were read by `read`, now or before, and aren't hidden."""
        wanted = list(dict.fromkeys(texts))
        new = [text for text in wanted if self._hidden(text, policy) is None]
        if new:
            for text, hidden in zip(new, await read([words for _, words in new], policy), strict=True):
                if hidden is not None:
                    self._known[_key(text)] = policy, hidden
        clean = {text for text in wanted if self._hidden(text, policy) is False}
        while len(self._known) > _TEXTS_KEPT:
            self._known.popitem(last=False)
        return clean

    def _hidden(self, text: _Text, policy: Policy) -> bool | None:
        """Return whether a policy hides a text; None: it wasn't read by that policy."""
        by, hidden = self._known.get(_key(text), (None, None))
        return hidden if by == policy else None


def _key(text: _Text) -> tuple[int, int]:
    of, words = text
    return of, hash(words)


def _words(message: Message) -> _Text:
    return message.id, message.content


def _name(message: Message) -> _Text:
    return message.author_id, message.author_name
