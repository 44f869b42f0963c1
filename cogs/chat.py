"""Talk: messages that want an answer -> the responder, and the buttons below its replies.

Answers mentions, replies to its messages, direct messages, free channels, threads it is in, and now and then unasked.
Whom to answer is `bot.attention`'s decision, what was said is `bot.history`'s, what to say the responder's. Messages
that mentioned the bot while it was offline are not answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import discord
from discord.ext import commands

from bot import attention, text, ui
from bot.checks import may_steer
from bot.error_handler import press, tell
from bot.errors import StoreError
from bot.history import Histories, spoken
from bot.moderation.limits import Asker, Refusal
from bot.readable import Readable
from bot.records import Ask, Provenance, Reply, UnfinishedReply
from bot.recovery import Recovery
from bot.streaming import Controls, SurfaceBusy, SurfaceGone
from bot.surface import DiscordSurface

if TYPE_CHECKING:
    import re

    from bot.client import EncoreBot
    from bot.gate import Reading
    from bot.records import ServerSettings
    from bot.responder import Responder
    from bot.store import Store

    Interaction = discord.Interaction[EncoreBot]

log = logging.getLogger(__name__)

_DELETED_KEPT = 1000  # ids of the messages deleted last
_UNKNOWN_REPLY = "I no longer know this reply; ask me again instead."
_NOT_YOURS = "Only who asked, or someone who may manage messages, can do this."
_PAUSED = "I am paused in this server; a moderator can wake me with /encore resume."
_MUTED = "A moderator, or whoever runs me, has muted you for me, so I don't answer you here."
_ASKER_MUTED = "Who asked this is muted for me, so I make nothing more of it."
_OPTED_OUT = "Who asked this opted out, so I make nothing more of it."
_QUESTION_GONE = "The message that I answered is gone; ask me again instead."
_UNREADABLE = "I may no longer read the message that I answered; ask me again instead."
_ALREADY = "I am already on it."


class Chat(commands.Cog):
    """Listen, and answer where wanted."""

    def __init__(self, bot: EncoreBot, responder: Responder, store: Store) -> None:
        self.bot = bot
        self._responder = responder
        self._store = store
        self._attention = bot.attention
        self._gate = bot.gate
        readable = Readable(store, bot.gate.screening, bot.audience)
        self._histories = Histories(bot, store, readable, keep=bot.settings.history_messages)
        self._unfinished: list[UnfinishedReply] = []
        self._deleted: deque[int] = deque(maxlen=_DELETED_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def cog_load(self) -> None:
        self.bot.add_dynamic_items(ReplyButton)
        # Read before the first event can come in, so that nothing of this process is among them.
        self._unfinished = await self._store.unfinished_replies()

    async def cog_unload(self) -> None:
        self.bot.remove_dynamic_items(ReplyButton)
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ events

    @commands.Cog.listener()
    async def on_ready(self) -> None:
        self._histories.forget()  # a new session: messages may have been missed
        unfinished, self._unfinished = self._unfinished, []
        if unfinished:
            log.info("%d replies were left unfinished by the last process", len(unfinished))
            recovery = Recovery(self.bot, self._store, self._responder, self._histories, read=self._read)
            self._start(recovery.run(unfinished), "recovery")

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        self._histories.note(message)
        try:
            occasion = await self._attention.occasion(message)
        except StoreError as error:
            log.warning("message %s is passed over: %s", message.id, error)
            return
        if occasion is None:
            return
        guild_id = message.guild.id if message.guild else None
        ask = Ask(message.id, message.channel.id, guild_id, message.author.id, self.bot.provenance)
        self._start(self._take(ask, message, occasion), f"answer-{message.id}")

    @commands.Cog.listener()
    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        if payload.message.author != self.bot.user:
            self._histories.note(payload.message)

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        await self._forget(payload.channel_id, {payload.message_id})

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        await self._forget(payload.channel_id, payload.message_ids)

    @commands.Cog.listener()
    async def on_member_forgotten(self, member_id: int) -> None:
        """Forget what was said by who had their data deleted; an event of the privacy cog's."""
        self._histories.forget_member(member_id)

    @commands.Cog.listener()
    async def on_thread_remove(self, thread: discord.Thread) -> None:
        self._attention.leave(thread.id)

    @commands.Cog.listener()
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        self._attention.forget(payload.thread_id)

    async def _forget(self, channel_id: int, message_ids: set[int]) -> None:
        self._histories.delete(channel_id, message_ids)
        self._deleted.extend(message_ids)
        for message_id in message_ids:
            self._responder.stop_for_message(message_id)
        if not self._responder.running:
            return
        for message_id in message_ids:
            # Whoever deletes the growing answer itself does not want the rest either.
            with contextlib.suppress(StoreError):  # the next edit finds it gone
                if (reply := await self._store.reply_of_message(message_id)) is not None:
                    self._responder.stop(reply.id)

    # ------------------------------------------------------------------ answers

    async def _take(self, ask: Ask, message: discord.Message, occasion: attention.Occasion) -> None:
        """Answer a message, or say why not where someone waits for an answer."""
        try:
            server = await self._store.server_settings(ask.guild_id)
            asker = _asker(message.author, message.channel, ask.guild_id)
            admitted = self._gate.admit(asker, server)
            if isinstance(admitted, Refusal):
                why = self._gate.sentence(admitted) if self._gate.is_news(asker, admitted) else None
            else:
                reply = None
                try:
                    reading = await self._read(ask, message, server)
                    why = reading.refusal
                    if why is None:
                        reply = await self._answer(ask, message, notes=reading.notes)
                        return
                finally:
                    await self._gate.settle(admitted, reply)
        except StoreError as error:
            log.warning("message %s is not answered: %s", message.id, error)
            return
        self._histories.pass_over(message.id)
        if why is not None and server.explain_refusals and occasion is not attention.Occasion.UNPROMPTED:
            await self._say(ask, message, why)

    async def _read(self, ask: Ask, message: discord.Message, server: ServerSettings) -> Reading:
        """Return what a server's rules say of a message; what its moderators should see is theirs now.

        It is of the text that the message has when this returns: discord.py changes it in place when it is edited.
        """
        assert self.bot.user is not None
        audience = self.bot.audience(ask.channel_id, server)
        policy = await self._gate.screening.policy(server, audience, member_id=ask.member_id)
        while True:
            said = spoken(message, self.bot.user)
            reading = await self._gate.read(said, policy)
            if reading.review:
                self._start(self.bot.review(ask, None, said, reading.review), f"review-{message.id}")
            if spoken(message, self.bot.user) == said:
                return reading

    async def _say(self, ask: Ask, message: discord.Message, sentence: str) -> None:
        """Answer a message with small print alone; in a server that was locked meanwhile not even that."""
        if (await self._store.server_settings(ask.guild_id)).locked:
            return
        reply_to = message.id if attention.may_refer(message.channel) else None
        with contextlib.suppress(SurfaceGone, SurfaceBusy):
            surface = self._surface(ask, reply_to=reply_to, is_unwanted=lambda: message.id in self._deleted)
            await surface.send(text.subtext(sentence), part=0, reply_id=0, controls=Controls.NONE)

    async def _answer(
        self, ask: Ask, message: discord.Message, *, compare_with: int | None = None, notes: Sequence[str] = ()
    ) -> Reply | None:
        """Answer `message`; return None when someone already has, or when the store can't note it."""
        reply_to = message.id if attention.may_refer(message.channel) else None
        surface = self._surface(
            ask, reply_to=reply_to, compare_with=compare_with, is_unwanted=lambda: message.id in self._deleted
        )
        try:
            history = await self._histories.until(message)
            # While the history was read, before there was an answer to stop.
            if not history or message.id in self._deleted or await self._is_muted(ask.guild_id, message.author):
                return None
            server = await self._store.server_settings(ask.guild_id)
            return await self._responder.respond(ask, history, surface, server, notes=notes)
        except StoreError as error:
            log.warning("message %s is not answered: %s", message.id, error)
            await self._say(ask, message, "I can't keep notes right now, so I don't answer; please try again later.")
            return None

    def _surface(
        self,
        ask: Ask,
        *,
        reply_to: int | None,
        compare_with: int | None = None,
        is_unwanted: Callable[[], bool] = lambda: False,
    ) -> DiscordSurface:
        channel = self.bot.get_partial_messageable(ask.channel_id, guild_id=ask.guild_id)
        return DiscordSurface(channel, ask, reply_to=reply_to, compare_with=compare_with, is_unwanted=is_unwanted)

    # ------------------------------------------------------------------ buttons

    async def stop(self, interaction: Interaction, reply: Reply) -> None:
        if not self._responder.stop(reply.id):
            await tell(interaction, "This reply has already ended.")

    async def regenerate(self, interaction: Interaction, reply: Reply) -> Reply | None:
        """Make another version of a reply and offer to compare the two."""
        ask = replace(reply.ask, variant=await self._store.next_variant(reply.ask.asked_message_id))
        if ask.continues_reply_id is not None:
            return await self._carry_on(interaction, ask, ask.continues_reply_id, compare_with=reply.id)
        if ask.provenance is Provenance.OPERATOR:
            return await self._again(interaction, ask, reply)
        asked = await self._asked(reply)
        if asked is None:
            await tell(interaction, _QUESTION_GONE)
            return None
        reading = await self._read(ask, asked, await self._store.server_settings(ask.guild_id))
        if reading.refusal is not None:
            await tell(interaction, reading.refusal)
            return None
        again = await self._answer(ask, asked, compare_with=reply.id, notes=reading.notes)
        return await self._made(interaction, ask, again)

    async def _again(self, interaction: Interaction, ask: Ask, earlier: Reply) -> Reply | None:
        """Answer a prompt of the rating room again: what members said in the channel must not come into it."""
        reply_to = ask.asked_message_id if attention.may_refer(interaction.channel) else None
        surface = self._surface(ask, reply_to=reply_to, compare_with=earlier.id)
        server = await self._store.server_settings(ask.guild_id)
        return await self._made(interaction, ask, await self._responder.again(ask, earlier, surface, server))

    async def _made(self, interaction: Interaction, ask: Ask, made: Reply | None) -> Reply | None:
        """Return what a button made of `ask`; whoever pressed it is told if someone had before, or nothing may be."""
        if made is None:
            someone_had = await self._store.next_variant(ask.asked_message_id) > ask.variant
            await tell(interaction, _ALREADY if someone_had else _UNREADABLE)
        return made

    async def continue_(self, interaction: Interaction, reply: Reply) -> Reply | None:
        """Go on where a reply ended, in a reply of its own."""
        variant = await self._store.next_variant(reply.ask.asked_message_id)
        ask = replace(reply.ask, variant=variant, continues_reply_id=reply.id)
        return await self._carry_on(interaction, ask, reply.id)

    async def _carry_on(
        self, interaction: Interaction, ask: Ask, previous_id: int, *, compare_with: int | None = None
    ) -> Reply | None:
        previous = await self._store.reply(previous_id)
        if previous is None:
            await tell(interaction, _UNKNOWN_REPLY)
            return None
        last_message_id = previous.message_ids[-1] if previous.message_ids else None
        reply_to = last_message_id if attention.may_refer(interaction.channel) else None
        surface = self._surface(ask, reply_to=reply_to, compare_with=compare_with)
        server = await self._store.server_settings(ask.guild_id)
        return await self._made(interaction, ask, await self._responder.carry_on(ask, previous, surface, server))

    async def _asked(self, reply: Reply) -> discord.Message | None:
        """Fetch the message that a reply answers; None when it is gone or can't be read."""
        known = self.bot.get_channel(reply.ask.channel_id)
        unknown = self.bot.get_partial_messageable(reply.ask.channel_id, guild_id=reply.ask.guild_id)
        channel = known if isinstance(known, discord.abc.Messageable) else unknown
        try:
            return await channel.fetch_message(reply.ask.asked_message_id)
        except (discord.NotFound, discord.Forbidden):
            return None

    async def pressed(self, interaction: Interaction, reply_id: int, action: _Action) -> None:
        """Check who pressed a button, then do what it says; what goes wrong is told to them alone."""
        await interaction.response.defer()
        try:
            reply = await self._store.reply(reply_id)
            if reply is None or not ui.stands_below(interaction.message, reply):
                await tell(interaction, _UNKNOWN_REPLY)
            elif not may_steer(interaction, reply.ask.member_id):
                await tell(interaction, _NOT_YOURS)
            elif action is not Chat.stop and (await self._store.server_settings(reply.ask.guild_id)).paused:
                await tell(interaction, _PAUSED)
            elif action is not Chat.stop and await self._is_muted(reply.ask.guild_id, interaction.user):
                await tell(interaction, _MUTED)
            elif action is not Chat.stop and await self._store.is_muted(reply.ask.guild_id, reply.ask.member_id):
                await tell(interaction, _ASKER_MUTED)
            elif action is not Chat.stop and reply.ask.member_id in await self._store.opted_out():
                await tell(interaction, _OPTED_OUT)
            elif action is Chat.stop:
                await self.stop(interaction, reply)
            else:
                self._start(self._do(interaction, reply, action), f"button-{interaction.id}")
        except Exception as error:
            await press(interaction, "a button", error)

    async def _is_muted(self, guild_id: int | None, user: discord.abc.User) -> bool:
        return await self._store.is_muted(guild_id, user.id, attention.role_ids(user))

    async def _do(self, interaction: Interaction, reply: Reply, action: _Action) -> None:
        """Do what a button says, counted as a question of whoever pressed it, or say why they have to wait."""
        try:
            server = await self._store.server_settings(reply.ask.guild_id)
            asker = _asker(interaction.user, interaction.channel, interaction.guild_id)
            admitted = self._gate.admit(asker, server)
            if isinstance(admitted, Refusal):
                await tell(interaction, self._gate.sentence(admitted))
                return
            made = None
            try:
                made = await action(self, interaction, reply)
            finally:
                await self._gate.settle(admitted, made)
        except Exception as error:
            await press(interaction, "a button", error)

    # ------------------------------------------------------------------ tasks

    def _start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


def _asker(user: discord.abc.User, channel: Any, guild_id: int | None) -> Asker:
    """Return who asks; a thread's questions count for its channel."""
    place: int = channel.parent_id if isinstance(channel, discord.Thread) else channel.id
    return Asker(guild_id or 0, user.id, place, attention.role_ids(user))


_Action = Callable[[Chat, "Interaction", Reply], Awaitable[Reply | None]]
_ACTIONS: dict[str, _Action] = {"stop": Chat.stop, "regenerate": Chat.regenerate, "continue": Chat.continue_}


class ReplyButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=ui.STEER_TEMPLATE):
    """Stop, regenerate or continue, below any reply however old; all it needs is in its custom id."""

    def __init__(self, button: discord.ui.Button[Any], action: _Action, reply_id: int) -> None:
        super().__init__(button)
        self._action = action
        self._reply_id = reply_id

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        assert isinstance(item, discord.ui.Button)
        return cls(item, _ACTIONS[match["action"]], int(match["reply_id"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        cog = interaction.client.get_cog(Chat.__cog_name__)
        assert isinstance(cog, Chat)
        await cog.pressed(interaction, self._reply_id, self._action)
