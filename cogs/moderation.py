"""Moderators in control: `/mod queue | mute | unmute | muted | purge | consent | audit`, and `/lock` with `/unlock`.

`/mod` takes in the groups that the cog is built with, `filter` and `quota`. Discord hides these from members, and the
cog checks again. What a lock or a decision does is `bot.cases`'.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

import discord
from discord import app_commands
from discord.ext import commands

from bot import case_ui, checks
from bot.attention import role_ids
from bot.confirm import CONFIRM_SECONDS, Confirm
from bot.error_handler import tell
from bot.moderation.limits import Scope
from bot.notices import as_embeds

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.records import AuditEntry
    from bot.store_cases import Mute

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction


class _AsksConsent(Protocol):
    """What this needs of the cog that answers the buttons of the question."""

    async def ask(self, interaction: Interaction) -> None: ...


log = logging.getLogger(__name__)

_COLOUR = discord.Colour.from_rgb(122, 92, 214)
_CASES_SHOWN = 5  # rows of buttons that a message holds
_MINUTES = {10: "10 minutes", 60: "an hour", 1440: "a day", 10_080: "a week"}
_LONGEST_MUTE = 525_600  # minutes: a year
_MUTES_SHOWN = 50
_MOST_PURGED = 100
_LOOKED_THROUGH = 1000  # messages of a channel among which the bot's own are looked for
_MOST_AUDITED, _USUAL_AUDITED = 50, 20
_AUDIT_TEXT = 4000  # characters; an embed holds 4096
_LINE = 300  # characters of one entry


class Moderation(commands.Cog):
    mod = app_commands.Group(
        name="mod",
        description="Reports, mutes, what may be asked and said, and what moderators did",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(self, bot: EncoreBot, *groups: app_commands.Group, confirm_seconds: float = CONFIRM_SECONDS) -> None:
        self.bot = bot
        for group in groups:
            self.mod.add_command(group)
        self._confirm_seconds = confirm_seconds

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    # ------------------------------------------------------------------ the queue

    @mod.command(description="Show the newest open cases with their buttons")
    async def queue(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        cases, count = await self.bot.store.open_cases(interaction.guild_id, _CASES_SHOWN)
        if not cases:
            await tell(interaction, "No case is open.")
            return
        embeds = as_embeds([await self.bot.cases.card(case) for case in cases])
        told = f"{count} {'case is' if count == 1 else 'cases are'} open" + (
            f"; these are the newest {len(cases)}." if count > len(cases) else "."
        )
        await interaction.followup.send(told, embeds=embeds, view=case_ui.queue_view(cases), ephemeral=True)

    # ------------------------------------------------------------------ members

    @mod.command(description="Answer and read a member, or a role's members, here no more")
    @app_commands.describe(
        whom="the member or role that I don't answer", minutes="for how long (default: until /mod unmute)"
    )
    async def mute(
        self,
        interaction: Interaction,
        whom: discord.User | discord.Role,
        minutes: app_commands.Range[int, 1, _LONGEST_MUTE] | None = None,
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        guild, actor_id, cases = interaction.guild, interaction.user.id, self.bot.cases
        assert guild is not None
        if whom == self.bot.user:
            await tell(interaction, "That is me; /lock or /encore pause silences me.")
            return
        if isinstance(whom, discord.Role):
            if whom.is_default():
                await tell(interaction, "That is everybody; /lock or /encore pause silences me.")
                return
            role_id = whom.id

            async def has_role(member_id: int) -> bool:
                with contextlib.suppress(discord.HTTPException):  # who left has no role any more
                    return role_id in role_ids(await guild.fetch_member(member_id))
                return False

            await cases.mute_role(guild.id, role_id, actor_id, minutes, has_role=has_role)
        else:
            await cases.mute(guild.id, whom.id, actor_id, minutes)
        until = "until /mod unmute" if minutes is None else f"for {_duration(minutes)}"
        told = f"members with {whom.mention}" if isinstance(whom, discord.Role) else whom.mention
        await tell(interaction, f"I don't answer {told} here {until}.")

    @mute.autocomplete("minutes")
    async def complete_minutes(self, interaction: Interaction, current: str) -> list[app_commands.Choice[int]]:
        if not checks.is_moderator(interaction):  # Discord runs no check before this
            return []
        offered = dict(_MINUTES)
        if current.isascii() and current.isdigit() and 1 <= int(current[:9]) <= _LONGEST_MUTE:
            offered = {int(current): _duration(int(current)), **offered}
        return [
            app_commands.Choice(name=told, value=value)
            for value, told in offered.items()
            if current in told or str(value).startswith(current)
        ]

    @mod.command(description="Answer a member, or a role's members, here again")
    @app_commands.describe(whom="the member or role that I answer again")
    async def unmute(self, interaction: Interaction, whom: discord.User | discord.Role) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        scope = Scope.ROLE if isinstance(whom, discord.Role) else Scope.MEMBER
        was = await self.bot.store.unmute(interaction.guild_id, whom.id, interaction.user.id, scope)
        if not isinstance(whom, discord.Role) and (why := await self._why_muted(interaction.guild_id, whom)):
            await tell(interaction, f"I still don't answer {whom.mention}: {why}.")
        else:
            await tell(interaction, f"I answer {whom.mention} again." if was else f"{whom.mention} isn't muted here.")

    async def _why_muted(self, guild_id: int, member: discord.User | discord.Member) -> str | None:
        """Say why a member whom moderators don't mute isn't answered."""
        if await self.bot.store.is_muted(guild_id, member.id):
            return "whoever runs me bans them everywhere, which only they can end"
        if await self.bot.store.is_muted(guild_id, member.id, role_ids(member)):
            return "they have a muted role, which /mod muted names"
        return None

    @mod.command(description="Show which members and roles I don't answer here")
    async def muted(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        mutes = await self.bot.store.mutes(interaction.guild_id)
        lines = [_muted(mute) for mute in mutes[:_MUTES_SHOWN]] or ["Nobody is muted here."]
        if (more := len(mutes) - _MUTES_SHOWN) > 0:
            lines.append(f"and {more:,} more")
        embed = discord.Embed(title="Whom I neither answer nor read", description="\n".join(lines), colour=_COLOUR)
        await interaction.followup.send(embed=embed, ephemeral=True)

    # ------------------------------------------------------------------ purge

    @mod.command(description="Delete my newest messages in this channel")
    @app_commands.describe(count="how many of my messages")
    async def purge(self, interaction: Interaction, count: app_commands.Range[int, 1, _MOST_PURGED]) -> None:
        await interaction.response.defer(ephemeral=True)
        many = "my newest message" if count == 1 else f"my newest {count} messages"
        view = Confirm(
            interaction,
            lambda press: self._purge(press, count),
            yes="Delete them",
            no="Keep them",
            moderators=True,
            seconds=self._confirm_seconds,
        )
        told = f"This deletes {many} in this channel, for everyone. It can't be undone."
        await interaction.followup.send(told, view=view, ephemeral=True)

    async def _purge(self, interaction: discord.Interaction[Any], count: int) -> str:
        """Delete the bot's newest messages in the channel where a moderator confirmed it, and say how many."""
        channel = interaction.channel
        deleted = 0
        try:
            assert isinstance(channel, discord.abc.Messageable)
            async for message in channel.history(limit=_LOOKED_THROUGH):
                if deleted == count:
                    break
                if message.author == self.bot.user:
                    with contextlib.suppress(discord.NotFound):  # somebody was faster
                        await message.delete()
                        deleted += 1
        except discord.Forbidden:
            return "I lack Read Message History here, so I can't find my messages; grant it first."
        finally:
            if deleted:
                detail = {"channel_id": interaction.channel_id, "messages": deleted}
                await self.bot.store.add_audit(interaction.guild_id, interaction.user.id, "mod purge", detail)
        return f"I deleted {deleted} of my messages." if deleted != 1 else "I deleted 1 message."

    # ------------------------------------------------------------------ consent

    @mod.command(description="Ask the members of this channel for their consent, with buttons")
    async def consent(self, interaction: Interaction) -> None:
        if (await self.bot.store.server_settings(interaction.guild_id)).locked:
            await tell(interaction, "This server is locked, so I post nothing here; /unlock lets me ask.")
            return
        await cast("_AsksConsent", self.bot.get_cog("Privacy")).ask(interaction)

    # ------------------------------------------------------------------ audit

    @mod.command(description="Show who changed or decided what in this server")
    @app_commands.describe(count="how many entries (default: 20)")
    async def audit(
        self, interaction: Interaction, count: app_commands.Range[int, 1, _MOST_AUDITED] = _USUAL_AUDITED
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        entries = await self.bot.store.audit(interaction.guild_id, count)
        lines = [_entry(entry) for entry in entries]
        while len("\n".join(lines)) > _AUDIT_TEXT:
            lines.pop()
        told = "\n".join(lines) or "Nothing was changed here yet."
        embed = discord.Embed(title="Who did what", description=told, colour=_COLOUR)
        if len(lines) < len(entries):
            embed.set_footer(text=f"These are the newest {len(lines)}; the others don't fit.")
        await interaction.followup.send(embed=embed, ephemeral=True)

    # ------------------------------------------------------------------ panic

    @app_commands.command(description="Panic: answer, post and learn nothing from this moment until /unlock")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    async def lock(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        await self.bot.cases.lock(interaction.guild_id, interaction.user.id)
        await tell(interaction, case_ui.LOCKED)

    @app_commands.command(description="End a lock: answer, post and learn again")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    async def unlock(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        if not await self.bot.cases.unlock(interaction.guild_id, interaction.user.id):
            await tell(interaction, "This server isn't locked.")
            return
        frozen = await self.bot.store.learning_frozen()
        rest = "Learning stays frozen; /training unfreeze ends that." if frozen else "I learn at night again."
        await tell(interaction, f"Unlocked: I answer and post here again. {rest}")


def _entry(entry: AuditEntry) -> str:
    """Return an entry of the audit as one line: when, who, what, and the rest by name."""
    details = "; ".join(f"{name.replace('_', ' ')}: {_value(name, value)}" for name, value in entry.detail.items())
    told = discord.utils.escape_markdown(" ".join(details.split()), ignore_links=True)
    line = f"<t:{int(entry.created_at)}:f> <@{entry.actor_id}> **{entry.action}** {told}".strip()
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def _value(name: str, value: Any) -> str:
    if isinstance(value, list):  # a setting's value before and after
        return " → ".join(_value(name, item) for item in value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in ("member_id", "member"):
        return f"<@{value}>"
    if name == "role_id":
        return f"<@&{value}>"
    return f"<#{value}>" if name == "channel_id" or name.endswith("_channel_id") else str(value)


def _muted(mute: Mute) -> str:
    whom = f"Members with <@&{mute.subject_id}>" if mute.scope is Scope.ROLE else f"<@{mute.subject_id}>"
    end = "/mod unmute" if mute.until is None else f"<t:{int(mute.until)}:f> (<t:{int(mute.until)}:R>)"
    return f"{whom}: until {end}"


def _duration(minutes: int) -> str:
    return _MINUTES.get(minutes) or f"{minutes:,} minute{'s' * (minutes != 1)}"
