"""By which adapter a reply is made: its conversation, and the arm of that conversation while a canary runs.

Owns which replies make one conversation, and follows what is served; decides no promotion and no rollback. The arm is
kept with the reply and shown to nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.records import Ask, Placement
from models.arms import Arm, assign

if TYPE_CHECKING:
    from bot.store import Store
    from models.adapters import Serving

_SILENCE_SECONDS = 30 * 60.0  # after which talk in a channel is a new conversation
_CHANNELS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Choice:
    """`adapter` None is the base."""

    adapter: str | None
    placement: Placement


def choose(conversation_id: str, serving: Serving) -> Choice:
    """Choose the adapter that answers in a conversation, always the same while nothing changes in what is served."""
    canary = serving.canary
    if canary is None:
        return Choice(serving.adapter, Placement(conversation_id))
    assigned = assign(conversation_id, canary=canary.adapter, share=canary.share, salt=canary.salt)
    adapter = canary.adapter if assigned.arm is Arm.CANDIDATE else serving.adapter
    return Choice(adapter, Placement(conversation_id, canary.adapter, assigned.arm, assigned.propensity))


class Arms:
    """Place asks while the bot runs; `serving` gives what is served now, from memory."""

    def __init__(self, store: Store, serving: Callable[[], Serving], *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._serving = serving
        self._clock = clock
        self._talk: dict[int, tuple[str, float]] = {}  # by channel: its conversation and when it was last in use

    async def place(self, ask: Ask) -> Choice:
        """Choose for one reply. Raises StoreError."""
        return choose(await self._conversation(ask), self._serving())

    async def _conversation(self, ask: Ask) -> str:
        """Return the conversation of an ask: its own, that of its earlier versions, or the talk in its channel.

        A channel is no conversation: it never ends, and a server has too few of them to compare two arms by.
        """
        if ask.conversation_id is not None:
            return ask.conversation_id
        if ask.variant and (kept := await self._store.conversation_of(ask.asked_message_id)):
            return kept
        now = self._clock()
        conversation, last = self._talk.pop(ask.channel_id, ("", 0.0))
        if not conversation or not 0 <= now - last <= _SILENCE_SECONDS:
            conversation = f"{ask.channel_id}:{ask.asked_message_id}"
        self._talk[ask.channel_id] = (conversation, now)
        if len(self._talk) > _CHANNELS_KEPT:
            del self._talk[next(iter(self._talk))]
        return conversation
