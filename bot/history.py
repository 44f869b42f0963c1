"""What was said in a channel, as the conversation reads it: recent messages, the reply chain, a thread's first message.

Keeps a ring of each channel where the bot answers, fed by events and read from Discord once. Decides nothing about what
fits a prompt; what the bot itself said stands here as displayed, and the responder puts its completions in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import discord

from bot.attention import role_ids
from bot.member_roles import MemberRoles
from bot.moderation.limits import Scope
from bot.records import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.readable import Readable
    from bot.store import Store

_CHANNELS_KEPT = 1000
_SINGLES_KEPT = 2000  # messages outside the rings: ancestors and thread starters
_PASSED_OVER_KEPT = 2000  # messages
_HOPS = 10  # replies that are followed upwards
_NAMES = re.compile(r"<a?(:\w{2,32}:)\d+>")  # a server's own emoji
_AFTER_MENTION = " \t\n,:，：、"
_UNREACHABLE = (discord.HTTPException, aiohttp.ClientError, OSError)


@dataclass(slots=True)
class _Ring:
    messages: dict[int, Message] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)  # while it is read: what events took away must not come back
    seeded: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Histories:
    """The channels' histories; `keep` is the conversation's window in messages, and up to three times as many stay."""

    def __init__(self, client: discord.Client, store: Store, readable: Readable, *, keep: int) -> None:
        self._client = client
        self._store = store
        self._readable = readable
        self._keep = keep
        self._roles = MemberRoles()
        self._rings: OrderedDict[int, _Ring] = OrderedDict()
        self._singles: OrderedDict[int, Message | None] = OrderedDict()  # None: it does not exist any more
        self._passed_over: OrderedDict[int, None] = OrderedDict()  # messages that were not answered for what they say
        self._rootless: set[int] = set()  # own messages that are known to answer nothing

    # ------------------------------------------------------------------ events

    def note(self, message: discord.Message) -> None:
        """Remember a new or edited message where it matters."""
        self._roles.note(message.author)
        ring = self._rings.get(message.channel.id)
        if (ring is None and message.id not in self._singles) or not _is_talk(message):
            return
        noted = self._record(message)
        if message.edited_at is not None and not noted.content:
            return  # an edit whose text Discord keeps from us
        if message.id in self._singles:
            self._singles[message.id] = noted
        if ring is None or (message.edited_at is not None and message.id not in ring.messages):
            return
        ring.messages[noted.id] = noted
        if len(ring.messages) > 3 * self._keep:
            ring.messages = dict(sorted(ring.messages.items())[-2 * self._keep :])

    def delete(self, channel_id: int, message_ids: Iterable[int]) -> None:
        ring = self._rings.get(channel_id)
        for message_id in message_ids:
            if message_id in self._singles:
                self._singles[message_id] = None
            if ring is not None:
                ring.messages.pop(message_id, None)
                if not ring.seeded:
                    ring.deleted.add(message_id)

    def pass_over(self, message_id: int) -> None:
        """Leave a message out of all talk from now on, as far back as this process remembers."""
        self._passed_over[message_id] = None
        if len(self._passed_over) > _PASSED_OVER_KEPT:
            self._passed_over.popitem(last=False)

    def forget_member(self, member_id: int) -> None:
        """Drop what a member said."""
        for ring in self._rings.values():
            ring.messages = {m.id: m for m in ring.messages.values() if m.author_id != member_id}
        for single in [m.id for m in self._singles.values() if m is not None and m.author_id == member_id]:
            del self._singles[single]

    def forget(self) -> None:
        """Drop everything: after a new session, events may have been missed."""
        self._rings.clear()
        self._singles.clear()

    # ------------------------------------------------------------------ reading

    async def until(self, asked: discord.Message) -> list[Message]:
        """Return what was said up to `asked` and may be read, oldest first, `asked` last; nothing where it may not be.

        Messages whose text Discord keeps from us (no message-content intent) are left out, as is what can't be
        fetched. Raises StoreError.
        """
        channel = asked.channel
        question = self._record(asked)
        said = {message.id: message for message in await self._recent(channel, asked.id)}
        said[question.id] = question
        for message in await self._ancestors(channel, question, said):
            said[message.id] = message
        if isinstance(channel, discord.Thread) and (starter := await self._starter(channel)) is not None:
            said.setdefault(starter.id, starter)
        earlier = [m for _, m in sorted(said.items()) if m.id < question.id and m.id not in self._passed_over]
        told = [*(m for m in earlier if m.is_self or m.content), question]
        if asked.guild is not None:
            told = await self._with_roles(told, asked.guild)
        readable = await self._readable.of(told, asked.guild.id if asked.guild else None)
        return [await self._with_parent(message) for message in readable]

    async def _with_roles(self, told: list[Message], guild: discord.Guild) -> list[Message]:
        """Return the talk with its members' roles as they are now, where a role is muted and they matter."""
        if all(mute.scope is not Scope.ROLE for mute in await self._store.mutes(guild.id)):
            return told
        roles = await self._roles.of(guild, {message.author_id for message in told if not message.is_self})
        return [replace(m, role_ids=roles.get(m.author_id, m.role_ids)) for m in told]

    async def _recent(self, channel: discord.abc.Messageable, asked_id: int) -> list[Message]:
        ring = await self._ring(channel)
        newest = sorted(ring.messages.values(), key=lambda message: message.id)
        if asked_id in ring.messages or not newest or newest[0].id < asked_id:
            # More than fit the conversation's window, so that its start can stand still while talk goes on.
            return [message for message in newest if message.id <= asked_id][-2 * self._keep :]
        return await self._read(channel, before=discord.Object(asked_id))

    async def _ring(self, channel: Any) -> _Ring:
        ring = self._rings.setdefault(channel.id, _Ring())
        self._rings.move_to_end(channel.id)
        if len(self._rings) > _CHANNELS_KEPT:
            self._rings.popitem(last=False)
        async with ring.lock:
            if not ring.seeded:
                for message in await self._read(channel):
                    if message.id not in ring.deleted:
                        ring.messages.setdefault(message.id, message)
                ring.seeded = True
                ring.deleted.clear()
        return ring

    async def _read(self, channel: discord.abc.Messageable, before: discord.Object | None = None) -> list[Message]:
        found: list[Message] = []
        with contextlib.suppress(*_UNREACHABLE):  # no permission to read back, or Discord is down: then without
            found = [
                self._record(message)
                async for message in channel.history(limit=2 * self._keep, before=before)
                if _is_talk(message)
            ]
        return found

    async def _ancestors(
        self, channel: discord.abc.Messageable, message: Message, known: dict[int, Message]
    ) -> list[Message]:
        """Follow the replies upwards, through messages that are known and those that must be fetched."""
        chain: list[Message] = []
        for _ in range(_HOPS):
            message = await self._with_parent(message)
            if message.reply_to_id is None:
                break
            parent = known.get(message.reply_to_id) or await self._single(channel, message.reply_to_id)
            if parent is None or parent.id >= message.id:
                break
            chain.append(parent)
            message = parent
        return chain

    async def _starter(self, thread: discord.Thread) -> Message | None:
        """Return the message that a thread began with; it has the thread's id."""
        if isinstance(thread.parent, discord.ForumChannel):
            return await self._single(thread, thread.id)
        parent = self._client.get_partial_messageable(thread.parent_id, guild_id=thread.guild.id)
        ring = self._rings.get(thread.parent_id)
        return (ring.messages.get(thread.id) if ring else None) or await self._single(parent, thread.id)

    async def _single(self, channel: Any, message_id: int) -> Message | None:
        if message_id not in self._singles:
            try:
                self._keep_single(message_id, self._record(await channel.fetch_message(message_id)))
            except (discord.NotFound, discord.Forbidden):
                self._keep_single(message_id, None)
            except _UNREACHABLE:
                return None
        return self._singles[message_id]

    def _keep_single(self, message_id: int, message: Message | None) -> None:
        self._singles[message_id] = message
        if len(self._singles) > _SINGLES_KEPT:
            self._singles.popitem(last=False)

    async def _with_parent(self, message: Message) -> Message:
        """Say what an own message without a reference answers: the further parts of a long reply carry none."""
        if not message.is_self or message.reply_to_id is not None or message.id in self._rootless:
            return message
        reply = await self._store.reply_of_message(message.id)
        if reply is None:
            # A part that was just sent may not be in the store yet: only what is old is settled.
            if len(self._rootless) < _SINGLES_KEPT and self._is_settled(message.id):
                self._rootless.add(message.id)
            return message
        message = replace(message, reply_to_id=reply.ask.asked_message_id)
        ring = self._rings.get(message.channel_id)
        if ring is not None and message.id in ring.messages:
            ring.messages[message.id] = message
        return message

    @staticmethod
    def _is_settled(message_id: int) -> bool:
        age = discord.utils.utcnow() - discord.utils.snowflake_time(message_id)
        return age.total_seconds() > 60

    # ------------------------------------------------------------------ records

    def _record(self, message: discord.Message) -> Message:
        assert self._client.user is not None
        replied = message.reference if message.type is discord.MessageType.reply else None
        if replied is not None and isinstance(replied.resolved, discord.Message):
            self._keep_resolved(replied.resolved)
        return Message(
            id=message.id,
            channel_id=message.channel.id,
            author_id=message.author.id,
            author_name=message.author.display_name,
            content=spoken(message, self._client.user),
            is_self=message.author.id == self._client.user.id,
            is_bot=message.author.bot,
            reply_to_id=replied.message_id if replied is not None else None,
            role_ids=role_ids(message.author),
        )

    def _keep_resolved(self, message: discord.Message) -> None:
        # What Discord sends along with a reply need not be fetched.
        if message.id not in self._singles:
            self._keep_single(message.id, self._record(message))


