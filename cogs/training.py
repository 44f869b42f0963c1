"""Learning, for moderators: `/training status | history | compare | run | rollback | freeze | unfreeze`.

Starts the nightly clock too, which is `bot.night_shift`'s. What a night is and what is served is `bot.nightly`'s. Every
answer is for the asker's eyes only; what concerns all moderators is posted in their channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import discord
from discord import app_commands
from discord.ext import commands

from bot import checks, night_cards
from bot.confirm import CONFIRM_SECONDS, Confirm
from bot.deleted_channels import ForgetsChannels
from bot.errors import EncoreError, StoreError
from bot.learning_records import Cause
from bot.night_cards import BASE
from bot.night_shift import NightShift
from bot.notices import Notices, as_embed

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.night_cards import Card
    from bot.nightly import Nightly

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

log = logging.getLogger(__name__)

_BEGIN_SECONDS = 20.0  # to wait for the first word of a night that a moderator asked for
_HISTORY_SHOWN = 12
_CHOICES_SHOWN = 25  # Discord's limit

_T = TypeVar("_T")


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Training(
    commands.GroupCog, ForgetsChannels, group_name="training", group_description="What I learned, and what I speak with"
):
    """The moderators' commands; `shift` is the clock. `sleep` is for tests."""

    def __init__(
        self,
        bot: EncoreBot,
        nightly: Nightly,
        *,
        edit_seconds: float = 4.0,
        confirm_seconds: float = CONFIRM_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bot = bot
        self._nightly = nightly
        self._notices = Notices(bot, bot.store)
        self.shift = NightShift(nightly, self._notices, edit_seconds=edit_seconds, sleep=sleep)
        self._confirm_seconds = confirm_seconds
        self._tasks: set[asyncio.Task[Any]] = set()

    async def cog_load(self) -> None:
        self._start(self._when_ready(self.shift.keep_time), "nightly clock")
        self._start(self._when_ready(self.shift.keep_watch), "canary watch")

    async def cog_unload(self) -> None:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    # ------------------------------------------------------------------ looking

    @app_commands.command(description="Show what I speak with, what runs and when I learn next")
    async def status(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        now = await self._nightly.status()
        named = night_cards.members_named(now.last) if now.last else set()
        known = await self.bot.store.known_raters(interaction.guild_id, named)
        await _show(interaction, night_cards.status(now, known))

    @app_commands.command(description="List the last nights and what came of each")
    async def history(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        await _show(interaction, night_cards.history(await self._nightly.history(_HISTORY_SHOWN)))

    @app_commands.command(description="Compare the figures of two nights")
    @app_commands.describe(a="a night, such as 2026-11-24", b="the night to set beside it")
    async def compare(self, interaction: Interaction, a: str, b: str) -> None:
        await interaction.response.defer(ephemeral=True)
        figures = await self._nightly.compare(a, b)
        await _show(interaction, night_cards.compare(a, b, figures))

    @compare.autocomplete("a")
    @compare.autocomplete("b")
    async def complete_night(self, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        if not checks.is_moderator(interaction):  # Discord runs no check before this
            return []
        nights = await self._nightly.history(_CHOICES_SHOWN * 4)
        return _choices({night.id: night_cards.plain_line(night) for night in nights}, current)

    # ------------------------------------------------------------------ acting

    @app_commands.command(description="Learn from the ratings now; I go on answering meanwhile")
    async def run(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None and interaction.channel_id is not None
        asked_in = (interaction.guild_id, interaction.channel_id)
        begun = asyncio.Event()
        night = self._start(
            self.shift.learn(Cause.MODERATOR, actor_id=interaction.user.id, asked_in=asked_in, on_begun=begun.set),
            f"night of {interaction.user.id}",
        )
        first_word = asyncio.ensure_future(begun.wait())
        await asyncio.wait({night, first_word}, timeout=_BEGIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        first_word.cancel()
        ended = night.result() if night.done() else None  # refused: the command tree tells why
        await self.bot.store.add_audit(interaction.guild_id, interaction.user.id, "training run", {})
        if ended is not None and not begun.is_set():
            await _say(interaction, " ".join(ended.sentences))  # such as that nothing is new since the last night
            return
        shown = ", ".join(f"<#{channel}>" for channel in await self._notices.channels(asked_in=asked_in))
        await _say(interaction, f"The night has begun; I show in {shown} how it goes, and go on answering meanwhile.")

    @app_commands.command(
        description="Take back what I learned: speak with an earlier adapter, at once and for everyone"
    )
    @app_commands.describe(to="the adapter, or base for none (default: the one before)")
    async def rollback(self, interaction: Interaction, to: str | None = None) -> None:
        await interaction.response.defer(ephemeral=True)
        if to is not None and to != BASE and to not in self._nightly.adapters():
            await _say(interaction, f"I have no adapter {_quoted(to)}; choose one from the list, or {BASE}.")
            return
        serving = (await self._nightly.status()).serving
        question = night_cards.rollback_question(serving, to)
        view = Confirm(
            interaction,
            lambda press: self._roll_back(press, to),
            yes="Roll back",
            no="Leave it",
            moderators=True,
            seconds=self._confirm_seconds,
        )
        await interaction.followup.send(question, view=view, ephemeral=True)

    @rollback.autocomplete("to")
    async def complete_adapter(self, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        if not checks.is_moderator(interaction):
            return []
        serving = (await self._nightly.status()).serving
        named = {name: name + " (now)" * (name == serving.adapter) for name in self._nightly.adapters()}
        return _choices({**named, BASE: "base: the model without any adapter"}, current)

    @app_commands.command(description="Begin no more nights and promote nothing until /training unfreeze")
    async def freeze(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        changed = await self._nightly.freeze(interaction.user.id)
        await _say(
            interaction,
            "Learning is frozen: no night begins and nothing is promoted until /training unfreeze."
            if changed
            else "Learning is frozen already.",
        )

    @app_commands.command(description="Let me learn at night again")
    async def unfreeze(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        changed = await self._nightly.unfreeze(interaction.user.id)
        await _say(interaction, "I learn at night again." if changed else "Learning is not frozen.")

    async def _roll_back(self, interaction: Interaction, to: str | None) -> None:
        """Roll back, and say so to all moderators."""
        before = (await self._nightly.status()).serving
        after = await self._nightly.rollback(to, interaction.user.id)
        card = night_cards.rolled_back(discord.utils.escape_markdown(interaction.user.display_name), before, after)
        await interaction.edit_original_response(content=None, embed=as_embed(card), view=None)
        await self._notices.post(card, await self._notices.channels())

    # ------------------------------------------------------------------ the moderators' channel

    async def forget_channel(self, guild_id: int, channel_id: int) -> None:
        assert self.bot.user is not None
        try:
            if (await self.bot.store.server_settings(guild_id)).moderators_channel_id == channel_id:
                await self.bot.store.change_server_settings(guild_id, self.bot.user.id, moderators_channel_id=None)
        except StoreError as error:  # it stays set, and posting there fails quietly
            log.warning("deleted channel %s stays the moderators' channel: %s", channel_id, error)

    # ------------------------------------------------------------------ tasks

    async def _when_ready(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.bot.wait_until_ready()
        await work()

    def _start(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, EncoreError):  # told to who asked
            log.info("%s: %s", task.get_name(), error)
        else:
            log.error("%s failed", task.get_name(), exc_info=error)


async def _show(interaction: Interaction, card: Card) -> None:
    await interaction.followup.send(embed=as_embed(card), ephemeral=True)


async def _say(interaction: Interaction, sentence: str) -> None:
    await interaction.followup.send(sentence, ephemeral=True)


def _choices(offered: Mapping[str, str], typed: str) -> list[app_commands.Choice[str]]:
    """Return the values whose text holds what was typed."""
    fit = ((value, reads) for value, reads in offered.items() if typed.strip().lower() in reads.lower())
    return [app_commands.Choice(name=reads[:100], value=value) for value, reads in fit][:_CHOICES_SHOWN]


def _quoted(value: str) -> str:
    return f"“{discord.utils.escape_markdown(' '.join(value.split()))[:80]}”"
