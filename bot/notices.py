"""Cards in the moderators' channels: how a running night goes, and what came of nights.

Owns where they stand and how often they are edited; the words are `bot.night_cards`' and `bot.morning_card`'s. A
channel that is gone or closed to the bot is passed over: nothing of learning waits for Discord.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot import night_cards
from bot.errors import StoreError
from bot.night_cards import Card, Tone

if TYPE_CHECKING:
    from bot.learning_records import NightProgress
    from bot.store import Store

log = logging.getLogger(__name__)

_GONE = (discord.NotFound, discord.Forbidden)
_FAILURES = (discord.HTTPException, aiohttp.ClientError, OSError)
_KEY = "night_status_messages"  # in the store's meta table: where the running night shows, for the next process
# A night may take hours, and Discord limits edits of messages that are older than one: after ten minutes, fewer.
_QUICK_ROUNDS, _SLOWER = 150, 20
_FILE_BYTES = 8 * 2**20  # Discord takes 10 MB
_EMBEDS = 6000  # characters, of all embeds of a message together
_COLOURS = {
    Tone.PLAIN: discord.Colour.from_rgb(122, 92, 214),
    Tone.GOOD: discord.Colour.from_rgb(46, 160, 103),
    Tone.BAD: discord.Colour.from_rgb(209, 109, 35),
}


class Notices:
    def __init__(self, client: discord.Client, store: Store) -> None:
        self._client = client
        self._store = store

    async def moderators(self) -> dict[int, int]:
        """Return the moderators' channel of every server that has one."""
        found: dict[int, int] = {}
        for guild in self._client.guilds:
            try:
                chosen = (await self._store.server_settings(guild.id)).moderators_channel_id
            except StoreError as error:
                log.warning("server %s: its moderators' channel can't be read: %s", guild.id, error)
                continue
            if chosen is not None:
                found[guild.id] = chosen
        return found

    async def channels(self, *, asked_in: tuple[int, int] | None = None) -> list[int]:
        """Return every server's moderators' channel; for the server of `asked_in` (guild, channel) else that one."""
        instead = {asked_in[0]: asked_in[1]} if asked_in is not None else {}
        return list({**instead, **await self.moderators()}.values())

    async def known(self, guild_id: int, member_ids: Collection[int]) -> set[int]:
        """Return which of these members rated in a server, whose moderators so may read of them."""
        try:
            return await self._store.known_raters(guild_id, member_ids)
        except StoreError as error:
            log.warning("server %s: its raters can't be read: %s", guild_id, error)
            return set()

    async def post(
        self,
        card: Card,
        channel_ids: Iterable[int],
        *,
        files: Sequence[Path] = (),
        unattached: str = "",
        view: discord.ui.View | None = None,
        while_locked: bool = False,
    ) -> list[tuple[int, int]]:
        """Post a card; the first picture among `files` shows in it. Return (channel, message) where it stands.

        `view` has its buttons. In a locked server it stands only `while_locked`, as reports do. Where the files can't
        go along (too large, not permitted there), the card says `unattached` instead.
        """
        fit = await asyncio.to_thread(lambda: [path for path in files if _fits(path)])
        whole = bool(files) and len(fit) == len(files)
        bare = replace(card, footer=f"{card.footer}\n{unattached}".strip())
        posted: list[tuple[int, int]] = []
        for channel_id in channel_ids:
            if not while_locked and await self._is_locked(channel_id):
                continue
            message_id = await self._send(channel_id, card if whole else bare, fit, view)
            if message_id is None and fit:
                message_id = await self._send(channel_id, bare, (), view)
            if message_id is not None:
                posted.append((channel_id, message_id))
        return posted

    async def _is_locked(self, channel_id: int) -> bool:
        """Return whether a channel's server is locked; also where that can't be read now."""
        channel = self._client.get_channel(channel_id)
        guild = getattr(channel, "guild", None)
        try:
            return guild is not None and (await self._store.server_settings(guild.id)).locked
        except StoreError as error:
            log.warning("channel %s: it isn't known if its server is locked: %s", channel_id, error)
            return True

    async def _send(
        self, channel_id: int, card: Card, files: Sequence[Path], view: discord.ui.View | None
    ) -> int | None:
        """Send one message and return its id, None when Discord or the disk refused it."""
        picture = next((path.name for path in files if path.suffix == ".png"), None)
        channel = self._client.get_partial_messageable(channel_id)
        try:
            attached = await asyncio.to_thread(lambda: [discord.File(path) for path in files])
            message = await channel.send(
                embed=as_embed(card, picture=picture),
                files=attached,
                silent=True,
                view=view,  # type: ignore[arg-type]  # None is no view
                allowed_mentions=discord.AllowedMentions.none(),
            )
        except _FAILURES as error:
            log.warning("channel %s: %r could not be posted there: %s", channel_id, card.title, error)
            return None
        return message.id

    async def edit(self, place: tuple[int, int], card: Card, *, view: discord.ui.View | None = None) -> bool:
        """Put another card in place, with these buttons or none; return False when the message is gone for good."""
        channel = self._client.get_partial_messageable(place[0])
        try:
            await channel.get_partial_message(place[1]).edit(embed=as_embed(card), view=view)
        except _GONE:
            return False
        except _FAILURES as error:
            log.debug("message %s could not be edited this time: %s", place[1], error)
        return True

    async def kept(self, night_id: str) -> list[tuple[int, int]]:
        """Return where an earlier process showed a night."""
        with contextlib.suppress(StoreError, ValueError, TypeError, KeyError):
            told = json.loads(await self._store.meta(_KEY) or "{}")
            if told.get("night") == night_id:
                return [(int(channel), int(message)) for channel, message in told["messages"]]
        return []

    async def keep(self, night_id: str, places: Sequence[tuple[int, int]]) -> None:
        with contextlib.suppress(StoreError):  # then a restart shows the night in a message of its own
            await self._store.set_meta(_KEY, json.dumps({"night": night_id, "messages": places}))


