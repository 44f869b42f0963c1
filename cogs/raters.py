"""Raters: gold labels by moderators (`/raters gold`, and a message's menu), whom to trust, who is banned from voting.

A gold label fixes which way is up when members disagree; a moderator's vote counts as a trusted one in their server, as
does that of whoever moderators trust; a banned member's as none. What any of it is worth is `models.learning.raters`'.
Labels, trust and bans of one server are its own moderators' to give.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot import checks, message_links, rater_explained
from bot.error_handler import press, tell
from bot.errors import StoreError
from bot.feedback_ui import OPTED_OUT
from bot.moderation.limits import day_of
from bot.night_cards import Card, Field
from bot.notices import as_embed
from bot.records import Provenance

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.records import Reply
    from bot.store_raters import RaterRow

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

log = logging.getLogger(__name__)

MENU = "Gold label"  # the message command, and the title of its form
_NO_REPLY = "This is no reply of mine that I know in this server, so it can't be labelled; choose one of my replies."
_FORM_SECONDS = 3600.0
_RATERS_KEPT = 10_000
_CHECK_SECONDS = 6 * 3600.0
_RATERS_SHOWN = 25
_COLOUR = discord.Colour.from_rgb(122, 92, 214)
_COUNTS = "votes that say otherwise lose weight at night."
_UNAGREED = "it counts at night once you agree: /consent give."
_NOT_AGREED = "who hasn't agreed: trusted after /consent give"
_BOT = "Bots' ratings never count."
_NOTHING_KEPT = "I keep nothing of {}, so there is no vote of theirs to trust; /consent give is theirs to use first."
_LOCKED = "but what members talk with me about teaches me nothing, so it doesn't count at night (/privacy says why)."
_LISTED = "Their votes and comparisons here count for nothing in the nights to come"


class Label(Enum):
    """What a moderator says of a reply."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"


