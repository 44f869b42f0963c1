"""The client: what it asks Discord for, when it registers commands, how errors and the end are handled."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import discord
import pytest
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot import error_handler
from bot.checks import NotModerator
from bot.client import build_bot, intents
from bot.errors import SettingsError, StoreFull
from bot.records import Provenance
from bot.settings import Settings
from bot.store import Store
from tests.world import World, echo_model, live_world


def registrations(world: World) -> list[Any]:
    return [r for r in world.env.http_requests if r.method == "PUT" and r.path.endswith("/commands")]


def test_default_intents_ask_for_no_privileged_one() -> None:
    wanted = intents(Settings())
    assert not (wanted.members or wanted.presences or wanted.message_content)
    assert wanted.guild_messages
    assert wanted.dm_messages
    assert wanted.guild_reactions
    assert wanted.dm_reactions


def test_message_content_is_asked_for_when_the_setting_says_so() -> None:
    assert intents(Settings(message_content_intent=True)).message_content


async def test_bot_pings_nobody_and_keeps_little(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        allowed = world.bot.allowed_mentions
        assert allowed is not None
        assert allowed.to_dict() == {"parse": []}
        assert allowed.replied_user is False
        await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        guild = world.bot.get_guild(world.guild.id)
        assert [member.id for member in guild.members] == [world.bot.user.id]
        assert len(world.bot.cached_messages) <= 200


async def test_commands_are_registered_once_until_they_change(tmp_path: Path) -> None:
    async with live_world(tmp_path, provenance=Provenance.DISCORD) as world:
        assert len(registrations(world)) == 1
        await world.restart()
        assert len(registrations(world)) == 1
        key = f"commands_sha256:{world.bot.application_id}"
        assert await world.store.meta(key)
        await world.store.set_meta(key, "of an older version")
        await world.restart()
        assert len(registrations(world)) == 2


async def test_demo_registers_its_commands_at_every_start(tmp_path: Path) -> None:
    async with live_world(tmp_path, provenance=Provenance.DEMO) as world:
        await world.restart()
        assert len(registrations(world)) == 2


async def test_refused_registration_is_tried_again_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_world(tmp_path, provenance=Provenance.DISCORD) as world:
        await world.store.set_meta(f"commands_sha256:{world.bot.application_id}", "old")

        async def refused(_: Any) -> Any:
            response: Any = type("Response", (), {"status": 403, "reason": "Forbidden"})()
            raise discord.Forbidden(response, "no scope")

        with monkeypatch.context() as patched:
            patched.setattr(app_commands.CommandTree, "sync", refused)
            await world.restart()
        assert "could not be registered" in caplog.text
        await world.restart()
        assert len(registrations(world)) == 2


async def test_addresses_of_a_compatible_server_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", DiscordWebSocket.DEFAULT_GATEWAY)
    settings = Settings(
        data_dir=tmp_path, discord_api_base="http://127.0.0.1:9/api/v10", discord_gateway="ws://127.0.0.1:9"
    )
    model = echo_model(tmp_path)
    async with await Store.open(settings.database) as store:
        bot = build_bot(settings, store, model)
        assert Route("GET", "/gateway").url == "http://127.0.0.1:9/api/v10/gateway"
        assert yarl.URL("ws://127.0.0.1:9") == DiscordWebSocket.DEFAULT_GATEWAY
        assert bot.provenance is Provenance.DISCORD
        await bot.close()
    await model.aclose()


async def test_closing_twice_is_fine_and_writes_the_last_reactions(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "hello")
        [shown] = await world.answered_in("general")
        reply = await world.reply_shown_by(shown)
        await world.react(world.bob, shown, "👍")
        await world.eventually(lambda: world.store.votes(reply.id))
        await asyncio.gather(world.bot.close(), world.bot.close())
        await world.bot.close()
        assert world.bot.is_closed()
        assert world.bot.ratings.waiting == 0


async def test_failing_event_is_logged_and_the_bot_lives_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with live_world(tmp_path) as world:

        async def on_typing_storm() -> None:
            raise RuntimeError("broken on purpose")

        world.bot.add_listener(on_typing_storm)
        world.bot.dispatch("typing_storm")
        await world.eventually(lambda: "on_typing_storm failed" in caplog.text)
        await world.eventually(lambda: world.errors)
        world.env._errors.clear()
        await world.ask(world.alice, "general", "still there?")
        await world.answered_in("general")


async def test_failing_command_is_told_in_one_sentence_with_a_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_world(tmp_path) as world:

        @app_commands.command(description="Fails")
        async def fail(interaction: discord.Interaction) -> None:
            raise RuntimeError("a secret detail")

        world.bot.tree.add_command(fail)
        await world.bot.tree.sync()
        result = await world.answered(await world.slash(world.alice, "general", "fail"))
        assert result.response.ephemeral
        sentence = str(result.response.content)
        assert "secret detail" not in sentence
        reference = sentence.rsplit(" ", 1)[-1].rstrip(").")
        assert reference in caplog.text
        assert "a secret detail" in caplog.text
        world.env._errors.clear()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotModerator(), "manage this server"),
        (SettingsError("KEY is wrong; mend it."), "KEY is wrong; mend it."),
        (app_commands.NoPrivateMessage(), "server only"),
        (app_commands.BotMissingPermissions(["send_messages"]), "send messages"),
        (app_commands.CommandOnCooldown(app_commands.Cooldown(1, 30.0), 12.4), "12 seconds"),
        (app_commands.CheckFailure(), "may not use this"),
    ],
)
def test_foreseen_errors_are_told_as_they_are(
    error: Exception, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert expected in error_handler.sentence(error, "/test")
    assert caplog.records == []


def test_operators_paths_stay_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told = error_handler.sentence(StoreFull("There is no room left on the disk of /srv/encore.sqlite3."), "/test")
    assert told.startswith("I can't write to my memory right now; please try again in a moment")
    assert "/srv" not in told and "/srv/encore.sqlite3" in caplog.text
    assert told.rsplit(" ", 1)[-1].rstrip(").") in caplog.text