class LiveStatus:
    """Shows one night while it runs: latest wins, at most one round of edits every `pause_seconds`, later fewer.

    Nothing stands anywhere before the first progress. A message that a moderator deletes is not posted again.
    """

    def __init__(
        self,
        notices: Notices,
        channel_ids: Sequence[int],
        *,
        pause_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._notices = notices
        self._channel_ids = channel_ids
        self._pause_seconds = pause_seconds
        self._sleep = sleep
        self._latest: NightProgress | None = None
        self._dirty = asyncio.Event()
        self._places: list[tuple[int, int]] | None = None
        self._showing = asyncio.Lock()
        self._pump = asyncio.create_task(self._run(), name="night status")

    def update(self, progress: NightProgress) -> None:
        self._latest = progress
        self._dirty.set()

    async def finish(self, night_id: str, card: Card) -> None:
        """Show how the night ended in place of its progress, also of what an earlier process showed."""
        await self.stop()
        places = await self._notices.kept(night_id) if self._places is None else self._places
        for place in places:
            await self._notices.edit(place, card)

    async def stop(self) -> None:
        """End the edits and leave what stands."""
        async with self._showing:  # a message under way is not cut off: it would stand there for ever
            self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        for rounds in itertools.count(1):
            await self._dirty.wait()
            async with self._showing:
                self._dirty.clear()
                assert self._latest is not None
                try:
                    await self._show(self._latest)
                except Exception:  # a night is not less learned for it
                    log.exception("the status of a night could not be shown")
            await self._sleep(self._pause_seconds * (1 if rounds < _QUICK_ROUNDS else _SLOWER))

    async def _show(self, progress: NightProgress) -> None:
        card = night_cards.progress(progress)
        if self._places is None:
            self._places = await self._notices.kept(progress.night_id)
            shown = {channel for channel, _ in self._places}
            missing = [channel for channel in self._channel_ids if channel not in shown]
            await self._edit(card)
            self._places += await self._notices.post(card, missing)
            await self._notices.keep(progress.night_id, self._places)
        else:
            await self._edit(card)

    async def _edit(self, card: Card) -> None:
        places = self._places or []
        self._places = [place for place in places if await self._notices.edit(place, card)]


def as_embed(card: Card, *, picture: str | None = None, characters: int = _EMBEDS) -> discord.Embed:
    """Return a card within Discord's limits and as many characters: fields that find no room are left out."""
    embed = discord.Embed(title=_cut(card.title, 256), description=_cut(card.text, 4096), colour=_COLOURS[card.tone])
    if card.footer:
        embed.set_footer(text=_cut(card.footer, 2048))
    if picture:
        embed.set_image(url=f"attachment://{picture}")
    for field in card.fields[:25]:
        room = characters - len(embed) - min(len(field.name), 256)
        if room > 1:
            embed.add_field(name=_cut(field.name, 256), value=_cut(field.value, min(1024, room)), inline=field.inline)
    return embed


def as_embeds(cards: Sequence[Card]) -> list[discord.Embed]:
    """Return cards to stand in one message, an equal part of its characters for each; a text takes half of that."""
    share = _EMBEDS // max(len(cards), 1)
    return [as_embed(replace(card, text=_cut(card.text, share // 2)), characters=share) for card in cards]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fits(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= _FILE_BYTES
    except OSError:
        return False
