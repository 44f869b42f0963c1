"""The rating room: `/room start | stop | schedule`, and the clock that posts its prompts and replies.

What is asked and when is `bot.room`'s; replies are the responder's, so that their rows hold what every other's do, and
votes on them come in as on every other reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands

from bot import attention, checks
from bot import room as rooms
from bot.deleted_channels import ForgetsChannels
from bot.errors import StoreError
from bot.room import Hold, Rooms, Schedule
from bot.surface import DiscordSurface

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.learning_records import RatingRoom

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

log = logging.getLogger(__name__)

_CLOCK_SECONDS = 60.0
_IMPORT = "bring some with `encore prompts import FILE`"
_NO_ROOM = "There is no rating room in this server; begin one with /room start."
_CONSENT = "Reactions teach me once their member agrees: /mod consent posts the question."
_HOLDS = {
    Hold.PAUSED: "I am paused in this server until /encore resume.",
    Hold.NO_PROMPTS: f"No prompts are left; {_IMPORT}.",
    Hold.UNRATED: f"Nobody rated my last {rooms.UNRATED_LIMIT} replies, so I wait until someone does, or until "
    "/room start is used again.",
}


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Room(
    commands.GroupCog,
    ForgetsChannels,
    group_name="room",
    group_description="A channel where I answer prompts for you to rate",
):
    """The moderators' commands and the clock. `sleep` is for tests."""

    def __init__(
        self,
        bot: EncoreBot,
        *,
        rooms: Rooms | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bot = bot
        self._rooms = rooms or Rooms(bot.store)
        self._sleep = sleep
        self._clock: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        self._clock = asyncio.create_task(self._keep_time(), name="rating rooms")

    async def cog_unload(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    # ------------------------------------------------------------------ commands

    @app_commands.command(description="Answer the operator's prompts in a channel, a few a day, for members to rate")
    @app_commands.describe(
        channel="where I post the prompts and answer them", prompts_per_day="how many prompts a day (default: 4)"
    )
    async def start(
        self,
        interaction: Interaction,
        channel: checks.Talkable,
        prompts_per_day: app_commands.Range[int, 1, rooms.MOST_A_DAY] = rooms.USUAL_A_DAY,
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        if missing := checks.missing_to_talk(channel):
            await _say(interaction, f"In {channel.mention} I lack {missing}; grant that first, then start it again.")
            return
        await self._rooms.start(interaction.guild_id, channel.id, prompts_per_day, interaction.user.id)
        schedule = await self._rooms.schedule(interaction.guild_id)
        assert schedule is not None
        await _say(
            interaction,
            f"{channel.mention} is the rating room now, with {_pace(schedule)}. {_next(schedule)}\n{_CONSENT}",
        )

    @app_commands.command(description="Post no more prompts in the rating room")
    async def stop(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        stopped = await self._rooms.stop(interaction.guild_id, interaction.user.id)
        done = "The rating room is closed; ratings of what stands there still count."
        await _say(interaction, done if stopped else _NO_ROOM)

    @app_commands.command(description="Show where the rating room is, when its next prompt comes, and what is left")
    async def schedule(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild is not None
        schedule = await self._rooms.schedule(interaction.guild.id)
        if schedule is None:
            await _say(interaction, _NO_ROOM)
            return
        room = schedule.room
        place = interaction.guild.get_channel_or_thread(room.channel_id)
        missing = checks.missing_to_talk(place) if isinstance(place, checks.Talkable) else ""
        told = f"In <#{room.channel_id}> I lack {missing}, so I post nothing." if missing else _next(schedule)
        await _say(
            interaction,
            f"The rating room is <#{room.channel_id}>, with {_pace(schedule)}. {told}\n"
            f"{schedule.prompts_left:,} of {schedule.prompts:,} prompts are left. Started by <@{room.started_by}> "
            f"<t:{int(room.started_at)}:R>.\n{_CONSENT}",
        )

    async def forget_channel(self, guild_id: int, channel_id: int) -> None:
        assert self.bot.user is not None
        try:
            await self._rooms.stop_in(guild_id, channel_id, self.bot.user.id)
        except StoreError as error:  # posting there fails, and that stops it
            log.warning("the rating room in the deleted channel %s is not stopped yet: %s", channel_id, error)

    # ------------------------------------------------------------------ the clock

    async def _keep_time(self) -> None:
        await self.bot.wait_until_ready()
        while True:
            await self._sleep(_CLOCK_SECONDS)
            try:
                for room in await self._rooms.due():
                    await self._post(room)
            except StoreError as error:
                log.warning("the rating rooms wait: %s", error)
            except Exception:
                log.exception("something of the rating rooms' failed")

    async def _post(self, room: RatingRoom) -> None:
        """Post one prompt and answer it."""
        place = self.bot.get_channel(room.channel_id)
        if not attention.may_write(place):  # a prompt that can't be posted is not used up
            log.info("the rating room %s is closed to me", room.channel_id)
            return
        # Since it was due, another room's answer may have taken minutes, and a lock or /room stop is felt at once.
        if not await self._is_open(room):
            return
        prompt = await self._rooms.take(room)
        if prompt is None or not await self._is_open(room):
            return
        channel = self.bot.get_partial_messageable(room.channel_id, guild_id=room.guild_id)
        try:
            message = await channel.send(
                rooms.shown(prompt),
                silent=True,
                suppress_embeds=True,
                allowed_mentions=discord.AllowedMentions.none(),
            )
        except discord.NotFound:
            assert self.bot.user is not None
            await self._rooms.stop_in(room.guild_id, room.channel_id, self.bot.user.id)
            return
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("prompt %s could not be posted in %s: %s", prompt.id, room.channel_id, error)
            return
        ask = rooms.ask(prompt, room, message.id)
        reply_to = message.id if attention.may_refer(place) else None
        surface = DiscordSurface(channel, ask, reply_to=reply_to)
        server = await self.bot.store.server_settings(room.guild_id)
        await self.bot.responder.respond(ask, rooms.history(prompt, room, message.id), surface, server)

    async def _is_open(self, room: RatingRoom) -> bool:
        now = await self.bot.store.rating_room(room.guild_id)
        if now is None or now.channel_id != room.channel_id:
            return False
        return not (await self.bot.store.server_settings(room.guild_id)).paused


def _pace(schedule: Schedule) -> str:
    return "a prompt a day" if schedule.per_day == 1 else f"{schedule.per_day} prompts a day"


def _next(schedule: Schedule) -> str:
    if schedule.hold is not None:
        return _HOLDS[schedule.hold]
    return f"The next one comes <t:{int(schedule.next_at)}:R>."


async def _say(interaction: Interaction, sentence: str) -> None:
    await interaction.followup.send(sentence, ephemeral=True)