_HELP = {
    Label.GOOD: "good: whoever calls it bad is wrong",
    Label.BAD: "bad: whoever calls it good is wrong",
    Label.NONE: "none: take the label back",
}


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Raters(commands.GroupCog, group_name="raters", group_description="Show me which ratings to trust"):
    """The moderators' commands; and what is known of raters, noted when they rate."""

    def __init__(self, bot: EncoreBot) -> None:
        self.bot = bot
        self._menu = app_commands.ContextMenu(name=MENU, callback=self.label_message)
        app_commands.default_permissions(manage_guild=True)(self._menu)
        app_commands.guild_only()(self._menu)
        self._noted: OrderedDict[tuple[int, int], tuple[bool, float | None, int]] = OrderedDict()
        self._checking: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        self.bot.tree.add_command(self._menu)
        self._checking = asyncio.create_task(self._keep_checking(), name="moderators")

    async def cog_unload(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self.bot.tree.remove_command(self._menu.name, type=self._menu.type)

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    # ------------------------------------------------------------------ gold labels

    @app_commands.command(description="Say whether a reply of mine is good or bad, for certain")
    @app_commands.describe(
        message="the reply: a link to its message, or the message's id",
        label="good, bad, or none to take the label back",
    )
    @app_commands.choices(label=[app_commands.Choice(name=told, value=label.value) for label, told in _HELP.items()])
    async def gold(self, interaction: Interaction, message: str, label: str) -> None:
        await interaction.response.defer(ephemeral=True)
        message_id = message_links.message_id(message, interaction.guild_id)
        if message_id is None:
            await tell(interaction, message_links.NOT_A_MESSAGE)
        elif (reply := await self._reply(interaction, message_id)) is None:
            await tell(interaction, _NO_REPLY)
        else:
            await self.label(interaction, reply, message_id, Label(label))

    async def label_message(self, interaction: Interaction, message: discord.Message) -> None:
        """Open the form about the reply that a message shows."""
        # A context menu is no command of the cog's group, so its check doesn't run for it.
        await self.interaction_check(interaction)
        # A form can only be the first answer, within three seconds and without a defer.
        reply = await self._reply(interaction, message.id)
        if reply is None:
            await tell(interaction, _NO_REPLY)
            return
        known = await self.bot.store.gold(reply.id)
        await interaction.response.send_modal(_LabelForm(self, reply, message.id, known.good if known else None))

    async def label(self, interaction: Interaction, reply: Reply, message_id: int, label: Label) -> None:
        """Keep what a moderator said of a reply, audit it, and confirm it."""
        store, actor = self.bot.store, interaction.user
        if label is Label.NONE:
            changed = await store.remove_gold(reply.id)
            told = "This reply has no gold label any more." if changed else "This reply has no gold label."
        elif actor.id in await store.opted_out():
            await tell(interaction, OPTED_OUT)
            return
        else:
            before = await store.gold(reply.id)
            good = label is Label.GOOD
            effect = await self._effect(reply, actor.id)
            # One that counts replaces the same word of another moderator, who may not have agreed.
            takes_over = before is not None and before.actor_id != actor.id and effect is _COUNTS
            changed = before is None or before.good is not good or takes_over
            if changed and not await store.label_gold(reply.id, good, actor.id):
                await tell(interaction, _NO_REPLY)  # deleted a moment ago
                return
            told = f"This reply is now known to be {label.value}; {effect}"
            if not changed:
                told = f"This reply is known to be {label.value} already{'.' if effect is _COUNTS else f'; {effect}'}"
        if changed:
            detail = {"reply_id": reply.id, "message_id": message_id, "label": label.value}
            await store.add_audit(interaction.guild_id, actor.id, "raters gold", detail)
        await tell(interaction, told)

    async def _effect(self, reply: Reply, actor_id: int) -> str:
        """Say what a label of a reply does at night."""
        ask = reply.ask
        if ask.provenance is Provenance.DISCORD and not self.bot.settings.discord_training_permission:
            return _LOCKED
        return _COUNTS if await self.bot.store.may_teach(actor_id, ask.provenance, ask.guild_id) else _UNAGREED

    async def _reply(self, interaction: Interaction, message_id: int) -> Reply | None:
        """Return the reply that a message of this server shows."""
        reply = await self.bot.store.reply_of_message(message_id)
        return reply if reply is not None and reply.ask.guild_id == interaction.guild_id else None

    # ------------------------------------------------------------------ trust

    @app_commands.command(description="Have a member's ratings here count as a moderator's do")
    @app_commands.describe(member="whose ratings show me whom else to believe")
    async def trust(self, interaction: Interaction, member: discord.User) -> None:
        await interaction.response.defer(ephemeral=True)
        changed = await self._trust(interaction, member, True)
        if changed is None:
            return
        rater = await self.bot.store.rater(interaction.guild_id, member.id)
        if rater is None or rater.trust_given is not True:
            await tell(interaction, _NOTHING_KEPT.format(member.mention))
            return
        told = f"{member.mention} is trusted{'' if changed else ' already'}, until /raters distrust."
        if rater.banned:
            told += " They are banned from voting, so nothing of theirs counts before /raters unban."
        elif not await self.bot.store.may_teach(member.id, self.bot.provenance, interaction.guild_id):
            told += " Their ratings teach me once they agree: /consent give."
        await tell(interaction, told)

    @app_commands.command(description="Have a member's ratings count as anybody's, a moderator's too")
    @app_commands.describe(member="whose ratings I no longer take as a measure for others'")
    async def distrust(self, interaction: Interaction, member: discord.User) -> None:
        await interaction.response.defer(ephemeral=True)
        changed = await self._trust(interaction, member, False)
        if changed is not None:
            told = f"{member.mention} is {'no longer' if changed else 'already not'} trusted: their votes count as any"
            await tell(
                interaction,
                f"{told} member's from the next night on, also if they moderate. Gold labels of theirs stay until they "
                "are changed; /raters trust ends this, /raters ban goes further.",
            )

    async def _trust(self, interaction: Interaction, member: discord.User, trusted: bool) -> bool | None:
        """Return whether trust in a member changed, None for a bot, of whom that is told."""
        if member.bot:
            await tell(interaction, _BOT)
            return None
        return await self.bot.store.trust_rater(interaction.guild_id, member.id, interaction.user.id, trusted)

    @app_commands.command(description="Show what the last night thought of a member's ratings, and why")
    @app_commands.describe(member="whose ratings")
    async def explain(self, interaction: Interaction, member: discord.User) -> None:
        await interaction.response.defer(ephemeral=True)
        assert interaction.guild_id is not None
        store = self.bot.store
        rater = await store.rater(interaction.guild_id, member.id)
        now = rater_explained.standing(rater)
        lines = [f"{member.mention} is now {now}." if now else f"{member.mention} counts as any member now."]
        fields: tuple[Field, ...] = ()
        if member.bot:
            lines = [_BOT]
        elif self.bot.learning is None:
            lines.append(rater_explained.NO_LEARNING)
        elif (judged := await rater_explained.last_judgement(self.bot.learning.nightly, member.id)) is None:
            lines.append(rater_explained.NO_NIGHT)
        else:
            told, fields = await rater_explained.explain(store, interaction.guild_id, member.id, judged)
            lines.append(told)
        card = Card("What I make of a member's ratings", "\n".join(lines), fields)
        await interaction.followup.send(embed=as_embed(card), ephemeral=True)

    # ------------------------------------------------------------------ bans

    @app_commands.command(description="Have a member's ratings here count for nothing when I learn")
    @app_commands.describe(member="whose ratings; they still can talk to me")
    async def ban(self, interaction: Interaction, member: discord.User) -> None:
        await interaction.response.defer(ephemeral=True)
        if member.bot:
            await tell(interaction, _BOT)
        elif await self.bot.store.ban_rater(interaction.guild_id, member.id, interaction.user.id):
            await tell(interaction, f"{member.mention} is banned from voting. {_LISTED}; /raters unban ends that.")
        else:
            await tell(interaction, f"{member.mention} is banned from voting already.")

    @app_commands.command(description="Let a member's ratings count again")
    @app_commands.describe(member="whose ratings")
    async def unban(self, interaction: Interaction, member: discord.User) -> None:
        await interaction.response.defer(ephemeral=True)
        if await self.bot.store.ban_rater(interaction.guild_id, member.id, interaction.user.id, banned=False):
            await tell(interaction, f"The ratings of {member.mention} count again, those of before too.")
        else:
            await tell(interaction, f"{member.mention} isn't banned from voting.")

    @app_commands.command(name="list", description="Show who rates here: the banned, the trusted, the busiest")
    async def list_raters(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        found = await self.bot.store.voters(interaction.guild_id, _RATERS_SHOWN)
        lines = []
        for rater, votes in found:
            teaches = await self.bot.store.may_teach(rater.member_id, self.bot.provenance, rater.guild_id)
            lines.append(f"<@{rater.member_id}>: {_standing(rater, votes, teaches)}")
        told = "\n".join(lines) or "Nobody has rated a reply of mine here yet."
        embed = discord.Embed(title="Who rates here", description=told, colour=_COLOUR)
        if len(lines) == _RATERS_SHOWN:
            embed.set_footer(text=f"These are the first {_RATERS_SHOWN}.")
        await interaction.followup.send(embed=embed, ephemeral=True)

    @commands.Cog.listener()
    async def on_member_ban(self, guild: discord.Guild, user: discord.User | discord.Member) -> None:
        """Whoever is banned from the server votes no more; who comes back stays so until `/raters unban`."""
        assert self.bot.user is not None
        try:
            await self.bot.store.ban_rater(guild.id, user.id, self.bot.user.id)
        except StoreError as error:
            log.warning("server %s: a banned member still counts as a rater: %s", guild.id, error)

    # ------------------------------------------------------------------ who rates

    @commands.Cog.listener()
    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        assert self.bot.user is not None
        if payload.member is None or payload.member.bot:
            return
        if payload.message_author_id is None:  # Discord may leave it out, and SimCord does
            await self._note(payload.member, of_message=payload.message_id)
        elif payload.message_author_id == self.bot.user.id:
            await self._note(payload.member)

    @commands.Cog.listener()
    async def on_rater_seen(self, member: discord.Member) -> None:
        """Whoever rated while I was away is a rater as well."""
        await self._note(member)

    @commands.Cog.listener()
    async def on_rated(self, interaction: discord.Interaction[Any]) -> None:
        """Whoever used a button or a form that rates is a rater."""
        if isinstance(interaction.user, discord.Member):
            await self._note(interaction.user, moderates=checks.is_moderator(interaction))

    async def _keep_checking(self) -> None:
        await self.bot.wait_until_ready()
        while True:
            await self.check_moderators()
            await asyncio.sleep(_CHECK_SECONDS)

    async def check_moderators(self) -> None:
        """Note who moderates no more: without the members' intent, nobody tells that a role was taken."""
        try:
            for rater in await self.bot.store.raters():
                guild = self.bot.get_guild(rater.guild_id) if rater.guild_id else None
                if guild is not None and rater.trusted and rater.trust_given is None:
                    await self._check(guild, rater.member_id)
        except (StoreError, discord.HTTPException) as error:
            log.warning("who moderates is checked later: %s", error)

    async def _check(self, guild: discord.Guild, member_id: int) -> None:
        try:
            member = await guild.fetch_member(member_id)
        except discord.NotFound:
            self._noted.pop((guild.id, member_id), None)
            await self.bot.store.note_rater(guild.id, member_id, trusted=False)
        else:
            await self._note(member)

    async def _note(
        self, member: discord.Member, *, moderates: bool | None = None, of_message: int | None = None
    ) -> None:
        """Note, once a day as long as it stays so, whether a rater moderates and since when they are a member.

        Every day, since retention or a deletion may have dropped it. With `of_message` nothing is noted unless that
        message shows a reply.
        """
        if moderates is None:
            moderates = member.guild_permissions.manage_guild
        joined_at = member.joined_at.timestamp() if member.joined_at else None
        key, facts = (member.guild.id, member.id), (moderates, joined_at, day_of(time.time()))
        if self._noted.get(key) == facts:
            return
        try:
            if of_message is not None and await self.bot.store.reply_of_message(of_message) is None:
                return
            self._noted[key] = facts
            if len(self._noted) > _RATERS_KEPT:
                self._noted.popitem(last=False)
            await self.bot.store.note_rater(member.guild.id, member.id, trusted=moderates, joined_at=joined_at)
        except StoreError as error:
            self._noted.pop(key, None)  # the next vote tries again
            log.warning("server %s: a rater is not noted yet: %s", member.guild.id, error)


class _LabelForm(ui.Modal, title=MENU):
    def __init__(self, cog: Raters, reply: Reply, message_id: int, known: bool | None) -> None:
        super().__init__(timeout=_FORM_SECONDS)
        self._cog = cog
        self._reply = reply
        self._message_id = message_id
        now = {None: Label.NONE, True: Label.GOOD, False: Label.BAD}[known]
        options = [
            discord.SelectOption(label=told, value=label.value, default=label is now)
            for label, told in _HELP.items()
            if label is not Label.NONE or known is not None
        ]
        self.choice = ui.Select[Any](custom_id="label", options=options)
        self.add_item(
            ui.Label(
                text="What is this reply, for certain?",
                description="A gold label weighs more than votes, and shows whose votes to trust.",
                component=self.choice,
            )
        )

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        try:
            await self._cog.interaction_check(interaction)
            await self._cog.label(interaction, self._reply, self._message_id, Label(self.choice.values[0]))
        except Exception as error:
            await press(interaction, MENU, error)


def _standing(rater: RaterRow, votes: int, teaches: bool) -> str:
    """Say how a rater stands; whether members agreed is theirs to tell, unless a night would trust them."""
    told = rater_explained.standing(rater)
    if rater.trusted and not rater.banned and not teaches:
        told = f"{'trusted by moderators, but' if rater.trust_given else 'a moderator'} {_NOT_AGREED}"
    counted = f"{votes:,} vote{'s' * (votes != 1)}"
    return f"{counted}, {told}" if told else counted
