"""What moderators can see and set: `/encore status | pause | resume | stats | channels ... | settings ...`.

Discord hides these from members, and the cog checks again: a server's own command permissions may show them to anyone.
Every answer is for the asker's eyes only. What a value may be is `bot.server_options`'; the audit is the store's.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot import checks
from bot.deleted_channels import ForgetsChannels
from bot.errors import StoreError
from bot.records import ServerSettings
from bot.server_options import CHANNELS, DEFAULT, OPTIONS, WEIGHT_LIMIT, OptionError, emoji_of, with_weight

if TYPE_CHECKING:
    from bot.client import EncoreBot

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

log = logging.getLogger(__name__)

_COLOUR = discord.Colour.from_rgb(122, 92, 214)
_CHANNELS_SHOWN = 40
_PROMPT_SHOWN = 900  # characters; a field holds 1024
_EMOJI_SHOWN = 900  # characters
_CHOICES_SHOWN = 25  # Discord's limit
_INTENT_HELP = (
    "Switch it on in Discord's developer portal (your application, page Bot, Message Content Intent), "
    "set MESSAGE_CONTENT_INTENT=true and restart me."
)


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Moderators(
    commands.GroupCog, ForgetsChannels, group_name="encore", group_description="Manage Encore in this server"
):
    """The moderators' commands."""

    channels = app_commands.Group(name="channels", description="Where I answer every message without a mention")
    settings = app_commands.Group(name="settings", description="How I talk and what reactions count in this server")

    def __init__(self, bot: EncoreBot) -> None:
        self.bot = bot
        self._started = time.monotonic()

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    # ------------------------------------------------------------------ at a glance

    @app_commands.command(description="Show what I run on, how busy I am and where I talk")
    async def status(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        settings = await self.bot.store.server_settings(interaction.guild_id)
        free = await self.bot.store.free_channels(interaction.guild_id)
        info, scheduler = self.bot.model.engine.info, self.bot.model.scheduler
        state = "Paused: I answer nobody until /encore resume." if settings.paused else "Awake."
        if settings.locked:
            state = "Locked: I answer and post nothing here, and learn nothing anywhere, until /unlock."
        embed = _embed("Encore's status", state)
        embed.add_field(name="Model", value=f"{info.model}, {info.quantization}, on {info.device}")
        embed.add_field(name="Adapter", value=await self._adapter())
        embed.add_field(name="Languages", value=info.languages)
        embed.add_field(
            name="Queue", value=f"{scheduler.running} of {info.slots} replies under way, {scheduler.waiting} waiting"
        )
        embed.add_field(name="Up for", value=_duration(time.monotonic() - self._started))
        embed.add_field(name="Free channels", value=_mentions(free) or "None", inline=False)
        embed.add_field(name="Message content intent", value=self._intent_state(), inline=False)
        embed.set_footer(text=f"{info.engine}: {info.reason}"[:2000])
        await interaction.followup.send(embed=embed, ephemeral=True)

    @app_commands.command(description="Count my replies here and what members said of them")
    async def stats(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        counts = await self.bot.store.counts(interaction.guild_id)
        share = f" ({counts.rated_replies / counts.replies:.0%})" if counts.replies else ""
        embed = _embed("What members said of my replies", "Each member has one vote on a reply.")
        embed.add_field(name="Replies", value=f"{counts.replies:,}")
        embed.add_field(name="Rated replies", value=f"{counts.rated_replies:,}{share}")
        embed.add_field(name="Raters", value=f"{counts.raters:,}")
        embed.add_field(name="Votes up", value=f"{counts.votes_up:,}")
        embed.add_field(name="Votes down", value=f"{counts.votes_down:,}")
        embed.add_field(name="Comparisons", value=f"{counts.comparisons:,}")
        embed.add_field(name="Corrections", value=f"{counts.corrections:,}")
        await interaction.followup.send(embed=embed, ephemeral=True)

    # ------------------------------------------------------------------ pause

    @app_commands.command(description="Stop answering in this server until /encore resume")
    async def pause(self, interaction: Interaction) -> None:
        await self._set_paused(interaction, True, "I am paused and answer nobody here until /encore resume.")

    @app_commands.command(description="Answer in this server again")
    async def resume(self, interaction: Interaction) -> None:
        await self._set_paused(interaction, False, "I am awake and answer here again.")

    async def _set_paused(self, interaction: Interaction, paused: bool, done: str) -> None:
        await interaction.response.defer(ephemeral=True)
        before = await self.bot.store.server_settings(interaction.guild_id)
        if before.locked:
            await _say(interaction, "This server is locked; /unlock lets me answer again.")
            return
        if before.paused is paused:
            await _say(interaction, "I am already paused." if paused else "I am not paused.")
            return
        await self.bot.store.change_server_settings(interaction.guild_id, interaction.user.id, paused=paused)
        await _say(interaction, done)

    # ------------------------------------------------------------------ channels

    @channels.command(name="add", description="Let me answer every message in a channel, without a mention")
    @app_commands.describe(channel="the channel (default: this one)")
    async def add_channel(self, interaction: Interaction, channel: checks.Talkable | None = None) -> None:
        await interaction.response.defer(ephemeral=True)
        place = channel or _here(interaction)
        if place is None:
            await _say(interaction, "I can't talk in a channel of this kind; choose a text channel or a thread.")
            return
        missing = checks.missing_to_talk(place)
        if missing:
            await _say(interaction, f"In {place.mention} I lack {missing}; grant that first, then add it again.")
            return
        added = await self.bot.store.add_free_channel(interaction.guild_id, place.id, interaction.user.id)
        done = (
            f"I now answer every message in {place.mention}."
            if added
            else f"{place.mention} is a free channel already."
        )
        if not self.bot.intents.message_content:
            done = (
                f"{place.mention} is a free channel, but the message content intent is off: I can't read "
                f"messages there that don't mention me or reply to me, so I won't answer those. {_INTENT_HELP}"
            )
        await _say(interaction, done)

    @channels.command(name="remove", description="Answer in a channel only when mentioned or replied to")
    @app_commands.describe(channel="the channel (default: this one)")
    async def remove_channel(self, interaction: Interaction, channel: checks.Talkable | None = None) -> None:
        await interaction.response.defer(ephemeral=True)
        place = channel or _here(interaction)
        place_id = place.id if place else interaction.channel_id
        assert place_id is not None
        removed = await self.bot.store.remove_free_channel(interaction.guild_id, place_id, interaction.user.id)
        if isinstance(place, discord.Thread):  # a thread that it was called into is followed like a free channel
            followed = await self._leave(place)
            if followed and not removed:  # what was a free channel is in the audit already
                await self.bot.store.add_audit(
                    interaction.guild_id, interaction.user.id, "channels remove", {"channel_id": place_id}
                )
            removed = removed or followed
        await _say(
            interaction,
            f"In <#{place_id}> I now answer only when mentioned or replied to."
            if removed
            else f"<#{place_id}> is no free channel, so there is nothing to remove.",
        )

    async def _leave(self, thread: discord.Thread) -> bool:
        """Follow a thread no longer; return whether it was followed."""
        was_in = self.bot.attention.is_in(thread)
        self.bot.attention.leave(thread.id)
        if thread.me is not None:
            with contextlib.suppress(discord.HTTPException):  # left already, or archived; either way it stays silent
                await thread.leave()
        return was_in

    @channels.command(name="list", description="List the channels where I answer without a mention")
    async def list_channels(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        free = await self.bot.store.free_channels(interaction.guild_id)
        embed = _embed("Free channels", _mentions(free) or "None yet; add one with /encore channels add.")
        assert interaction.guild is not None
        for channel_id in sorted(free):
            place = interaction.guild.get_channel_or_thread(channel_id)
            missing = checks.missing_to_talk(place) if isinstance(place, checks.Talkable) else ""
            if missing and len(embed.fields) < 10:
                embed.add_field(name=f"#{place}"[:256], value=f"I lack {missing} there.", inline=False)
        embed.add_field(name="Message content intent", value=self._intent_state(), inline=False)
        await interaction.followup.send(embed=embed, ephemeral=True)

    async def forget_channel(self, guild_id: int, channel_id: int) -> None:
        assert self.bot.user is not None
        try:
            await self.bot.store.remove_free_channel(guild_id, channel_id, self.bot.user.id)
        except StoreError as error:  # it stands in the list, and nobody can write there
            log.warning("deleted channel %s stays a free channel: %s", channel_id, error)

    # ------------------------------------------------------------------ settings

    @settings.command(name="show", description="Show every setting of this server")
    async def show_settings(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        settings, usual = await self.bot.store.server_settings(interaction.guild_id), ServerSettings()
        embed = _embed("Settings of this server", f"Change one with /encore settings set; `{DEFAULT}` takes it back.")
        for option in OPTIONS.values():
            shown = option.show(settings)
            if len(shown) > _PROMPT_SHOWN:
                shown = shown[:_PROMPT_SHOWN] + "…"
            if option.value(settings) != option.value(usual):
                shown += f" (default: {option.show(usual)})"
            embed.add_field(name=option.name, value=shown, inline=option.name != "system_prompt")
        embed.add_field(name="Emoji that count", value=_emoji_table(settings.emoji), inline=False)
        await interaction.followup.send(embed=embed, ephemeral=True)

    @settings.command(name="set", description="Change one setting of this server")
    @app_commands.describe(name="which setting", value="its new value, or default")
    @app_commands.choices(
        name=[app_commands.Choice(name=f"{o.name}: {o.help}"[:100], value=o.name) for o in OPTIONS.values()]
    )
    async def set_setting(self, interaction: Interaction, name: str, value: app_commands.Range[str, 1, 4000]) -> None:
        await interaction.response.defer(ephemeral=True)
        option = OPTIONS[name]
        try:
            change = option.change(value)
        except OptionError as error:
            await _say(interaction, f"{name} can't be {_quoted(value)}; {error}.")
            return
        if name in CHANNELS and (problem := _channel_problem(interaction, name, change[option.field])):
            await _say(interaction, problem)
            return
        if name in ("system_prompt", "max_new_tokens"):
            wanted = option.changed(await self.bot.store.server_settings(interaction.guild_id), change)
            if problem := self.bot.responder.prompts.problem(wanted):
                await _say(interaction, f"{name} stays as it was: {problem}; shorten it or lower max_new_tokens.")
                return
        settings = await self.bot.store.change_server_settings(interaction.guild_id, interaction.user.id, **change)
        shown = option.show(settings)
        note = ""
        if name.startswith("unprompted_") and not self.bot.intents.message_content:
            note = f" The message content intent is off, so I can't read along there. {_INTENT_HELP}"
        elif name == "unprompted_chance" and settings.unprompted_chance and settings.unprompted_channel_id is None:
            note = " Choose the channel with unprompted_channel too; until then I join in nowhere."
        elif name == "moderators_channel" and _is_open(interaction, settings.moderators_channel_id):
            note = " Everyone here can read that channel."
        await _say(interaction, f"{name} is now {_quoted(shown) if name == 'system_prompt' else shown}.{note}")

    @set_setting.autocomplete("value")
    async def complete_value(self, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        """Offer what a setting can be; nothing to those who may not set it (Discord runs no check before this)."""
        option = OPTIONS.get(interaction.namespace.name or "")
        if option is None or not checks.is_moderator(interaction):
            return []
        settings = await self.bot.store.server_settings(interaction.guild_id)
        offered = option.offers(settings)
        if option.name in CHANNELS and interaction.guild is not None:
            fit = (c for c in interaction.guild.text_channels if not _missing_for(option.name, c))
            offered = {**{f"<#{c.id}>": f"#{c.name}" for c in fit}, **offered}
        wanted = current.strip().lower()
        return [
            app_commands.Choice(name=reads[:100], value=value)
            for value, reads in offered.items()
            if wanted in reads.lower()
        ][:_CHOICES_SHOWN]

    @settings.command(name="emoji", description="Change what a reaction with an emoji counts for")
    @app_commands.describe(
        emoji="one emoji", weight="from -5 to 5: above 0 is a vote up, below 0 down, 0 doesn't count"
    )
    async def set_emoji(
        self, interaction: Interaction, emoji: str, weight: app_commands.Range[float, -WEIGHT_LIMIT, WEIGHT_LIMIT]
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        settings = await self.bot.store.server_settings(interaction.guild_id)
        try:
            wanted = emoji_of(emoji)
            table = with_weight(settings.emoji, wanted, weight)
        except OptionError as error:
            await _say(interaction, f"{_quoted(emoji)} can't count; {error}.")
            return
        await self.bot.store.change_server_settings(interaction.guild_id, interaction.user.id, emoji=table)
        counts = f"counts {weight:+g} from now on" if weight else "doesn't count any more"
        await _say(
            interaction, f"A reaction with {_shown_emoji(wanted)} {counts}; votes given before stay as they are."
        )

    # ------------------------------------------------------------------ helpers

    async def _adapter(self) -> str:
        if self.bot.learning is None:
            return "None"
        serving = (await self.bot.learning.nightly.status()).serving
        named = serving.adapter or "None"
        canary = serving.canary
        return named if canary is None else f"{named}; {canary.adapter} in {canary.share:.0%} of the conversations"

    def _intent_state(self) -> str:
        if self.bot.intents.message_content:
            return "On: I can read every message in free channels."
        return (
            "Off: I only read direct messages, messages that mention me and replies that ping me; in a thread, mention "
            f"me each time. {_INTENT_HELP}"
        )


async def _say(interaction: Interaction, sentence: str) -> None:
    await interaction.followup.send(sentence, ephemeral=True)


def _embed(title: str, description: str) -> discord.Embed:
    return discord.Embed(title=title, description=description, colour=_COLOUR)


def _channel_problem(interaction: Interaction, name: str, channel_id: int | None) -> str | None:
    """Say why an option that names a channel can't name this one."""
    if channel_id is None:
        return None
    assert interaction.guild is not None
    place = interaction.guild.get_channel_or_thread(channel_id)
    if not isinstance(place, checks.Talkable):
        return f"{name} can't be that; choose a text channel or a thread of this server."
    missing = _missing_for(name, place)
    return f"In {place.mention} I lack {missing}; grant that first, then set it again." if missing else None


def _is_open(interaction: Interaction, channel_id: int | None) -> bool:
    """Return whether every member of the server can read a channel."""
    assert interaction.guild is not None
    place = interaction.guild.get_channel_or_thread(channel_id) if channel_id else None
    return isinstance(place, checks.Talkable) and place.permissions_for(interaction.guild.default_role).view_channel


def _here(interaction: Interaction) -> checks.Talkable | None:
    return interaction.channel if isinstance(interaction.channel, checks.Talkable) else None


def _missing_for(option: str, place: checks.Talkable) -> str:
    return checks.missing_to_report(place) if option == "moderators_channel" else checks.missing_to_talk(place)


def _mentions(channel_ids: set[int]) -> str:
    shown = [f"<#{channel_id}>" for channel_id in sorted(channel_ids)[:_CHANNELS_SHOWN]]
    more = len(channel_ids) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _emoji_table(table: dict[str, float]) -> str:
    rows = [f"{_shown_emoji(emoji)} {weight:+g}" for emoji, weight in sorted(table.items(), key=lambda row: -row[1])]
    shown = list(rows)
    while len(", ".join(shown)) > _EMOJI_SHOWN:
        shown.pop()
    more = len(rows) - len(shown)
    return (", ".join(shown) or "None") + (f" and {more} more" if more else "")


def _shown_emoji(emoji: str) -> str:
    return f"<:{emoji}>" if ":" in emoji else emoji


def _quoted(value: str) -> str:
    plain = discord.utils.escape_markdown(" ".join(value.split()))
    return f"“{plain if len(plain) <= 80 else plain[:79] + '…'}”"


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{count} {unit}{'s' * (count != 1)}" for count, unit in ((days, "day"), (hours, "hour")) if count]
    return " ".join([*parts, f"{minutes} minute{'s' * (minutes != 1)}"])
