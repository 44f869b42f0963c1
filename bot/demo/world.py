"""A small Discord server that runs live around any discord.py bot: its channels, its people, and what people can do.

Tests and the demo page act through the same methods. Every action checks what a real member could do, raises SimCord's
SetupError or BackendError (with Discord's code) where they could not, and returns in milliseconds; what the bot makes
of it shows later. One lock keeps actions apart, since SimCord refuses two at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import discord
from simcord.backend.access import channel_accessible, message_accessible
from simcord.backend.errors import BackendError, SetupError
from simcord.backend.models import Message, Overwrite
from simcord.builders import ChannelHandle
from simcord.enums import ChannelType, OverwriteType
from simcord.results import ResponseMessage

from bot.demo.live import LiveEnv

ANSWER_SECONDS = 3.0  # Discord's limit for the first answer to an interaction
_READY_SECONDS = 30.0
_POLL_SECONDS = 0.005

Member = Any  # simcord.actors.MemberActor
Channel = Any  # simcord.builders.ChannelHandle, or a channel's name
Result = Any  # simcord.results.InteractionResult: `response`, `followups`, `modal`, `acknowledged` fill in live
Target = Any  # discord.Message, ResponseMessage, or SimCord's stored Message

_MODERATOR = discord.Permissions(
    manage_guild=True,
    manage_channels=True,
    manage_messages=True,
    manage_threads=True,
    moderate_members=True,
    kick_members=True,
)


class LiveWorld:
    """The server 'Encore demo' with four people, live between `async with` and its end.

    `mei` and `alex` are members, `troll` too, `moderator` may manage the server. The bot sees every channel;
    #announcements is read-only for members and #mod-room hidden from them. Ids are the same in every run, so that a
    store kept from the last run still fits. The bot is closed at the end.

        async with LiveWorld(bot) as world:
            asked = await world.say(world.mei, "general", f"{world.mention} hello")
            await world.react(world.alex, world.messages("general")[-1], "👍")

    `errors` lists what the bot's handlers raised (newest 500 to 1,000) and what its tasks left unhandled.
    """

    def __init__(
        self,
        bot: discord.Client,
        *,
        bot_name: str = "Encore",
        approved_intents: discord.Intents | None = None,
        keep_messages: int = 1000,
    ) -> None:
        self.env = LiveEnv(bot, keep_messages=keep_messages, approved_intents=approved_intents)
        self.backend = self.env.backend
        self.lock = asyncio.Lock()
        # SimCord's own clock still stands at its start here: that is what makes these ids the same in every run.
        self.backend.bot_user.name = bot_name
        self.guild = self.env.create_guild("Encore demo", owner=self.env.create_user("owner"))
        moderators = self.guild.create_role("Moderator", permissions=_MODERATOR)
        self.mei = self._join("mei", "Mei 小美")
        self.alex = self._join("alex", "Alex")
        self.troll = self._join("grub", "Grub")
        self.moderator = self._join("sam", "Sam", roles=[moderators])
        self.people: tuple[Member, ...] = (self.mei, self.alex, self.troll, self.moderator)
        bots, everyone = self.guild.roles[bot_name], self.guild.default_role
        see, write = discord.PermissionOverwrite(view_channel=True), discord.PermissionOverwrite(send_messages=True)
        self.general = self.guild.create_text_channel("general", topic="Say hi to Encore")
        self.stage = self.guild.create_text_channel("stage", topic="Scenes and stories")
        self.announcements = self.guild.create_text_channel(
            "announcements",
            topic="Moderators write here, members read",
            overwrites={everyone: discord.PermissionOverwrite(send_messages=False), moderators: write, bots: write},
        )
        self.mod_room = self.guild.create_text_channel(
            "mod-room",
            topic="Moderators only",
            overwrites={everyone: discord.PermissionOverwrite(view_channel=False), moderators: see, bots: see},
        )

    def _join(self, name: str, shown: str, *, roles: Any = ()) -> Member:
        return self.guild.add_member(self.env.create_user(name, global_name=shown), roles=roles)

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._previous_handler = loop.get_exception_handler()
        loop.set_exception_handler(self._on_unhandled)
        try:
            await self.env.start()
            await self._ready()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _ready(self) -> None:
        await asyncio.wait_for(self.bot.wait_until_ready(), _READY_SECONDS)

    async def _close(self) -> None:
        async with self.lock:
            if not self.bot.is_closed():
                await self.bot.close()
            await self._end_tasks()
            await self.env.shutdown()
        asyncio.get_running_loop().set_exception_handler(self._previous_handler)

    async def restart_bot(self, bot: discord.Client) -> None:
        """Kill the running bot as a power cut would and start `bot` in the same world.

        The old bot's requests fail from now on and every task that its events started is cancelled; nothing of it is
        closed. Tasks started outside its events (the model's, the store's) live on.
        """
        async with self.lock:
            for transport in (self.bot.http, self.env._webhook_adapter):
                transport.request = _connection_lost
            await self._end_tasks()
            await self.env.restart_bot(bot)
        await self._ready()

    async def _end_tasks(self) -> None:
        while running := [task for task in self.env.tasks if task is not asyncio.current_task() and not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=1.0)

    def _on_unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), BaseException):
            self.env._record_error(error)
        loop.default_exception_handler(context)

    # ------------------------------------------------------------------ looking

    @property
    def bot(self) -> Any:
        return self.env.bot

    @property
    def mention(self) -> str:
        """The text that mentions the bot."""
        return f"<@{self.backend.bot_user.id}>"

    @property
    def errors(self) -> list[BaseException]:
        return list(self.env.errors)

    def channel(self, where: Channel | int) -> Any:
        """Return the channel, thread or DM channel by handle, id or name; raises SetupError."""
        if isinstance(where, int):
            found = self.backend.get_channel(where)
            return ChannelHandle(self.env, self.guild if found.guild_id is not None else None, found)
        if not isinstance(where, str):
            return where
        for found in self.backend.channels.values():
            if found.name == where:
                return ChannelHandle(self.env, self.guild, found)
        raise SetupError(f"There is no channel named {where!r}.")

    def messages(self, where: Channel, *, viewer: Member | None = None) -> list[Any]:
        """List a channel's stored messages, oldest first: all, or those that `viewer` can see.

        They are SimCord's own objects: `content`, `components`, `reactions` follow the bot's edits.
        """
        channel_id = self.channel(where).id
        stored = list(self.backend.messages.get(channel_id, {}).values())
        if viewer is None:
            return stored
        return [message for message in stored if self.can_read(viewer, message)]

    def replies(self, where: Channel) -> list[Any]:
        """List the bot's messages in a channel that everyone there can see, oldest first."""
        own = self.backend.bot_user.id
        return [message for message in self.messages(where) if message.author_id == own and not message.is_ephemeral]

    def can_see(self, member: Member, channel_id: int) -> bool:
        return bool(channel_accessible(self.backend, channel_id, member.id))

    def can_read(self, member: Member, message: Any) -> bool:
        return bool(message_accessible(self.backend, message.channel_id, message, member.id, history=True))

    def dm_channel(self, member: Member) -> Any:
        return member.user.dm_channel

    # ------------------------------------------------------------------ acting

    async def say(self, member: Member, where: Channel, text: str, *, reply_to: Target | None = None) -> Any:
        """Send a message, to a DM channel as a direct message, and return it as a discord.Message."""
        async with self.lock:
            channel = self.channel(where)
            self._check_text(text)
            if channel.guild is not None:
                target = None if reply_to is None else self._handle(reply_to)
                return await member.send(channel, text, reply_to=target)
            if channel.id != member.user.dm_channel.id:
                raise SetupError("A member writes in their own direct messages only.")
            reference = None
            if reply_to is not None:
                reference = {"channel_id": str(channel.id), "message_id": str(reply_to.id)}
            return await member.user.send_dm(text, reference=reference)

    async def dm(self, member: Member, text: str, *, reply_to: Target | None = None) -> Any:
        return await self.say(member, member.user.dm_channel, text, reply_to=reply_to)

    async def edit(self, member: Member, message: Target, text: str) -> None:
        async with self.lock:
            self._check_text(text)
            await self._actor(member, message).edit(self._handle(message), text)

    async def delete(self, member: Member, message: Target) -> None:
        async with self.lock:
            await self._actor(member, message).delete(self._handle(message))

    async def react(self, member: Member, message: Target, emoji: str) -> None:
        async with self.lock:
            await self._actor(member, message).set_reaction(self._handle(message), emoji, reacted=True)

    async def unreact(self, member: Member, message: Target, emoji: str) -> None:
        async with self.lock:
            await self._actor(member, message).set_reaction(self._handle(message), emoji, reacted=False)

    async def clear_reactions(self, message: Target, emoji: str | None = None) -> None:
        """Remove all reactions of a message, or all of one emoji, as a moderator's client does."""
        async with self.lock:
            channel_id = _channel_id(message)
            if emoji is None:
                self.backend.clear_reactions(channel_id, message.id)
            else:
                self.backend.clear_reaction(channel_id, message.id, emoji)

    async def typing(self, member: Member, where: Channel) -> None:
        async with self.lock:
            await member.typing(self.channel(where))

    async def slash(self, member: Member, where: Channel, name: str, /, **options: Any) -> Result:
        """Run a slash command by its full name ("encore channels add"); entity options take handles."""
        async with self.lock:
            channel = self.channel(where)
            if channel.guild is None:
                return await member.user.slash(name, **options)
            return await member.slash(channel, name, **options)

    async def autocomplete(
        self, member: Member, where: Channel, name: str, option: str, value: str, /, **filled: Any
    ) -> list[dict[str, Any]]:
        """Type into an option and return the choices that the bot offers ([] if it does not answer)."""
        async with self.lock:
            channel = self.channel(where)
            actor, place = (member.user, ()) if channel.guild is None else (member, (channel,))
            known = set(self.backend.interactions)
            await actor.autocomplete(*place, name, option, value, **filled)
            # The actor returns before a live bot has answered: follow the record that it made.
            record = next(self.backend.interactions[key] for key in self.backend.interactions.keys() - known)
        with suppress(TimeoutError):
            await _until(lambda: record.autocomplete_choices is not None, ANSWER_SECONDS)
        return list(record.autocomplete_choices or [])

    async def context_menu(self, member: Member, name: str, message: Target) -> Result:
        """Run a message context-menu command; SimCord offers them in servers only."""
        async with self.lock:
            channel = self.channel(_channel_id(message))
            if channel.guild is None:
                raise SetupError("Message commands can't be used in direct messages here.")
            return await member.context_menu(channel, name, self._handle(message))

    async def click(
        self, member: Member, message: Target, *, label: str | None = None, custom_id: str | None = None
    ) -> Result:
        async with self.lock:
            actor = self._actor(member, message)
            return await actor.click(self._handle(message), label=label, custom_id=custom_id)

    async def select(
        self, member: Member, message: Target, values: list[Any], *, custom_id: str | None = None
    ) -> Result:
        async with self.lock:
            return await self._actor(member, message).select(self._handle(message), values, custom_id=custom_id)

    async def submit_modal(self, member: Member, shown: Result, values: dict[str, Any]) -> Result:
        """Fill in the modal that `shown` (a result of this member) brought; values are keyed by custom_id."""
        async with self.lock:
            actor = member.user if shown._interaction.guild_id is None else member
            return await actor.submit_modal(shown, values)

    async def answered(self, result: Result, *, seconds: float = ANSWER_SECONDS) -> Result:
        """Wait until the bot has answered an interaction and return it; raises TimeoutError."""
        await _until(lambda: result.acknowledged, seconds)
        return result

    async def create_thread(
        self, member: Member, name: str, *, channel: Channel | None = None, message: Target | None = None
    ) -> Any:
        """Start a public thread in `channel`, or from `message`, and return its handle.

        SimCord's actors can't; this makes the checks that Discord makes.
        """
        async with self.lock:
            parent = self.channel(_channel_id(message) if message is not None else channel)
            if parent.guild is None or parent.is_thread:
                raise SetupError("Threads start in a server's channel.")
            if not 1 <= len(name) <= 100:
                raise SetupError("A thread's name has 1 to 100 characters.")
            if message is not None and message.id in self.backend.channels:
                raise SetupError("This message already has a thread.")
            self.backend.require_permissions(self.guild.id, member.id, parent.id, "create_public_threads")
            message_id = self.backend.get_message(parent.id, message.id).id if message is not None else None
            return self.channel(self.backend.create_thread(parent.id, name, member.id, message_id=message_id).id)

    # ------------------------------------------------------------------ arranging

    async def set_bot_permissions(self, where: Channel, **permissions: bool | None) -> None:
        """Give the bot an overwrite in a channel: `send_messages=False` takes that permission away."""
        async with self.lock:
            allow, deny = discord.PermissionOverwrite(**permissions).pair()
            overwrite = Overwrite(self.backend.bot_user.id, OverwriteType.MEMBER, allow.value, deny.value)
            self.backend.set_overwrite(self.channel(where).id, overwrite)

    async def delete_channel(self, where: Channel) -> None:
        async with self.lock:
            self.backend.delete_channel(self.channel(where).id)

    def _actor(self, member: Member, message: Target) -> Any:
        """SimCord lets a member act in the server and the same person's user in direct messages."""
        return member.user if self.backend.get_channel(_channel_id(message)).type == ChannelType.DM else member

    def _handle(self, message: Target) -> Any:
        return ResponseMessage(self.env, message) if isinstance(message, Message) else message

    @staticmethod
    def _check_text(text: str) -> None:
        # SimCord holds the bot to Discord's limits, not its actors.
        if not text.strip():
            raise SetupError("A message can't be empty.")
        if len(text) > 2000:
            raise SetupError("A message can't be longer than 2,000 characters.")


def _channel_id(message: Target) -> int:
    return int(message.channel.id if isinstance(message, discord.Message) else message.channel_id)


async def _until(predicate: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not predicate():  # noqa: ASYNC110  SimCord's interaction record is plain data, with nothing to await
            await asyncio.sleep(_POLL_SECONDS)


async def _connection_lost(*_: Any, **__: Any) -> Any:
    raise ConnectionResetError("This bot was killed.")


__all__ = ["ANSWER_SECONDS", "BackendError", "LiveWorld", "SetupError"]
