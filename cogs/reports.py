"""What comes before the moderators: `/report`, "Report this reply" in a message's menu, and what AutoMod did.

Every member may report. Direct messages have no moderators: who reports there is told whom to tell. What a case is, is
`bot.cases`'; its card and buttons are `bot.case_ui`'s.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot import case_ui, message_links
from bot.cases import REPORTS_AN_HOUR
from bot.error_handler import press, tell
from bot.errors import StoreError
from bot.records import CaseSource

if TYPE_CHECKING:
    from bot.client import EncoreBot

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

log = logging.getLogger(__name__)

MENU = "Report this reply"  # the message command, and the title of its form
THANKS = "Thank you; the moderators have your report. What you wrote is for them alone."
TOO_MANY = f"You reported {REPORTS_AN_HOUR} replies within the hour; please tell a moderator if there is more."
IN_DIRECT_MESSAGES = (
    "Direct messages have no moderators: tell {}, who can change what I say and to whom. Report Message in its menu "
    "tells Discord."
)
_WHO_KNOWS = "a moderator of a server that we share, who knows whoever runs me"
_NO_REPLY = "This is no reply of mine that I know in this server; to report a member, ask a moderator."
_REASON = 300  # characters
_FORM_SECONDS = 3600.0
_ACTS_KEPT = 100


class Reports(commands.Cog):
    def __init__(self, bot: EncoreBot) -> None:
        self.bot = bot
        self._menu = app_commands.ContextMenu(name=MENU, callback=self.report_message)
        self._acts: deque[tuple[int, int, int | None, str]] = deque(maxlen=_ACTS_KEPT)

    async def cog_load(self) -> None:
        self.bot.add_dynamic_items(case_ui.CaseButton)
        self.bot.tree.add_command(self._menu)

    async def cog_unload(self) -> None:
        self.bot.tree.remove_command(self._menu.name, type=self._menu.type)
        self.bot.remove_dynamic_items(case_ui.CaseButton)

    # ------------------------------------------------------------------ members

    @app_commands.command(description="Tell the moderators that something is wrong with a reply of mine")
    @app_commands.describe(message="the reply: a link to its message, or the message's id", reason="what is wrong")
    async def report(self, interaction: Interaction, message: str, reason: app_commands.Range[str, 1, _REASON]) -> None:
        await interaction.response.defer(ephemeral=True)
        if interaction.guild_id is None:
            await tell(interaction, self._in_direct_messages())
            return
        message_id = message_links.message_id(message, interaction.guild_id)
        if message_id is None:
            await tell(interaction, message_links.NOT_A_MESSAGE)
        else:
            await self.take(interaction, message_id, reason)

    async def report_message(self, interaction: Interaction, message: discord.Message) -> None:
        """Open the form about the reply that a message shows."""
        # A form can only be the first answer, within three seconds and without a defer.
        if interaction.guild_id is None:
            await tell(interaction, self._in_direct_messages())
        elif await self._reply_id(interaction, message.id) is None:
            await tell(interaction, _NO_REPLY)
        else:
            await interaction.response.send_modal(_ReportForm(self, message.id))

    def _in_direct_messages(self) -> str:
        return IN_DIRECT_MESSAGES.format(self.bot.settings.privacy_contact or _WHO_KNOWS)

    async def take(self, interaction: discord.Interaction[Any], message_id: int, reason: str) -> None:
        """Bring the reply that a message shows before the moderators."""
        reply_id = await self._reply_id(interaction, message_id)
        if reply_id is None:
            await tell(interaction, _NO_REPLY)
            return
        case_id = await self.bot.cases.report(reply_id, message_id, interaction.user.id, reason)
        if case_id is None:
            await tell(interaction, TOO_MANY)
            return
        await tell(interaction, THANKS)
        await case_ui.show(self.bot, case_id)

    async def _reply_id(self, interaction: discord.Interaction[Any], message_id: int) -> int | None:
        reply = await self.bot.store.reply_of_message(message_id)
        return reply.id if reply is not None and reply.ask.guild_id == interaction.guild_id else None

    # ------------------------------------------------------------------ AutoMod

    @commands.Cog.listener()
    async def on_automod_action(self, execution: discord.AutoModAction) -> None:
        """Bring a message to the bot that AutoMod acted on before the moderators: once for all that it did, and of one
        member once in a while.
        """
        if execution.channel_id is None:  # it acted on a member's profile
            return
        act = (execution.user_id, execution.channel_id, execution.message_id, execution.content)
        if act in self._acts:
            return
        self._acts.append(act)
        try:
            if not await self._is_to_me(execution, execution.channel_id):
                return
            if not self.bot.gate.is_new_case(execution.guild_id, execution.user_id, [CaseSource.AUTOMOD]):
                return
            case_id = await self.bot.store.open_case(
                execution.guild_id,
                CaseSource.AUTOMOD,
                execution.channel_id,
                execution.message_id,
                execution.user_id,
                execution.content,
            )
            await case_ui.show(self.bot, case_id)
        except StoreError as error:
            log.warning("what AutoMod did in server %s is no case: %s", execution.guild_id, error)

    async def _is_to_me(self, execution: discord.AutoModAction, channel_id: int) -> bool:
        """Return whether a message mentioned the bot or replied to it; a blocked reply can't be told from others."""
        assert self.bot.user is not None
        role = execution.guild.self_role
        mentions = {f"<@{self.bot.user.id}>", f"<@!{self.bot.user.id}>", f"<@&{role.id}>" if role else ""} - {""}
        if any(mention in execution.content for mention in mentions):
            return True
        if execution.message_id is None:
            return False
        channel = self.bot.get_partial_messageable(channel_id, guild_id=execution.guild_id)
        try:
            message = await channel.fetch_message(execution.message_id)
        except discord.HTTPException:  # deleted, or not the bot's to see
            return False
        answered = message.reference.message_id if message.reference is not None else None
        mentioned = self.bot.user in message.mentions
        return mentioned or (answered is not None and await self.bot.store.reply_of_message(answered) is not None)


class _ReportForm(ui.Modal, title=MENU):
    def __init__(self, cog: Reports, message_id: int) -> None:
        super().__init__(timeout=_FORM_SECONDS)
        self._cog = cog
        self._message_id = message_id
        self.reason = ui.TextInput[Any](
            custom_id="reason", style=discord.TextStyle.paragraph, min_length=1, max_length=_REASON
        )
        self.add_item(ui.Label(text="What is wrong with it?", component=self.reason))

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        try:
            await self._cog.take(interaction, self._message_id, self.reason.value)
        except Exception as error:
            await press(interaction, MENU, error)
