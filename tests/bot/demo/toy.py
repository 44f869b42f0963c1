"""A small discord.py bot that does a bit of everything: streams edits, buttons, a select, a modal, commands."""

from __future__ import annotations

import asyncio
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

COLOURS = ["red", "green", "blue", "青色"]


class Why(discord.ui.Modal, title="What was wrong?"):
    reason: discord.ui.TextInput[Why] = discord.ui.TextInput(label="Why", placeholder="In a few words", max_length=200)
    better: discord.ui.TextInput[Why] = discord.ui.TextInput(
        label="What should it have said", style=discord.TextStyle.paragraph, required=False
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"Thanks: {self.reason.value}", ephemeral=True)


class Controls(discord.ui.View):
    def __init__(self, bot: ToyBot) -> None:
        super().__init__(timeout=None)
        self.bot = bot

    @discord.ui.button(label="Stop", custom_id="toy:stop")
    async def stop_reply(self, interaction: discord.Interaction, _: Any) -> None:
        self.bot.stopped.set()
        await interaction.response.send_message("Stopped.", ephemeral=True)

    @discord.ui.button(label="Regenerate", emoji="🔄", custom_id="toy:again")
    async def again(self, interaction: discord.Interaction, _: Any) -> None:
        await interaction.response.edit_message(content="Another version.")

    @discord.ui.button(label="Why", emoji="👎", custom_id="toy:why")
    async def why(self, interaction: discord.Interaction, _: Any) -> None:
        await interaction.response.send_modal(Why())

    @discord.ui.button(label="Break", custom_id="toy:break", style=discord.ButtonStyle.danger)
    async def break_it(self, interaction: discord.Interaction, _: Any) -> None:
        raise RuntimeError("broken on purpose")

    @discord.ui.select(
        placeholder="Mood", custom_id="toy:mood", options=[discord.SelectOption(label=c, value=c) for c in COLOURS]
    )
    async def mood(self, interaction: discord.Interaction, menu: Any) -> None:
        await interaction.response.send_message(f"Mood: {menu.values[0]}", ephemeral=True)


class ToyBot(commands.Bot):
    """Answers mentions and direct messages with `words` words, one edit each `pace_seconds`."""

    def __init__(self, *, words: int = 5, pace_seconds: float = 0.0) -> None:
        super().__init__(command_prefix=[], intents=discord.Intents.default(), help_command=None)
        self.words, self.pace_seconds = words, pace_seconds
        self.stopped = asyncio.Event()
        self.reactions: list[tuple[str, int, str]] = []

    async def setup_hook(self) -> None:
        self.add_view(Controls(self))
        for command in (paint, secret, quote):
            self.tree.add_command(command)
        self.tree.add_command(Settings())
        await self.tree.sync()

    async def on_message(self, message: discord.Message) -> None:
        if message.author.bot or not (message.guild is None or self.user in message.mentions):
            return
        async with message.channel.typing():
            reply = await message.reply("…", view=Controls(self), mention_author=False)
        self.stopped.clear()
        text = "**You said** " + message.content.replace(self.user.mention, "").strip() + ":"  # type: ignore[union-attr]
        for number in range(self.words):
            if self.stopped.is_set():
                text += " (stopped)"
                break
            await asyncio.sleep(self.pace_seconds)
            text += f" word{number}"
            await reply.edit(content=text)
        await reply.edit(content=text + "\n-# done")

    async def on_raw_reaction_add(self, event: discord.RawReactionActionEvent) -> None:
        self.reactions.append(("add", event.user_id, str(event.emoji)))

    async def on_raw_reaction_remove(self, event: discord.RawReactionActionEvent) -> None:
        self.reactions.append(("remove", event.user_id, str(event.emoji)))


@app_commands.command(description="Paint a number of things")
@app_commands.describe(colour="Which colour", times="How many, 1 to 9", whom="For whom", loud="Say it loudly")
async def paint(
    interaction: discord.Interaction,
    colour: str,
    times: app_commands.Range[int, 1, 9] = 1,
    whom: discord.Member | None = None,
    loud: bool = False,
) -> None:
    text = f"Painted {times}x {colour} for {whom.display_name if whom else 'all'}"
    await interaction.response.send_message(text.upper() if loud else text)


@paint.autocomplete("colour")
async def colours(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
    return [app_commands.Choice(name=colour.title(), value=colour) for colour in COLOURS if typed in colour]


@app_commands.command(description="Tell a secret, slowly")
async def secret(interaction: discord.Interaction) -> None:
    await interaction.response.defer(ephemeral=True, thinking=True)
    await asyncio.sleep(0.2)
    await interaction.edit_original_response(content="The secret is 42.")


@app_commands.context_menu(name="Quote this")
async def quote(interaction: discord.Interaction, message: discord.Message) -> None:
    await interaction.response.send_message(f"> {message.content}", ephemeral=True)


@app_commands.default_permissions(manage_guild=True)
class Settings(app_commands.Group, name="settings", description="Change how the toy behaves"):
    @app_commands.command(description="Show the settings")
    async def show(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message("All is well.", ephemeral=True)

    @app_commands.command(description="Choose a speed")
    @app_commands.choices(speed=[app_commands.Choice(name=n, value=n) for n in ("slow", "fast")])
    async def speed(self, interaction: discord.Interaction, speed: app_commands.Choice[str]) -> None:
        await interaction.response.send_message(f"Speed: {speed.value}", ephemeral=True)
