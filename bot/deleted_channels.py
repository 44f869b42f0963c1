"""What a cog does when a channel or thread that it remembers is deleted."""

from __future__ import annotations

import discord
from discord.ext import commands


class ForgetsChannels(commands.Cog):
    """A cog that remembers channels, and forgets one when it is deleted."""

    async def forget_channel(self, guild_id: int, channel_id: int) -> None:
        """Forget a deleted channel or thread; called for every one, remembered or not."""
        raise NotImplementedError

    @commands.Cog.listener()
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        await self.forget_channel(channel.guild.id, channel.id)

    @commands.Cog.listener()
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        await self.forget_channel(payload.guild_id, payload.thread_id)
