"""Rating rooms: the operator's prompts, answered in a channel for members to rate. No member's text is in them.

Decides when a room has its turn, what holds it back, and what is asked; posts nothing itself. A room never keeps a
channel busy for its own sake (Discord's developer policy): a few prompts a day, each once, and none while nobody rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot import text
from bot.records import Ask, Message, Provenance

if TYPE_CHECKING:
    from bot.learning_records import OperatorPrompt, RatingRoom
    from bot.store import Store

USUAL_A_DAY, MOST_A_DAY = 4, 12
UNRATED_LIMIT = 3  # replies in a row that nobody rated; then a room waits
NOBODY = 0  # who asks: a prompt of the operator's has no member behind it

_DAY_SECONDS = 86_400.0
_SHOWN = 1500  # characters of a prompt
_HEAD = text.subtext(
    "For you to rate, 👍 or 👎 below my answer; it teaches me if you agreed: /consent give. "
    "The prompt is the operator's."
)
# Members' lines carry a name in a prompt, so these do too: made up, and several, or nights would learn that one name.
_SPEAKERS = ("Robin", "Kim", "Noor", "Sascha", "Mika", "Ariel", "Jun", "Remi", "Toni", "Ezra", "Yuki", "Luz")


class Hold(StrEnum):
    """What holds a room back."""

    PAUSED = "paused"
    NO_PROMPTS = "no prompts"
    UNRATED = "unrated"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a room stands. `next_at` is when its next prompt comes, if nothing holds it back by then."""

    room: RatingRoom
    next_at: float
    hold: Hold | None
    prompts_left: int
    prompts: int

    @property
    def per_day(self) -> int:
        return round(_DAY_SECONDS / self.room.interval_seconds)


class Rooms:
    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def start(self, guild_id: int, channel_id: int, per_day: int, actor_id: int) -> None:
        """Make a channel the server's room; started again, it waits no longer for ratings of earlier replies."""
        interval = _DAY_SECONDS / min(max(per_day, 1), MOST_A_DAY)
        await self._store.start_room(guild_id, channel_id, interval, actor_id)
        await self._store.add_audit(guild_id, actor_id, "room start", {"channel_id": channel_id, "per_day": per_day})

    async def stop(self, guild_id: int, actor_id: int) -> bool:
        """Return whether there was one."""
        stopped = await self._store.stop_room(guild_id)
        if stopped:
            await self._store.add_audit(guild_id, actor_id, "room stop", {})
        return stopped

    async def stop_in(self, guild_id: int, channel_id: int, actor_id: int) -> None:
        """Stop the server's room if it is in a channel that is gone."""
        room = await self._store.rating_room(guild_id)
        if room is not None and room.channel_id == channel_id:
            await self.stop(guild_id, actor_id)

    async def schedule(self, guild_id: int) -> Schedule | None:
        room = await self._store.rating_room(guild_id)
        if room is None:
            return None
        prompts, left = await self._store.count_prompts()
        return Schedule(room, self._next_at(room, self._clock()), await self._hold(room), left, prompts)

    async def due(self) -> list[RatingRoom]:
        """Return the rooms whose next prompt should be posted now. Missed ones are not made up for."""
        now = self._clock()
        rooms = [room for room in await self._store.rating_rooms() if self._next_at(room, now) <= now]
        return [room for room in rooms if await self._hold(room) is None]

    async def take(self, room: RatingRoom) -> OperatorPrompt | None:
        """Return the room's next prompt, which is used up with that: a kill in between never shows one twice."""
        fresh = await self._store.prompts(1)
        if not fresh or fresh[0].uses:
            return None
        await self._store.note_room_post(room.guild_id)
        return await self._store.take_prompt()

    def _next_at(self, room: RatingRoom, now: float) -> float:
        if room.posted_at is None or room.posted_at > now:  # a clock that was set back holds nothing up
            return now
        return room.posted_at + room.interval_seconds

    async def _hold(self, room: RatingRoom) -> Hold | None:
        if (await self._store.server_settings(room.guild_id)).paused:
            return Hold.PAUSED
        if (await self._store.count_prompts())[1] == 0:
            return Hold.NO_PROMPTS
        return Hold.UNRATED if await self._is_ignored(room) else None

    async def _is_ignored(self, room: RatingRoom) -> bool:
        """Return whether nobody rated the last replies of the room since it was started."""
        rated = await self._store.rated_in_room(room, UNRATED_LIMIT)
        return len(rated) == UNRATED_LIMIT and not any(rated)


def shown(prompt: OperatorPrompt) -> str:
    """Return how a prompt stands in the channel, above the reply."""
    told = prompt.text if len(prompt.text) <= _SHOWN else prompt.text[:_SHOWN] + "…"
    quoted = f"**{speaker(prompt)}:** {text.harmless(text.normalise(told))}".replace("\n", "\n> ")
    return f"{_HEAD}\n> {quoted}"


def ask(prompt: OperatorPrompt, room: RatingRoom, message_id: int) -> Ask:
    """Return what the reply to a prompt answers: `message_id` shows the prompt. Each is a conversation of its own."""
    return Ask(
        asked_message_id=message_id,
        channel_id=room.channel_id,
        guild_id=room.guild_id,
        member_id=NOBODY,
        provenance=Provenance.OPERATOR,
        conversation_id=f"prompt:{prompt.id}",
    )


def history(prompt: OperatorPrompt, room: RatingRoom, message_id: int) -> list[Message]:
    """Return what is said before the reply: the prompt, and nothing of what members wrote in the channel."""
    return [Message(message_id, room.channel_id, NOBODY, speaker(prompt), prompt.text)]


def speaker(prompt: OperatorPrompt) -> str:
    """Return the made-up name under which a prompt is said."""
    return _SPEAKERS[prompt.id % len(_SPEAKERS)]
