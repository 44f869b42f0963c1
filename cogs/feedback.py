"""Reactions, thumbs, words, choices and forms -> ratings; old messages count, and what happened while the bot was away.

Reactions are silent: nothing is ever posted for one. A reply in words that thanks or corrects gets one short question
below it ("Shall I count that as 👍?"), for that member alone. So that it never becomes noise it makes no sound, pings
nobody, is asked once a reply and member, not where their vote says the same already, stands once a member and channel
at most, and goes when it is answered or after ten minutes. What a vote is, the store knows; what the buttons do,
`bot.feedback_ui`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.attention import role_ids
from bot.errors import StoreError
from bot.feedback_ui import DYNAMIC_ITEMS, RATE, rate, thumb, words_view
from bot.ratings import detect_verdict, value_of
from bot.reconcile import Reconciler, emoji_key
from bot.records import ReactionEvent, ReactionKind, ServerSettings

if TYPE_CHECKING:
    from bot.client import EncoreBot

log = logging.getLogger(__name__)

_ASKED_KEPT = 4096  # (reply, member) pairs that were asked; older ones may be asked once more


class Feedback(commands.Cog):
    """Turn what members do with a reply into ratings."""

    def __init__(
        self,
        bot: EncoreBot,
        *,
        question_seconds: float = 600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bot = bot
        self._question_seconds = question_seconds
        self._reconciler = Reconciler(bot, bot.store, bot.ratings, sleep=sleep)
        self._away = asyncio.Event()  # set when reactions may have been missed
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_order = asyncio.Lock()
        self._menu = app_commands.ContextMenu(name=RATE, callback=rate)
        self._asked: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._questions: dict[tuple[int, int], discord.Message] = {}  # by channel and member

    async def cog_load(self) -> None:
        self.bot.add_dynamic_items(*DYNAMIC_ITEMS)
        self.bot.tree.add_command(self._menu)
        self.bot.ratings.on_gap = self._away.set
        self._start(self._reconcile_when_needed())

    async def cog_unload(self) -> None:
        self.bot.tree.remove_command(self._menu.name, type=self._menu.type)
        self.bot.remove_dynamic_items(*DYNAMIC_ITEMS)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for question in self._questions.values():
            await _remove(question)

    # ------------------------------------------------------------------ reactions

    @commands.Cog.listener()
    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        if payload.member is None or not payload.member.bot:
            await self._take(payload, ReactionKind.ADD, payload.user_id, emoji_key(payload.emoji))

    @commands.Cog.listener()
    async def on_raw_reaction_remove(self, payload: discord.RawReactionActionEvent) -> None:
        await self._take(payload, ReactionKind.REMOVE, payload.user_id, emoji_key(payload.emoji))

    @commands.Cog.listener()
    async def on_raw_reaction_clear(self, payload: discord.RawReactionClearEvent) -> None:
        await self._take(payload, ReactionKind.CLEAR)

    @commands.Cog.listener()
    async def on_raw_reaction_clear_emoji(self, payload: discord.RawReactionClearEmojiEvent) -> None:
        await self._take(payload, ReactionKind.CLEAR_EMOJI, emoji=emoji_key(payload.emoji))

    async def _take(
        self,
        payload: discord.RawReactionActionEvent | discord.RawReactionClearEvent | discord.RawReactionClearEmojiEvent,
        kind: ReactionKind,
        member_id: int | None = None,
        emoji: str | None = None,
    ) -> None:
        """Pass one event on; thousands a second come through here, and one waits only where its server is new."""
        assert self.bot.user is not None
        if member_id == self.bot.user.id:
            return
        self._reconciler.touch(payload.message_id)
        # The lock is fair: no event overtakes one that waits for its server's table, or a removal might come first.
        async with self._in_order:
            value = 0.0
            if kind is ReactionKind.ADD and emoji is not None:
                weight = value_of(emoji, await self._table(payload.guild_id))
                if weight is None:
                    return
                value = weight
            self.bot.ratings.offer(ReactionEvent(kind, payload.message_id, member_id, emoji, value))

    async def _table(self, guild_id: int | None) -> dict[str, float]:
        try:
            return (await self.bot.store.server_settings(guild_id)).emoji
        except StoreError as error:  # a vote by the usual weights is better than none
            log.warning("server %s: its emoji table can't be read, so the usual one counts (%s)", guild_id, error)
            return ServerSettings().emoji

    # ------------------------------------------------------------------ what was missed

    @commands.Cog.listener()
    async def on_ready(self) -> None:
        """Reconcile at the start and after every new session; a resumed one has missed nothing.

        So does a flood that the store could not take (`Ratings.on_gap`).
        """
        self._away.set()

    async def _reconcile_when_needed(self) -> None:
        while True:
            await self._away.wait()
            self._away.clear()
            try:
                await self._reconciler.run()
            except Exception:  # the next session tries again; live events count meanwhile
                log.exception("reactions from while I was away could not be compared with the store")

    # ------------------------------------------------------------------ words

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        if message.author.bot or message.reference is None or message.reference.message_id is None:
            return
        verdict = detect_verdict(message.content)
        if verdict is None:
            return
        try:
            if await self._is_unheard(message):
                return
            reply_id = await self._reply_to_ask_about(message.reference.message_id, message.author.id, verdict)
        except StoreError as error:
            log.warning("message %s is not offered as a vote: %s", message.id, error)
            return
        if reply_id is not None and self._may_ask(reply_id, message.author.id):
            await self._ask(message, reply_id, verdict)

    async def _is_unheard(self, message: discord.Message) -> bool:
        """Return whether the author opted out or is muted. Raises StoreError."""
        guild_id = message.guild.id if message.guild else None
        author = message.author
        return author.id in await self.bot.store.opted_out() or await self.bot.store.is_muted(
            guild_id, author.id, role_ids(author)
        )

    async def _reply_to_ask_about(self, message_id: int, member_id: int, verdict: int) -> int | None:
        """Return the reply that a message shows, None where a member's words add nothing. Raises StoreError."""
        reply = await self.bot.store.reply_of_message(message_id)
        if reply is None or (await self.bot.store.server_settings(reply.ask.guild_id)).paused:
            return None
        votes = await self.bot.store.votes(reply.id)
        says_it_already = any(vote.member_id == member_id and vote.value * verdict > 0 for vote in votes)
        return None if says_it_already else reply.id

    def _may_ask(self, reply_id: int, member_id: int) -> bool:
        """Return whether this is the first time, and remember it."""
        if (reply_id, member_id) in self._asked:
            return False
        self._asked[reply_id, member_id] = None
        if len(self._asked) > _ASKED_KEPT:
            self._asked.popitem(last=False)
        return True

    async def _ask(self, message: discord.Message, reply_id: int, verdict: int) -> None:
        place = (message.channel.id, message.author.id)
        try:
            question = await message.reply(
                f"-# Shall I count that as {thumb(verdict)}?",
                view=words_view(reply_id, message.author.id, verdict),
                silent=True,
                mention_author=False,
            )
        except discord.HTTPException as error:  # no permission, or the message is gone: then there is nothing to ask
            log.debug("message %s: no question could be asked (%s)", message.id, error)
            return
        former = self._questions.pop(place, None)
        self._questions[place] = question
        self._start(self._forget(place, question))
        if former is not None:
            await _remove(former)

    async def _forget(self, place: tuple[int, int], question: discord.Message) -> None:
        await asyncio.sleep(self._question_seconds)
        if self._questions.get(place) is question:
            del self._questions[place]
            await _remove(question)

    # ------------------------------------------------------------------ tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the feedback cog failed", exc_info=task.exception())


async def _remove(question: discord.Message) -> None:
    with contextlib.suppress(discord.HTTPException):  # answered, or deleted by a moderator
        await question.delete()
