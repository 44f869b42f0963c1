"""The buttons below a reply: what they look like, their custom ids, and whether one stands below the reply it names.

What they do is in the cogs.

Views made here are stopped before they are sent, so that discord.py keeps none of them: the cogs' DynamicItems read
everything from the custom id, and a button works after any number of restarts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import discord

from bot.records import Preference, ReplyState
from bot.streaming import Controls

if TYPE_CHECKING:
    from bot.records import Reply

STEER_TEMPLATE = r"encore:(?P<action>stop|regenerate|continue):(?P<reply_id>\d+)"
UP_TEMPLATE = r"encore:up:(?P<reply_id>\d+)"
DOWN_TEMPLATE = r"encore:down:(?P<reply_id>\d+)"
BETTER_TEMPLATE = r"encore:better:(?P<reply_a>\d+):(?P<reply_b>\d+):(?P<choice>a|b|both|neither)"
_OF_REPLY = re.compile(r"encore:(?:stop|regenerate|continue|up|down):(\d+)")

_BETTER_LABELS = {
    Preference.A: "Better: A (the one before)",
    Preference.B: "B (this one)",
    Preference.BOTH: "both",
    Preference.NEITHER: "neither",
}


def stop_button(reply_id: int) -> discord.ui.Button[discord.ui.View]:
    return _button("stop", reply_id, emoji="⏹️", label="Stop")


def regenerate_button(reply_id: int) -> discord.ui.Button[discord.ui.View]:
    return _button("regenerate", reply_id, emoji="🔄", label="Regenerate")


def continue_button(reply_id: int) -> discord.ui.Button[discord.ui.View]:
    return _button("continue", reply_id, emoji="⏩", label="Continue")


def up_button(reply_id: int) -> discord.ui.Button[discord.ui.View]:
    return _button("up", reply_id, emoji="👍")


def down_button(reply_id: int) -> discord.ui.Button[discord.ui.View]:
    return _button("down", reply_id, emoji="👎")


def better_button(reply_a: int, reply_b: int, choice: Preference) -> discord.ui.Button[discord.ui.View]:
    """Return one answer to "which is better": A is the earlier version, B the one below which the button stands."""
    return discord.ui.Button(
        label=_BETTER_LABELS[choice],
        style=discord.ButtonStyle.secondary,
        custom_id=f"encore:better:{reply_a}:{reply_b}:{choice.value}",
        row=1,
    )


def reply_view(reply_id: int, controls: Controls, *, compare_with: int | None = None) -> discord.ui.View | None:
    """Return the buttons of a reply, None for none; `compare_with` names the version that this one stands against."""
    match controls:
        case Controls.NONE:
            return None
        case Controls.WAITING | Controls.STREAMING:
            buttons = [stop_button(reply_id)]
        case Controls.FINISHED:
            buttons = [
                up_button(reply_id), down_button(reply_id), regenerate_button(reply_id), continue_button(reply_id)
            ]  # fmt: skip
            if compare_with is not None:
                buttons += [better_button(compare_with, reply_id, choice) for choice in Preference]
    view = discord.ui.View(timeout=None)
    for button in buttons:
        view.add_item(button)
    view.stop()
    return view


def _button(action: str, reply_id: int, *, emoji: str, label: str | None = None) -> discord.ui.Button[discord.ui.View]:
    return discord.ui.Button(
        label=label,
        emoji=emoji,
        style=discord.ButtonStyle.secondary,
        custom_id=f"encore:{action}:{reply_id}",
        row=0,
    )


def reply_id_shown(message: discord.Message) -> int | None:
    """Return the id of the reply whose buttons stand below a message; None when it has none of ours."""
    for row in message.components:
        for item in getattr(row, "children", ()):
            if match := _OF_REPLY.fullmatch(getattr(item, "custom_id", None) or ""):
                return int(match[1])
    return None


def stands_below(message: discord.Message | None, reply: Reply) -> bool:
    """Return whether a message with buttons shows `reply`: after a restored backup its id may be another reply's.

    A message that was sent a moment ago may not be noted yet; it is younger than what a growing reply answers.
    """
    if message is None:
        return False
    growing = reply.state in (ReplyState.WAITING, ReplyState.STREAMING)
    just_sent = growing and message.channel.id == reply.ask.channel_id and message.id > reply.ask.asked_message_id
    return message.id in reply.message_ids or just_sent
