"""The question before something that destroys: two buttons for whoever asked, gone with the answer or with the time.

Asks and waits; what is done is the cog's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import discord
from discord import ui

from bot import checks
from bot.error_handler import press

CONFIRM_SECONDS = 120.0
UNCHANGED = "Nothing was changed."


class Confirm(ui.View):
    """`do` is given the press and returns what stands in the question's place, or None when it has seen to that.

    `asked` is the interaction whose answer the question is. With `moderators`, who moderates no more can't confirm what
    they asked for.
    """

    def __init__(
        self,
        asked: discord.Interaction[Any],
        do: Callable[[discord.Interaction[Any]], Awaitable[str | None]],
        *,
        yes: str,
        no: str,
        moderators: bool,
        seconds: float = CONFIRM_SECONDS,
    ) -> None:
        super().__init__(timeout=seconds)
        self._asked = asked
        self._do = do
        self._moderators = moderators
        self.confirm.label, self.leave.label = yes, no

    @ui.button(style=discord.ButtonStyle.danger)
    async def confirm(self, interaction: discord.Interaction[Any], button: ui.Button[Any]) -> None:
        self.stop()
        if self._moderators and not checks.is_moderator(interaction):
            raise checks.NotModerator
        await interaction.response.edit_message(content="One moment ...", view=None)
        told = await self._do(interaction)
        if told is not None:
            await interaction.edit_original_response(content=told)

    @ui.button(style=discord.ButtonStyle.secondary)
    async def leave(self, interaction: discord.Interaction[Any], button: ui.Button[Any]) -> None:
        self.stop()
        await interaction.response.edit_message(content=UNCHANGED, view=None)

    async def on_timeout(self) -> None:
        await self._unchanged("Nothing was changed: nobody confirmed it.")

    async def on_error(self, interaction: discord.Interaction[Any], error: Exception, item: ui.Item[Any], /) -> None:
        await press(interaction, "the confirmation", error)
        await self._unchanged(UNCHANGED)

    async def _unchanged(self, sentence: str) -> None:
        with contextlib.suppress(discord.HTTPException):  # nobody sees the question any more
            await self._asked.edit_original_response(content=sentence, view=None)
