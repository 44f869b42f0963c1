"""The cards of cases and their buttons; a button's state is in its custom id and survives restarts.

    encore:case:dismiss|delete|mute|ban|unlearn:CASE:OPENED   decide on a case
    encore:case:lock:CASE:OPENED                              lock the server

OPENED is the second in which the case was opened: after a restored backup its id may be another's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import ui

from bot import checks
from bot.cases import choices, decided
from bot.confirm import Confirm
from bot.error_handler import press, tell
from bot.errors import StoreError
from bot.moderation import patterns
from bot.night_cards import Card
from bot.notices import Notices
from bot.records import Case, CaseSource, Decision

if TYPE_CHECKING:
    from bot.client import EncoreBot
    from bot.moderation.findings import Finding
    from bot.records import Ask

log = logging.getLogger(__name__)

LOCKED = (
    "Locked: I answer and post nothing here but reports to moderators. I learn nothing either, in any server: no night "
    "begins and one under way changes nothing. /unlock ends it."
)
UNKNOWN_CASE = "I no longer know this case: it was too old, or a member had its data deleted."
_LOCK = "lock"
_QUOTED = 1000  # characters
_LABELS = {
    Decision.DISMISS: "Dismiss",
    Decision.DELETE: "Delete it",
    Decision.MUTE: "Mute member for me",
    Decision.BAN: "Ban from voting",
    Decision.UNLEARN: "Never learn from this",
}
_DONE = {
    Decision.DISMISS: "The case is dismissed.",
    Decision.DELETE: "It is deleted, and no night to come learns from it.",
    Decision.MUTE: "I don't answer this member here any more; /mod unmute ends that.",
    Decision.BAN: "This member's votes here count for nothing in the nights to come; /raters unban ends that.",
    Decision.UNLEARN: "No night to come learns from this reply, nor from what carries it on or has read it. What "
    "earlier nights learned from it stays until one of their successors is promoted; /training rollback takes it away "
    "at once.",
}
_OF_MESSAGE = "No night to come learns from any reply that answers this message or reads it."
_MEMBERS_MESSAGE = "This deletes the member's message that the case is about, for everyone. It can't be undone."
_TRY_AGAIN = "Discord didn't let me delete all of it; please try again in a moment."
_MAY_NOT = "I lack Manage Messages in <#{}>, so I can't delete what a member wrote; grant it, or delete it by its link."


async def show(bot: EncoreBot, case_id: int) -> None:
    """Put a case before its server's moderators, or bring its card up to date."""
    async with bot.cases.showing:
        await _show(bot, case_id)


async def review(bot: EncoreBot, ask: Ask, reply_id: int | None, said: str, findings: Sequence[Finding]) -> None:
    """Open the case of what a server's rules on text found in a question, or in a reply to it."""
    assert ask.guild_id is not None
    reply = await bot.store.reply(reply_id) if reply_id is not None else None
    message_id = reply.message_ids[0] if reply is not None and reply.message_ids else ask.asked_message_id
    names = ", ".join(dict.fromkeys(found.category.value for found in findings))
    whose = "my answer to them" if reply_id is not None else "their message"
    quote = "\n".join([f"Found in {whose}: {names}", *patterns.told(findings), said])[:_QUOTED]
    source = CaseSource.FILTER
    try:
        case_id = await bot.store.open_case(
            ask.guild_id, source, ask.channel_id, message_id, ask.member_id, quote, reply_id
        )
        await show(bot, case_id)
    except StoreError as error:
        log.warning("what the filter found in server %s is no case: %s", ask.guild_id, error)


async def _show(bot: EncoreBot, case_id: int) -> None:
    case = await bot.store.case(case_id)
    if case is None:
        return
    card, notices = await bot.cases.card(case), Notices(bot, bot.store)
    if case.card is not None:
        await notices.edit(case.card, card, view=card_view(case))
        return
    chosen = (await bot.store.server_settings(case.guild_id)).moderators_channel_id
    if chosen is not None:
        for place in await notices.post(card, [chosen], view=card_view(case), while_locked=True):
            await bot.store.place_card(case_id, *place)


def card_view(case: Case) -> ui.View | None:
    """Return the buttons below a case's card, None once it leaves nothing to decide."""
    left = choices(case)
    if not left:
        return None
    view = ui.View(timeout=None)
    for decision in left:
        view.add_item(_button(case, decision.value, _LABELS[decision], row=0))
    if case.decision is None:
        view.add_item(_button(case, _LOCK, "Lock everything", row=1))
    view.stop()  # the dynamic item answers; a view that listens would be kept in memory for every case
    return view


def queue_view(cases: Iterable[Case]) -> ui.View:
    """Return a row of buttons a case, at most five."""
    view = ui.View(timeout=None)
    for row, case in enumerate(cases):
        for decision in choices(case):
            view.add_item(_button(case, decision.value, f"{case.id}: {_LABELS[decision]}", row=row))
    view.stop()
    return view


