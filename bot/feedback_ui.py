"""The buttons and the forms by which members rate a reply; a button's state is in its custom id and survives restarts.

    encore:up:REPLY, encore:down:REPLY           thumbs below a reply
    encore:better:A:B:a|b|both|neither           which of two versions is better
    encore:words:up|down|no:REPLY:MEMBER         "count your words as a vote?", for that member alone

Says which button means what and answers the member; what a vote is and how long it stands is the store's. A button
counts below the reply that it names only: after a restored backup the id may be another reply's.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

import discord
from discord import ui

from bot import text
from bot.error_handler import press, tell
from bot.records import Correction, Preference, Vote
from bot.ui import BETTER_TEMPLATE, DOWN_TEMPLATE, UP_TEMPLATE, stands_below

if TYPE_CHECKING:
    from bot.store import Store

BUTTON, WORDS = "button", "words"  # Vote.source
UNKNOWN_REPLY = "I no longer know this reply, so it can't be rated; rate a newer one."
NO_REPLY = "This is no reply of mine that I know, so it can't be rated; choose one of my replies."
OPTED_OUT = "You opted out, so I keep no rating of yours; /mydata optin ends that."
RATE = "Rate or correct this reply"  # the message command, and the title of its form

_FORM_SECONDS = 3600.0  # a form left open longer can't be sent any more
_REASONS = {
    "wrong": "Wrong or made up",
    "off-character": "Out of character",
    "boring": "Boring or repetitive",
    "rude-or-unsafe": "Rude or unsafe",
    "too-long": "Too long",
    "other": "Something else",
}
_CHOSEN = {
    Preference.A: "A, the one before, is better",
    Preference.B: "B, this one, is better",
    Preference.BOTH: "both versions are good",
    Preference.NEITHER: "neither version is good",
}

Interaction = discord.Interaction[Any]
_Button = ui.Button[Any]
_Item = TypeVar("_Item")
_Callback = Callable[[_Item, Interaction], Coroutine[Any, Any, None]]


def thumb(value: float) -> str:
    """Return the thumb that stands for a vote."""
    return "👍" if value > 0 else "👎"


def _told(what: str) -> Callable[[_Callback[_Item]], _Callback[_Item]]:
    """Tell the member when a callback fails; discord.py would only log it, and Discord show "interaction failed".

    Once it is done, `rated` is dispatched: a vote never waits for what is noted of its rater.
    """

    def decorate(callback: _Callback[_Item]) -> _Callback[_Item]:
        @functools.wraps(callback)
        async def wrapped(item: _Item, interaction: Interaction) -> None:
            try:
                await callback(item, interaction)
            except Exception as error:
                await press(interaction, what, error)
            else:
                interaction.client.dispatch("rated", interaction)

        return wrapped

    return decorate


class UpButton(ui.DynamicItem[_Button], template=UP_TEMPLATE):
    """Vote for a reply, or take that back."""

    def __init__(self, item: _Button, reply_id: int) -> None:
        super().__init__(item)
        self.reply_id = reply_id

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: ui.Item[Any], match: re.Match[str], /) -> Self:
        assert isinstance(item, ui.Button)
        return cls(item, int(match["reply_id"]))

    @_told("👍")
    async def callback(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        if not await _may_vote(interaction, self.reply_id, 1.0):
            return
        await interaction.client.store.cast_vote(self.reply_id, interaction.user.id, BUTTON, 1.0)
        await tell(interaction, "Counted as 👍; press it again to take it back.")


class DownButton(ui.DynamicItem[_Button], template=DOWN_TEMPLATE):
    """Vote against a reply and ask why, or take that back."""

    def __init__(self, item: _Button, reply_id: int) -> None:
        super().__init__(item)
        self.reply_id = reply_id

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: ui.Item[Any], match: re.Match[str], /) -> Self:
        assert isinstance(item, ui.Button)
        return cls(item, int(match["reply_id"]))

    @_told("👎")
    async def callback(self, interaction: Interaction) -> None:
        if not await _may_vote(interaction, self.reply_id, -1.0):
            return
        # A form can only be the first answer, within three seconds and without a defer: it goes before the write.
        await interaction.response.send_modal(WhyForm(self.reply_id))
        await interaction.client.store.cast_vote(self.reply_id, interaction.user.id, BUTTON, -1.0)


async def _is_heard(interaction: Interaction) -> bool:
    """Return whether anything may be kept of a member; who opted out is told that nothing is."""
    if interaction.user.id not in await interaction.client.store.opted_out():
        return True
    await tell(interaction, OPTED_OUT)
    return False


async def _may_vote(interaction: Interaction, reply_id: int, value: float) -> bool:
    """Return whether a press is a new vote; otherwise take the old one back, or say why none can be given."""
    store: Store = interaction.client.store
    member_id = interaction.user.id
    reply = await store.reply(reply_id)
    if reply is None or not stands_below(interaction.message, reply):
        await tell(interaction, UNKNOWN_REPLY)
        return False
    vote = _of_member(await store.votes(reply_id), member_id)
    if vote is None or vote.source != BUTTON or vote.value * value < 0:
        return await _is_heard(interaction)
    await store.retract_vote(reply_id, member_id, BUTTON)
    earlier = _of_member(await store.votes(reply_id), member_id)
    still = f"; your earlier {thumb(earlier.value)} counts again" if earlier else ""
    await tell(interaction, f"Your {thumb(value)} is taken back{still}.")
    return False


class WhyForm(ui.Modal, title="What was wrong?"):
    """Ask why a reply was bad and what it should have said; every answer is optional and the vote counts anyway.

    It opens before the vote is written, so sending it writes the vote again: that may have failed.
    """

    def __init__(self, reply_id: int) -> None:
        super().__init__(timeout=_FORM_SECONDS)
        self.reply_id = reply_id
        self.reasons = ui.Select[Self](
            custom_id="reasons",
            placeholder="Choose what fits",
            min_values=0,
            max_values=len(_REASONS),
            required=False,
            options=[discord.SelectOption(label=label, value=value) for value, label in _REASONS.items()],
        )
        self.better = ui.TextInput[Self](
            custom_id="should_have_said", style=discord.TextStyle.paragraph, required=False, max_length=2000
        )
        self.comment = ui.TextInput[Self](
            custom_id="comment", style=discord.TextStyle.paragraph, required=False, max_length=1000
        )
        self.add_first()
        self.add_item(ui.Label(text="Why?", component=self.reasons))
        self.add_item(
            ui.Label(
                text="What should I have said?",
                description="Kept as a correction of this reply.",
                component=self.better,
            )
        )
        self.add_item(ui.Label(text="Anything else?", component=self.comment))

    def add_first(self) -> None:
        """Put above the questions what a member reads or chooses first."""
        self.add_item(ui.TextDisplay("I am noting your 👎. What follows is up to you; it helps me to do better."))

    @_told("the form")
    async def on_submit(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        if await self.vote(interaction, -1.0):
            await self.keep(interaction)

    async def vote(self, interaction: Interaction, value: float) -> bool:
        """Count the vote and return whether it stands; otherwise say why not: the reply was deleted meanwhile, say."""
        if not await _is_heard(interaction):
            return False
        stands: bool = await interaction.client.store.cast_vote(self.reply_id, interaction.user.id, BUTTON, value)
        if not stands:
            await tell(interaction, UNKNOWN_REPLY)
        return stands

    async def keep(self, interaction: Interaction) -> None:
        """Keep what was written as a correction, and say so."""
        correction = Correction(
            reply_id=self.reply_id,
            member_id=interaction.user.id,
            reasons=tuple(reason for reason in self.reasons.values if reason in _REASONS),
            comment=text.normalise(self.comment.value),
            should_have_said=text.normalise(self.better.value),
        )
        if correction.reasons or correction.comment or correction.should_have_said:
            await interaction.client.store.add_correction(correction)
            await tell(interaction, "Thank you; your 👎 is counted and what you wrote is kept with it.")
        else:
            await tell(interaction, "Your 👎 is counted.")


class RateForm(WhyForm, title=RATE):
    """The form with the choice between good and bad; the vote counts once it is sent."""

    def add_first(self) -> None:
        self.verdict = ui.Select[Self](
            custom_id="verdict",
            options=[
                discord.SelectOption(label="Good", value="good", emoji="👍"),
                discord.SelectOption(label="Bad", value="bad", emoji="👎"),
            ],
        )
        self.add_item(
            ui.Label(text="How is this reply?", description="The rest is for a bad one.", component=self.verdict)
        )

    @_told("the form")
    async def on_submit(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        good = self.verdict.values == ["good"]
        if not await self.vote(interaction, 1.0 if good else -1.0):
            return
        if good:
            await tell(interaction, "Counted as 👍; a correction is kept with a 👎 only.")
        else:
            await self.keep(interaction)


async def rate(interaction: Interaction, message: discord.Message) -> None:
    """Open the form about the reply that a message shows."""
    # A form can only be the first answer, within three seconds and without a defer.
    reply = await interaction.client.store.reply_of_message(message.id)
    if reply is None:
        await tell(interaction, NO_REPLY)
    elif await _is_heard(interaction):
        await interaction.response.send_modal(RateForm(reply.id))


class BetterButton(
    ui.DynamicItem[_Button],
    template=BETTER_TEMPLATE,
):
    """Say which of two versions is better; the newest press of a member counts."""

    def __init__(self, item: _Button, *, reply_a: int, reply_b: int, preference: Preference) -> None:
        super().__init__(item)
        self.reply_a = reply_a
        self.reply_b = reply_b
        self.preference = preference

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: ui.Item[Any], match: re.Match[str], /) -> Self:
        assert isinstance(item, ui.Button)
        return cls(
            item, reply_a=int(match["reply_a"]), reply_b=int(match["reply_b"]), preference=Preference(match["choice"])
        )

    @_told("the button")
    async def callback(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        store: Store = interaction.client.store
        a, b = await store.reply(self.reply_a), await store.reply(self.reply_b)
        if a is None or b is None or not stands_below(interaction.message, b):
            await tell(interaction, UNKNOWN_REPLY)
            return
        if not await _is_heard(interaction):
            return
        await store.record_preference(self.reply_a, self.reply_b, interaction.user.id, self.preference)
        await tell(interaction, f"Noted: {_CHOSEN[self.preference]}. Press another button to change your mind.")


class WordsButton(
    ui.DynamicItem[_Button],
    template=r"encore:words:(?P<answer>up|down|no):(?P<reply_id>\d+):(?P<member_id>\d+)",
):
    """Count a member's thanks or correction as a vote, or don't; either way the question goes."""

    def __init__(self, item: _Button, *, answer: str, reply_id: int, member_id: int) -> None:
        super().__init__(item)
        self.answer = answer
        self.reply_id = reply_id
        self.member_id = member_id

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: ui.Item[Any], match: re.Match[str], /) -> Self:
        assert isinstance(item, ui.Button)
        return cls(item, answer=match["answer"], reply_id=int(match["reply_id"]), member_id=int(match["member_id"]))

    @_told("the button")
    async def callback(self, interaction: Interaction) -> None:
        if interaction.user.id != self.member_id:
            await tell(interaction, "This question is for someone else; rate the reply with its own 👍 and 👎.")
            return
        await interaction.response.defer(ephemeral=True, thinking=self.answer != "no")
        if self.answer != "no":
            value = 1.0 if self.answer == "up" else -1.0
            reply = await interaction.client.store.reply(self.reply_id)
            # A question older than what the reply answers was asked about another reply, which had this id before.
            if reply is None or (interaction.message and interaction.message.id < reply.ask.asked_message_id):
                await tell(interaction, UNKNOWN_REPLY)
            elif await _is_heard(interaction):
                await interaction.client.store.cast_vote(self.reply_id, self.member_id, WORDS, value)
                await tell(interaction, f"Counted as {thumb(value)}; thank you.")
        if interaction.message is not None:
            with contextlib.suppress(discord.NotFound):  # its time ran out at the same moment
                await interaction.message.delete()


def words_view(reply_id: int, member_id: int, value: float) -> ui.View:
    """Return the two buttons of the question whether words count as a vote."""
    view = ui.View(timeout=None)
    side = "up" if value > 0 else "down"
    label = f"Count this as {thumb(value)}"
    view.add_item(_Button(label=label, custom_id=f"encore:words:{side}:{reply_id}:{member_id}"))
    view.add_item(_Button(label="No", custom_id=f"encore:words:no:{reply_id}:{member_id}"))
    view.stop()  # the dynamic items answer; a view that listens would be kept in memory for every question
    return view


def _of_member(votes: list[Vote], member_id: int) -> Vote | None:
    return next((vote for vote in votes if vote.member_id == member_id), None)


DYNAMIC_ITEMS: tuple[type[ui.DynamicItem[Any]], ...] = (UpButton, DownButton, BetterButton, WordsButton)