def spoken(message: discord.Message, me: discord.ClientUser) -> str:
    """Return a message as it reads: names for mentions, without the mention of the bot that only calls it."""
    content = message.clean_content.strip()
    calls, names = [f"<@{me.id}>", f"<@!{me.id}>"], {me.display_name, me.name}
    if message.guild is not None:
        names.add(message.guild.me.display_name)
        if (role := message.guild.self_role) is not None:
            calls.append(role.mention)
            names.add(role.name)
    if message.content.lstrip().startswith(tuple(calls)):
        for name in sorted(names, key=len, reverse=True):
            if content.startswith(f"@{name}"):
                # Somebody who says nothing but the name still says something.
                content = content.removeprefix(f"@{name}").lstrip(_AFTER_MENTION) or content
                break
    notes = [_attached(attachment) for attachment in message.attachments]
    notes += [f"[sticker: {sticker.name}]" for sticker in message.stickers]
    return "\n".join(filter(None, [_NAMES.sub(r"\1", content), *notes]))


def _attached(attachment: discord.Attachment) -> str:
    kind = "picture" if (attachment.content_type or "").startswith("image/") else "file"
    return f"[{kind}: {attachment.filename}]"


def _is_talk(message: discord.Message) -> bool:
    """Return whether someone said it; joins, pins and the like are no turns."""
    return message.type in (discord.MessageType.default, discord.MessageType.reply) and not message.flags.ephemeral
