"""Whom the character answers: decides for each message whether it wants a reply.

Remembers what a decision depends on (threads it was called into, how long bots have talked among themselves, how often
it spoke up unasked) for as long as the process lives. Answers nothing itself.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

import discord

if TYPE_CHECKING:
    from bot.records import ServerSettings
    from bot.store import Store

BOT_TURNS = 3  # answers to other bots in a row, until a person says something
_REMEMBERED = 4096  # channels
_TALK = (discord.MessageType.default, discord.MessageType.reply)

V = TypeVar("V")


class Occasion(StrEnum):
    CALLED = "called"  # mentioned, replied to, or written to directly
    OPEN = "open"  # in a free channel or a thread that it is in
    UNPROMPTED = "unprompted"


class _Recent(OrderedDict[int, V], Generic[V]):
    """A dictionary by channel that forgets the one set longest ago."""

    def __setitem__(self, key: int, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


class Attention:
    """Decide by the server's settings; `draw` decides about unprompted talk."""

    def __init__(self, client: discord.Client, store: Store, *, draw: random.Random) -> None:
        self._client = client
        self._store = store
        self._draw = draw
        self._threads: _Recent[None] = _Recent()  # threads it was called into
        self._left: _Recent[None] = _Recent()  # threads it was taken out of and not called into since
        self._bot_turns: _Recent[int] = _Recent()
        self._unasked: _Recent[int] = _Recent()  # unprompted replies since somebody talked to it

    async def occasion(self, message: discord.Message) -> Occasion | None:
        """Say on what occasion a message is answered; None: it is not. Raises StoreError."""
        if message.author == self._client.user or message.type not in _TALK:
            return None
        by_bot = message.author.bot or message.webhook_id is not None
        # Before the first wait: a message is judged by what came before it, not by what comes meanwhile.
        called = self._is_called(message)
        is_in = self.is_in(message.channel)
        if not by_bot:
            self._bot_turns.pop(message.channel.id, None)
            if called:
                self._unasked.pop(message.channel.id, None)
        if not _can_be_answered(message):
            return None
        if message.author.id in await self._store.opted_out():
            return None
        guild_id = message.guild.id if message.guild else None
        server = await self._store.server_settings(guild_id)
        if await self._store.is_muted(guild_id, message.author.id, role_ids(message.author)):
            return None
        if server.paused or (by_bot and not self._may_answer_bot(message.channel.id, server)):
            return None
        if called:
            occasion = Occasion.CALLED
            self._join(message.channel)
        elif message.guild is None or _is_for_another(message):
            return None
        elif is_in or message.channel.id in await self._store.free_channels(message.guild.id):
            occasion = Occasion.OPEN
        elif not by_bot and self._speaks_up(message.channel.id, server):
            occasion = Occasion.UNPROMPTED
            self._unasked[message.channel.id] = self._unasked.get(message.channel.id, 0) + 1
        else:
            return None
        if by_bot:
            self._bot_turns[message.channel.id] = self._bot_turns.get(message.channel.id, 0) + 1
        return occasion

    def is_in(self, channel: object) -> bool:
        """Return whether it follows a thread: it was called or added there, and not taken out since."""
        if not isinstance(channel, discord.Thread) or channel.id in self._left:
            return False
        return channel.me is not None or channel.id in self._threads

    def leave(self, thread_id: int) -> None:
        """Follow a thread no longer, whoever added it there, until it is called again."""
        self._threads.pop(thread_id, None)
        self._left[thread_id] = None  # discord.py's Thread.me stays set after the bot has left

    def forget(self, thread_id: int) -> None:
        """Note that a thread is gone."""
        self._threads.pop(thread_id, None)
        self._left.pop(thread_id, None)

    def _join(self, channel: object) -> None:
        if isinstance(channel, discord.Thread):
            self._threads[channel.id] = None
            self._left.pop(channel.id, None)

    def _may_answer_bot(self, channel_id: int, server: ServerSettings) -> bool:
        return server.answer_bots and self._bot_turns.get(channel_id, 0) < BOT_TURNS

    def _is_called(self, message: discord.Message) -> bool:
        if message.guild is None or self._client.user in message.mentions:
            return True
        if message.role_mentions and message.guild.self_role in message.role_mentions:
            return True  # the role that Discord made for the bot has its name: members take one for the other
        return message.type is discord.MessageType.reply and _replied_author(message) == self._client.user

    def _speaks_up(self, channel_id: int, server: ServerSettings) -> bool:
        if channel_id != server.unprompted_channel_id or server.unprompted_chance <= 0:
            return False
        chance = server.unprompted_chance * 0.5 ** self._unasked.get(channel_id, 0)
        return self._draw.random() < chance


def _replied_author(message: discord.Message) -> discord.abc.User | None:
    resolved = message.reference.resolved if message.reference else None
    return resolved.author if isinstance(resolved, discord.Message) else None


def _is_for_another(message: discord.Message) -> bool:
    """Return whether members talk to each other: a reply to, or a mention of, someone else."""
    if message.type is discord.MessageType.reply and _replied_author(message) is not None:
        return True
    return bool(message.mentions)


def _can_be_answered(message: discord.Message) -> bool:
    """Return whether there is text to answer and a permission to."""
    if not (message.content or message.attachments or message.stickers):
        return False  # the message-content intent is off, and Discord kept it from us
    if message.guild is None:
        return True
    return may_write(message.channel)


def role_ids(user: object) -> tuple[int, ...]:
    """Return a member's roles; nobody has any outside a server."""
    return tuple(role.id for role in user.roles) if isinstance(user, discord.Member) else ()


def may_write(channel: object) -> bool:
    """Return whether the bot may write in a server's channel, as far as is known."""
    if not isinstance(channel, discord.abc.GuildChannel | discord.Thread):
        return True  # discord.py does not know the channel; Discord will say
    try:
        allowed = channel.permissions_for(channel.guild.me)
    except discord.ClientException:  # a thread whose parent is not known
        return True
    if isinstance(channel, discord.Thread):
        return allowed.view_channel and allowed.send_messages_in_threads and not channel.locked
    return allowed.view_channel and allowed.send_messages


def may_refer(channel: object) -> bool:
    """Return whether the bot may send visible replies: Discord wants the permission to read the history for it."""
    if not isinstance(channel, discord.abc.GuildChannel | discord.Thread):
        return True
    try:
        return channel.permissions_for(channel.guild.me).read_message_history
    except discord.ClientException:
        return True
