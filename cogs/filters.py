"""What moderators set about texts and limits: `/mod filter` and `/mod quota`, groups that the moderation cog takes in.

Discord hides these from members with `/mod`, and the groups check again. What an entry may be is
`bot.filter_options`', what it does `bot.screening`'s and `bot.gate`'s. Every answer is for the asker's eyes only; the
store audits each change.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from bot import checks, filter_options
from bot.error_handler import tell
from bot.filter_options import DEFAULT, HELP, Kind, Side
from bot.gate import LIMITS
from bot.moderation import patterns
from bot.moderation.findings import Action, Audience, Category, Finding, Policy
from bot.screening import THRESHOLDS
from bot.server_options import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.client import EncoreBot
    from bot.records import ServerSettings

    Interaction = discord.Interaction[EncoreBot]
else:
    Interaction = discord.Interaction

_COLOUR = discord.Colour.from_rgb(122, 92, 214)
_FIELD = 1000  # characters; a field holds 1024
_CHOICES = 25  # Discord's limit
_LONGEST = 300  # characters of an entry
_TESTED = 2000
_EVERYBODY, _AS_DISCORD = "everybody", "discord"
_AGE_RULES = {
    _EVERYBODY: "everybody: sexual content is hidden here",
    _AS_DISCORD: "discord: for adults where Discord marks it as age-restricted (the default)",
}
_Aged = discord.TextChannel | discord.VoiceChannel | discord.StageChannel | discord.ForumChannel
_SEXUAL_RULE = "Where not adults alone read it is always hidden; Discord's age restriction decides that."
_SEXUAL_THRESHOLD = "Where not adults alone read it stays {:g}: there sexual content is always hidden."
_SEXUAL_TOLD = (
    "Sexual content in questions and in my answers is hidden as far as I can tell it: by a list of English and Chinese "
    "words, and by the classifier if SAFETY_MODEL names one that knows it. Hints, other languages and pictures pass."
)
_SUBJECTS = {"member": "Each member", "channel": "Each channel"}
_ACTIONS = {
    Action.IGNORE: "ignore: it passes",
    Action.QUEUE: "queue: it passes, and moderators get a case",
    Action.WARN: "warn: it passes, with a sentence below",
    Action.HIDE: "hide: not answered, or not shown; moderators get a case",
}
_CATEGORIES = [app_commands.Choice(name=f"{kind.value}: {HELP[kind]}"[:100], value=kind.value) for kind in Category]
_BY_CLASSIFIER = [choice for choice in _CATEGORIES if choice.value in THRESHOLDS]
_CHOSEN_ACTIONS = [
    *(app_commands.Choice(name=told, value=action.name.lower()) for action, told in _ACTIONS.items()),
    app_commands.Choice(name="default", value=DEFAULT),
]


class _Changing(app_commands.Group):
    """A group whose commands read settings and change them by what they read, one at a time."""

    def __init__(self, bot: EncoreBot) -> None:
        super().__init__()
        self.bot = bot
        self._alone = asyncio.Lock()

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if not checks.is_moderator(interaction):
            raise checks.NotModerator
        return True

    async def _settings(self, interaction: discord.Interaction[Any]) -> ServerSettings:
        return await self.bot.store.server_settings(interaction.guild_id)

    async def _change(self, interaction: Interaction, **changes: Any) -> ServerSettings:
        return await self.bot.store.change_server_settings(interaction.guild_id, interaction.user.id, **changes)


class Filters(_Changing, name="filter", description="What may be asked and said in this server"):
    @app_commands.command(description="Add a word, a pattern, one of my lists, or a site whose links are allowed")
    @app_commands.describe(
        kind="what it is",
        entry="a word or phrase (* at its ends is any letters), a regular expression, en or zh, a site",
    )
    async def add(self, interaction: Interaction, kind: Kind, entry: app_commands.Range[str, 1, _LONGEST]) -> None:
        await interaction.response.defer(ephemeral=True)
        async with self._alone:
            settings = await self._settings(interaction)
            try:
                entries = await asyncio.to_thread(filter_options.added, settings, kind, entry)
            except OptionError as error:
                await tell(interaction, f"{_code(entry)} can't be added; {error}.")
                return
            await self._change(interaction, **{kind.field: entries})
        done = "Links to it are allowed" if kind is Kind.SITE else "What it finds is treated as /mod filter action says"
        await tell(interaction, f"The {kind.value} {_code(entries[-1])} is in the filter. {done}.")

    @app_commands.command(description="Take an entry out of the filter")
    @app_commands.describe(entry="the word, pattern, list or site")
    async def remove(self, interaction: Interaction, entry: app_commands.Range[str, 1, _LONGEST]) -> None:
        await interaction.response.defer(ephemeral=True)
        async with self._alone:
            try:
                kind, entries = filter_options.removed(await self._settings(interaction), entry)
            except OptionError as error:
                await tell(interaction, f"{_code(entry)} can't be removed; {error}.")
                return
            await self._change(interaction, **{kind.field: entries})
        await tell(interaction, f"The {kind.value} {_code(entry)} is out of the filter.")

    @remove.autocomplete("entry")
    async def complete_entry(self, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        if not checks.is_moderator(interaction):  # Discord runs no check before this
            return []
        settings = await self._settings(interaction)
        known = [(kind, entry) for kind in Kind for entry in kind.entries(settings)]
        wanted = current.strip().lower()
        return [
            app_commands.Choice(name=f"{kind.value}: {entry}"[:100], value=entry)
            for kind, entry in known
            if wanted in entry.lower() and len(entry) <= 100
        ][:_CHOICES]

    @app_commands.command(name="list", description="Show the filter of this channel: entries, actions, thresholds")
    async def list_all(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        settings = await self._settings(interaction)
        policy = await self._policy(interaction, settings)
        embed = discord.Embed(title="Filter", colour=_COLOUR)
        embed.description = f"This channel is for {'adults' if policy.audience is Audience.ADULT else 'everybody'}."
        for kind in Kind:
            entries = kind.entries(settings)
            name = f"{kind.value.capitalize()}s: {len(entries)}"
            embed.add_field(name=name, value=_cut(", ".join(map(_code, entries)) or "none"), inline=False)
        if policy.patterns is not None and policy.patterns.resting:
            resting = ", ".join(map(_code, policy.patterns.resting))
            told = f"{resting}\nToo slow, so nothing is looked for by it during ten minutes; write it simpler."
            embed.add_field(name="Patterns that rest", value=_cut(told), inline=False)
        rows = (
            f"{kind.value}: {_action(policy.messages, kind)} / {_action(policy.answers, kind)}" for kind in Category
        )
        embed.add_field(name="Actions on messages / on my answers", value=_cut("\n".join(rows)), inline=False)
        scores = ", ".join(f"{kind} {policy.thresholds[kind]:g}" for kind in policy.thresholds)
        embed.add_field(name="The classifier's thresholds", value=_cut(scores), inline=False)
        await interaction.followup.send(embed=embed, ephemeral=True)

    @app_commands.command(description="Show what the filter of this channel finds in a text")
    @app_commands.describe(text="what a member might write, or I might answer")
    async def test(self, interaction: Interaction, text: app_commands.Range[str, 1, _TESTED]) -> None:
        await interaction.response.defer(ephemeral=True)
        policy = await self._policy(interaction, await self._settings(interaction))
        screening = self.bot.gate.screening
        found = await screening.question(text, policy)
        found += [each for each in await screening.classified(text, policy, policy.answers) if each not in found]
        await tell(interaction, _cut("\n".join(_found(found, policy)) or "The filter finds nothing in it."))

    @app_commands.command(description="Say what follows where the filter finds something")
    @app_commands.describe(category="what is found", action="what follows", side="in what (default: both)")
    @app_commands.choices(category=_CATEGORIES, action=_CHOSEN_ACTIONS)
    async def action(self, interaction: Interaction, category: str, action: str, side: Side | None = None) -> None:
        await interaction.response.defer(ephemeral=True)
        chosen = None if action == DEFAULT else action
        async with self._alone:
            sides = [side] if side else list(Side)
            actions = filter_options.with_action(await self._settings(interaction), category, chosen, sides)
            settings = await self._change(interaction, filter_actions=actions)
        policy, kind = await self._policy(interaction, settings), Category(category)
        told = f"messages {_action(policy.messages, kind)}, my answers {_action(policy.answers, kind)}"
        rule = f" {_SEXUAL_RULE}" if kind is Category.SEXUAL else ""
        await tell(interaction, f"Where I find {HELP[kind]} in this channel: {told}.{rule}")

    @app_commands.command(description="Say whom a channel is for: sexual content is hidden where not adults alone read")
    @app_commands.describe(channel="the channel, with its threads", rule="whom it is for")
    @app_commands.choices(rule=[app_commands.Choice(name=told, value=rule) for rule, told in _AGE_RULES.items()])
    async def age(self, interaction: Interaction, channel: _Aged, rule: str) -> None:
        await interaction.response.defer(ephemeral=True)
        async with self._alone:
            others = [
                known for known in (await self._settings(interaction)).filter_general_channels if known != channel.id
            ]
            chosen = [*others, channel.id] if rule == _EVERYBODY else others
            settings = await self._change(interaction, filter_general_channels=chosen)
        adults = self.bot.audience(channel.id, settings) is Audience.ADULT
        told = "adults, and sexual content passes unless /mod filter action says otherwise" if adults else "everybody"
        await tell(interaction, f"{channel.mention} is for {told}. {'' if adults else _SEXUAL_TOLD}".strip())

    @app_commands.command(description="Say from which of the classifier's scores on a category is found")
    @app_commands.describe(category="what the classifier looks for", value="0.05 (finds most) to 1; empty: the default")
    @app_commands.choices(category=_BY_CLASSIFIER)
    async def threshold(
        self, interaction: Interaction, category: str, value: app_commands.Range[float, 0.05, 1.0] | None = None
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        async with self._alone:
            thresholds = filter_options.with_threshold(await self._settings(interaction), category, value)
            await self._change(interaction, filter_thresholds=thresholds)
        usual = THRESHOLDS[category]
        set_to = thresholds.get(category, usual)
        told = f"{category} is found from a score of {set_to:g} on (default: {usual:g})."
        capped = category == Category.SEXUAL and set_to > usual
        await tell(interaction, f"{told} {_SEXUAL_THRESHOLD.format(usual)}" if capped else told)

    async def _policy(self, interaction: discord.Interaction[Any], settings: ServerSettings) -> Policy:
        assert interaction.channel_id is not None
        return await self.bot.gate.screening.policy(settings, self.bot.audience(interaction.channel_id, settings))


class Quota(_Changing, name="quota", description="How much I may be asked here"):
    @app_commands.command(description="Show how much members, roles and channels may ask")
    async def show(self, interaction: Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        quotas = (await self._settings(interaction)).quotas
        lines = [f"{_subject(name)}: {filter_options.shown_limits(limits)}" for name, limits in sorted(quotas.items())]
        told = "\n".join(lines) or "There is no limit."
        await tell(
            interaction, f"{_cut(told)}\nA role's limits hold for each of its members, instead of the usual ones."
        )

    @app_commands.command(name="set", description="Limit what each member, a role's members or a channel may ask")
    @app_commands.describe(
        limit="what is limited",
        value="a whole number, none or default",
        role="for each member of this role, instead of the usual limit",
        channel="for this channel as a whole",
        every_channel="for each channel as a whole",
    )
    @app_commands.choices(
        limit=[app_commands.Choice(name=name.replace("_", " "), value=name) for name in LIMITS],
    )
    async def set_limit(
        self,
        interaction: Interaction,
        limit: str,
        value: app_commands.Range[str, 1, 12],
        role: discord.Role | None = None,
        channel: discord.TextChannel | discord.VoiceChannel | None = None,
        every_channel: bool = False,
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        if sum((role is not None, channel is not None, every_channel)) > 1:
            await tell(interaction, "Choose one of role, channel and every_channel.")
            return
        subject = "channel" if every_channel else "member"
        subject = f"role:{role.id}" if role else f"channel:{channel.id}" if channel else subject
        async with self._alone:
            try:
                quotas = filter_options.with_limit(await self._settings(interaction), subject, limit, value)
            except OptionError as error:
                await tell(interaction, f"{limit} can't be {_code(value)}; {error}.")
                return
            await self._change(interaction, quotas=quotas)
        await tell(interaction, f"{_subject(subject)}: {filter_options.shown_limits(quotas.get(subject, {}))}.")


def _found(findings: Iterable[Finding], policy: Policy) -> Iterable[str]:
    for found in findings:
        if sentences := patterns.told([found]):
            yield from sentences
            continue
        detail = f", read as {_code(found.detail)}" if found.detail else ""
        actions = f"messages {_action(policy.messages, found.category)}, my answers"
        yield f"**{found.category}** {_code(found.text)}{detail}: {actions} {_action(policy.answers, found.category)}"


def _action(actions: Any, category: Category) -> str:
    return str(actions.get(category, Action.IGNORE).name.lower())


def _subject(name: str) -> str:
    kind, _, subject_id = name.partition(":")
    if not subject_id:
        return _SUBJECTS[kind]
    return f"Each member of <@&{subject_id}>" if kind == "role" else f"<#{subject_id}>"


def _code(entry: str) -> str:
    return f"`{entry[:200].replace('`', 'ˋ')}`"


def _cut(told: str) -> str:
    return told if len(told) <= _FIELD else f"{told[: _FIELD - 1]}…"