def _button(case: Case, action: str, label: str, *, row: int) -> ui.Button[ui.View]:
    destroys = action in (Decision.DELETE, _LOCK)
    style = discord.ButtonStyle.danger if destroys else discord.ButtonStyle.secondary
    return ui.Button(
        label=label, style=style, custom_id=f"encore:case:{action}:{case.id}:{int(case.opened_at)}", row=row
    )


class CaseButton(
    ui.DynamicItem[ui.Button[Any]],
    template=r"encore:case:(?P<action>dismiss|delete|mute|ban|unlearn|lock):(?P<case_id>\d+):(?P<opened>\d+)",
):
    """Decide on a case, or lock its server."""

    def __init__(self, item: ui.Button[Any], action: str, case_id: int, opened: int) -> None:
        super().__init__(item)
        self._action = action
        self._case_id = case_id
        self._opened = opened

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: ui.Item[Any], match: re.Match[str], /) -> Self:
        assert isinstance(item, ui.Button)
        return cls(item, match["action"], int(match["case_id"]), int(match["opened"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        try:
            if not checks.is_moderator(interaction):
                raise checks.NotModerator
            await self._act(interaction)
        except Exception as error:
            await press(interaction, "a case's button", error)

    async def _act(self, interaction: discord.Interaction[Any]) -> None:
        bot: EncoreBot = interaction.client
        case = await self._case(interaction)
        if case is None:
            await _clear(interaction)
            await tell(interaction, UNKNOWN_CASE)
        elif self._action == _LOCK:
            await bot.cases.lock(case.guild_id, interaction.user.id)
            await tell(interaction, LOCKED)
        elif self._action == Decision.DELETE and Decision.DELETE in choices(case) and case.reply_id is None:
            view = Confirm(
                interaction,
                lambda press: self._decide(interaction),
                yes=_LABELS[Decision.DELETE],
                no="Keep it",
                moderators=True,
            )
            await interaction.followup.send(_MEMBERS_MESSAGE, view=view, ephemeral=True)
        else:
            await tell(interaction, await self._decide(interaction))

    async def _case(self, interaction: discord.Interaction[Any]) -> Case | None:
        """Return the button's case, None where its id is another's by now."""
        case: Case | None = await interaction.client.store.case(self._case_id)
        if case is None or (int(case.opened_at), case.guild_id) != (self._opened, interaction.guild_id):
            return None
        return case

    async def _decide(self, interaction: discord.Interaction[Any]) -> str:
        """Decide as the button that was pressed says, and return what became of it."""
        bot: EncoreBot = interaction.client
        decision = Decision(self._action)
        case = await self._case(interaction)
        if case is None:
            return UNKNOWN_CASE
        if decision not in choices(case):
            return f"This case is closed already. {decided(case)}"
        # Before that is noted: cut short in between, it can be decided again.
        if decision is Decision.DELETE and (failure := await _delete(bot, case)) is not None:
            return failure
        of_message = decision is Decision.UNLEARN and case.reply_id is None
        told = _OF_MESSAGE if of_message else _DONE[decision]
        if not await bot.cases.decide(case, decision, interaction.user.id):
            now = await bot.store.case(case.id)
            told = f"This case is closed already. {decided(now)}" if now is not None else UNKNOWN_CASE
        card = _card_pressed(interaction)
        if card is not None and case.card is None:  # pressed before it was noted where the card stands
            await bot.store.place_card(case.id, *card)
        await show(bot, case.id)
        return told


def _card_pressed(interaction: discord.Interaction[Any]) -> tuple[int, int] | None:
    """Return where the pressed card stands, None for a moderator's own queue."""
    message = interaction.message
    return None if message is None or message.flags.ephemeral else (message.channel.id, message.id)


async def _clear(interaction: discord.Interaction[Any]) -> None:
    """Take what a card said away: its case's text was deleted."""
    card = _card_pressed(interaction)
    if card is not None:
        notices = Notices(interaction.client, interaction.client.store)
        await notices.edit(card, Card("This case is gone", UNKNOWN_CASE))


async def _delete(bot: EncoreBot, case: Case) -> str | None:
    """Delete a case's reply, or the message that it is of; return why not all is gone."""
    reply = await bot.store.reply(case.reply_id) if case.reply_id is not None else None
    if reply is not None:
        bot.responder.stop(reply.id)
    message_ids = reply.message_ids if reply is not None else tuple(filter(None, [case.message_id]))
    channel = bot.get_partial_messageable(case.channel_id, guild_id=case.guild_id)
    failure = None
    for message_id in message_ids:
        try:
            await channel.get_partial_message(message_id).delete()
        except discord.NotFound:
            continue
        except discord.HTTPException as error:
            log.warning("case %s: message %s is not deleted: %s", case.id, message_id, error)
            may_not = isinstance(error, discord.Forbidden) and reply is None
            failure = _MAY_NOT.format(case.channel_id) if may_not else _TRY_AGAIN
    return failure
