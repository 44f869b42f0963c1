"""Members' data in members' hands: `/privacy`, `/consent ...`, `/mydata ...`.

What is held and how it is forgotten is `bot.privacy`'s. Every answer is for the asker's eyes only, but the prompt for
consent, which a moderator posts and whose buttons work for ever.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.composition import NIGHTS
from bot.confirm import Confirm
from bot.error_handler import press, tell
from bot.privacy.export import export
from bot.privacy.notice import privacy_text, receipt_text

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.privacy.forget import Forget
    from bot.privacy.retention import Retention

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

_COLOUR = discord.Colour.from_rgb(122, 92, 214)
_LARGEST_FILE = 8 * 2**20  # bytes; every server takes that
GIVEN = "Thank you: from now on your ratings may teach me, and your words where that is allowed. /privacy has the rest."
OUT = "You opted out, so nothing of yours is kept that could teach me; /mydata optin first, then agree."
UNAGREED = " You teach me nothing until you agree anew: /consent give."
STANDS = "You agreed already; /consent withdraw takes it back."
PROMPT = (
    "Every night I learn from reactions to my replies. Yours count for that only if you agree, and you can take it "
    "back at any time: then what I learned from you is removed. /privacy says what I read and keep."
)


class Privacy(commands.Cog):
    """Commands for every member; `/mod consent` (cogs/moderation.py) posts the question of `ask`."""

    consent = app_commands.Group(name="consent", description="Whether your ratings and words may teach me")
    mydata = app_commands.Group(name="mydata", description="What I hold of you: see it, delete it, or stop it")

    def __init__(self, bot: EncoreBot, forget: Forget, retention: Retention | None = None) -> None:
        self.bot = bot
        self._forget = forget
        self._retention = retention
        self._keeping: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        self.bot.add_view(_ConsentButtons(self))
        if self._retention is not None:
            self._keeping = asyncio.create_task(self._retention.keep(), name="retention")

    async def cog_unload(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    @app_commands.command(description="What I read, keep and learn from, and what you can do about it")
    async def privacy(self, interaction: Interaction) -> None:
        text = privacy_text(self.bot.settings, model=self.bot.model.engine.info.model)
        embed = discord.Embed(title="Your data", description=text, colour=_COLOUR)
        await interaction.response.send_message(embed=embed, ephemeral=True)

    # ------------------------------------------------------------------ consent

    @consent.command(description="Let your ratings teach me, and your words where that is allowed")
    async def give(self, interaction: Interaction) -> None:
        await self.give_consent(interaction)

    async def give_consent(self, interaction: discord.Interaction[Any]) -> None:
        """Keep a member's consent, however it came; one of who opted out would stand for nothing."""
        await interaction.response.defer(ephemeral=True)
        if interaction.user.id in await self.bot.store.opted_out():
            await tell(interaction, OUT)
            return
        given = await self._forget.give_consent(interaction.user.id)
        await tell(interaction, GIVEN if given else STANDS)

    @consent.command(description="Teach me nothing any more; what I learned from you is removed")
    async def withdraw(self, interaction: Interaction) -> None:
        await self.withdraw_consent(interaction)

    async def withdraw_consent(self, interaction: discord.Interaction[Any]) -> None:
        """Take a member's consent back, and out of what was learned."""
        await interaction.response.defer(ephemeral=True)
        receipt = await self._forget.withdraw_consent(interaction.user.id)
        await tell(interaction, f"You teach me nothing from now on.\n{receipt_text(receipt)}")

    @consent.command(description="Show whether you agreed")
    async def status(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        consent = await self.bot.store.consent(interaction.user.id)
        out = interaction.user.id in await self.bot.store.opted_out()
        if out:
            told = "You opted out: I read, answer and keep nothing of yours. /mydata optin ends that."
        elif consent.given:
            told = f"You agreed <t:{int(consent.given_at or 0)}:D> that your ratings may teach me."
        elif consent.withdrawn_at is not None:
            told = f"You took your consent back <t:{int(consent.withdrawn_at)}:D>; you teach me nothing."
        else:
            told = "You haven't said; so your ratings teach me nothing. /consent give lets them."
        await tell(interaction, told)

    async def ask(self, interaction: Interaction) -> None:
        """Ask the members of a channel for their consent, as a moderator wishes."""
        embed = discord.Embed(title="May your reactions teach me?", description=PROMPT, colour=_COLOUR)
        await interaction.response.send_message(embed=embed, view=_ConsentButtons(self))
        detail = {"channel_id": interaction.channel_id}
        await self.bot.store.add_audit(interaction.guild_id, interaction.user.id, "mod consent", detail)

    # ------------------------------------------------------------------ data

    @mydata.command(description="Send you a file of all that I hold of you")
    async def export(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        models, nights = self.bot.settings.models_dir, self.bot.store.path.parent / NIGHTS
        found = await export(self.bot.store, interaction.user.id, nights=nights, models=models)
        if len(found.data) > _LARGEST_FILE:
            command = f"`encore mydata export {interaction.user.id}`"
            await tell(interaction, f"There is more than a message can carry; ask whoever runs me for {command}.")
            return
        file = discord.File(io.BytesIO(found.data), filename="encore-mydata.json")
        await interaction.followup.send(f"All that I hold of you: {found.told}.", file=file, ephemeral=True)

    @mydata.command(description="Delete all that I hold of you, from what I learned too")
    async def delete(self, interaction: Interaction) -> None:
        told = (
            "This deletes my replies to you, your ratings and corrections, and what I learned from them. It can't be "
            "undone. /mydata export first, if you want a copy."
        )
        view = Confirm(interaction, self._delete, yes="Delete everything", no="Keep it", moderators=False)
        await interaction.response.send_message(told, view=view, ephemeral=True)

    @mydata.command(description="Have me read, answer and keep nothing of yours from now on")
    async def optout(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        receipt = await self._forget.opt_out(interaction.user.id)
        told = (
            "From now on I read, answer and keep nothing of yours. What I already hold stays until you use /mydata "
            f"delete, but teaches me nothing.\n{receipt_text(receipt)}"
        )
        await tell(interaction, told)

    @mydata.command(description="Let me read and answer you again")
    async def optin(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        if not await self._forget.opt_in(interaction.user.id):
            await tell(interaction, "You hadn't opted out.")
            return
        withdrawn = (await self.bot.store.consent(interaction.user.id)).withdrawn_at is not None
        await tell(interaction, f"I read and answer you again.{UNAGREED * withdrawn}")

    async def _delete(self, interaction: discord.Interaction[Any]) -> str:
        """Delete what is held of who confirmed it, and answer with the receipt."""
        self.bot.gate.forget(interaction.user.id)  # first: an answer under way must not be counted after the deletion
        receipt = await self._forget.delete(interaction.user.id)
        self.bot.dispatch("member_forgotten", interaction.user.id)
        return receipt_text(receipt)


class _ConsentButtons(ui.View):
    """The two buttons below a prompt for consent: for every member, after any number of restarts."""

    def __init__(self, cog: Privacy) -> None:
        super().__init__(timeout=None)
        self._cog = cog

    @ui.button(label="I agree", style=discord.ButtonStyle.success, custom_id="encore:consent:give")
    async def give(self, interaction: discord.Interaction[Any], button: ui.Button[Any]) -> None:
        await self._cog.give_consent(interaction)

    @ui.button(label="No, or no longer", custom_id="encore:consent:withdraw")
    async def withdraw(self, interaction: discord.Interaction[Any], button: ui.Button[Any]) -> None:
        await self._cog.withdraw_consent(interaction)

    async def on_error(self, interaction: discord.Interaction[Any], error: Exception, item: ui.Item[Any], /) -> None:
        await press(interaction, "the consent", error)
