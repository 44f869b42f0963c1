"""What keeps the bot from starting or ends it for good: one sentence with a remedy, an exit code, no traceback."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.records import Ask, Provenance
from bot.store import Store
from tests.faults.discord_gateway import MESSAGE_CONTENT
from tests.faults.discord_payloads import TOKEN
from tests.faults.discord_stub import DiscordStub
from tests.faults.harness import Command, command, running_bot
from tests.models.tiny_gguf import write_tiny_gguf

UNREACHABLE = {"DISCORD_API_BASE": "http://127.0.0.1:9/api/v10", "DISCORD_GATEWAY": "ws://127.0.0.1:9"}
ASK = Ask(asked_message_id=7, channel_id=8, guild_id=9, member_id=10, provenance=Provenance.DISCORD)


async def refusal(process: Command, *, code: int = 1) -> str:
    """Wait for the command's end; return the one sentence that it gave."""
    assert await process.ended() == code, process.errors
    assert "Traceback" not in process.errors
    assert TOKEN not in process.errors + process.output
    (sentence,) = [line for line in process.errors.splitlines() if line.startswith("encore: ")]
    return sentence


async def a_used_store(database: Path) -> None:
    """Fill a database with some hundred pages."""
    async with await Store.open(database) as store:
        for number in range(50):
            await store.claim_reply(Ask(number, 8, 9, 10, Provenance.DISCORD))
            await store.set_meta(f"key {number}", "value " * 1500)


async def test_wrong_token_is_told_and_never_shown(tmp_path: Path) -> None:
    wrong = TOKEN[:-3] + "yyy"
    async with DiscordStub() as discord, command(tmp_path, "run", discord=discord, DISCORD_TOKEN=wrong) as process:
        sentence = await refusal(process)
    assert "refused the bot token" in sentence
    assert "Reset Token" in sentence
    assert wrong not in process.errors + process.output


async def test_token_reset_while_running_ends_with_the_remedy(tmp_path: Path) -> None:
    async with DiscordStub() as discord, command(tmp_path, "run", discord=discord, LOG_LEVEL="INFO") as process:
        await discord.until(lambda: discord.gateway.connected, "the connection", seconds=30)
        await discord.gateway.close(4004)
        assert "Reset Token" in await refusal(process)


async def test_missing_intent_is_named(tmp_path: Path) -> None:
    async with (
        DiscordStub() as discord,
        command(tmp_path, "run", discord=discord, MESSAGE_CONTENT_INTENT="true") as process,
    ):
        sentence = await refusal(process)
    assert "Message Content Intent" in sentence
    assert "MESSAGE_CONTENT_INTENT=false" in sentence


async def test_granted_intent_starts(tmp_path: Path) -> None:
    async with (
        DiscordStub(intents_allowed=MESSAGE_CONTENT) as discord,
        command(tmp_path, "run", discord=discord, MESSAGE_CONTENT_INTENT="true") as process,
    ):
        await discord.until(lambda: discord.gateway.connected, "the connection", seconds=30)
        process.terminate()
        assert await process.ended() == 0, process.errors


async def test_doctor_finds_the_missing_intent_and_the_wrong_token(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        doctor = ("doctor", "--json")
        async with command(tmp_path, *doctor, discord=discord, MESSAGE_CONTENT_INTENT="true") as process:
            assert await process.ended() == 1
            intents = {f["check"]: f for f in json.loads(process.output)["findings"]}["intents"]
        async with command(tmp_path, *doctor, discord=discord, DISCORD_TOKEN=TOKEN[:-3] + "yyy") as process:
            assert await process.ended() == 1
            told = {f["check"]: f for f in json.loads(process.output)["findings"]}["discord"]
    assert (intents["level"], told["level"]) == ("error", "error")
    assert "Message Content Intent" in intents["remedy"]
    assert "Reset Token" in told["remedy"]


async def test_unreachable_discord_is_told(tmp_path: Path) -> None:
    async with command(tmp_path, "run", **UNREACHABLE) as process:
        sentence = await refusal(process)
    assert "could not be reached" in sentence
    assert "DISCORD_API_BASE" in sentence


async def test_discord_that_is_down_at_the_start_is_told(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        discord.fault(path="users/@me", status=503, times=100)
        async with command(tmp_path, "run", discord=discord) as process:
            assert "try again" in await refusal(process)


async def test_second_instance_on_one_database_refuses_and_the_first_goes_on(tmp_path: Path) -> None:
    async with DiscordStub() as discord, command(tmp_path, "run", discord=discord) as first:
        await discord.until(lambda: discord.gateway.connected, "the first to connect", seconds=30)
        async with command(tmp_path, "run", discord=discord) as second:
            sentence = await refusal(second)
        assert "Another Encore runs on" in sentence
        assert "DATA_DIR" in sentence
        async with command(tmp_path, "doctor", "--json", discord=discord) as doctor:
            assert await doctor.ended() == 1
            assert "Another Encore runs" in doctor.output
        asked = await discord.says("are you well?")
        await discord.until(lambda: discord.replies_to(asked), "an answer of the first")
        assert discord.gateway.identifies == 1
        first.terminate()
        assert await first.ended() == 0, first.errors


async def test_killed_instance_leaves_no_lock_behind(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        for start in (1, 2):
            async with command(tmp_path, "run", discord=discord) as process:
                await discord.until(lambda s=start: discord.gateway.identifies == s, "the connection", seconds=30)
                process.kill()


def _overwrite(path: Path) -> None:
    draw = random.Random(0)
    with path.open("r+b") as file:
        for offset in range(4096, path.stat().st_size, 8192):
            file.seek(offset)
            file.write(draw.randbytes(4096))


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 123)


def _replace(path: Path) -> None:
    path.write_text("this was a database once\n" * 1000)


@pytest.mark.parametrize("damage", [_overwrite, _cut, _replace], ids=["overwritten", "cut", "replaced"])
async def test_damaged_database_is_kept_aside_and_the_next_start_works(tmp_path: Path, damage: object) -> None:
    database = tmp_path / "encore.sqlite3"
    await a_used_store(database)
    assert callable(damage)
    damage(database)
    content = database.read_bytes()
    async with DiscordStub() as discord:
        async with command(tmp_path, "doctor", "--json", discord=discord) as doctor:
            assert await doctor.ended() == 1
            findings = {f["check"]: f for f in json.loads(doctor.output)["findings"]}
        assert findings["store"]["level"] == "error"
        assert database.read_bytes() == content, "doctor changes nothing"
        async with command(tmp_path, "run", discord=discord) as process:
            sentence = await refusal(process)
        (kept,) = [path for path in tmp_path.glob("*.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
        assert "damaged" in sentence
        assert kept.name in sentence
        assert "encore restore" in sentence
        assert kept.read_bytes() == content
        assert not database.exists()
        async with command(tmp_path, "run", discord=discord) as process:
            await discord.until(lambda: discord.gateway.connected, "the start after the damage", seconds=30)


async def test_backup_replaces_a_damaged_database(tmp_path: Path) -> None:
    database, saved = tmp_path / "encore.sqlite3", tmp_path / "saved.sqlite3"
    await a_used_store(database)
    async with command(tmp_path, "backup", str(saved)) as process:
        assert await process.ended() == 0, process.errors
    _overwrite(database)
    async with command(tmp_path, "run", **UNREACHABLE) as process:
        assert "damaged" in await refusal(process)
    async with command(tmp_path, "restore", str(saved)) as process:
        assert await process.ended() == 0, process.errors
    async with await Store.open(database) as store:
        assert await store.meta("key 49") == "value " * 1500


async def test_database_locked_by_another_program_is_told(tmp_path: Path) -> None:
    database = tmp_path / "encore.sqlite3"
    await a_used_store(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as browser:
        browser.execute("PRAGMA locking_mode = EXCLUSIVE")
        browser.execute("BEGIN EXCLUSIVE")
        async with command(tmp_path, "run", **UNREACHABLE) as process:
            sentence = await refusal(process)
    assert "lock" in sentence
    assert not list(tmp_path.glob("*.damaged-*"))
    async with await Store.open(database) as store:
        assert await store.meta("key 0") is not None


async def test_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with command(tmp_path, "run", DATA_DIR=str(tmp_path / "file"), **UNREACHABLE) as process:
        assert f"{tmp_path / 'file'} is a file" in await refusal(process, code=2)


@pytest.mark.parametrize(("verb", "share"), [("run", 0.99), ("run", 0.001), ("doctor", 0.5)])
async def test_truncated_model_file_is_told(tmp_path: Path, verb: str, share: float) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    async with DiscordStub() as discord, command(tmp_path, verb, discord=discord, MODEL=str(cut)) as process:
        if verb == "run":
            sentence = await refusal(process)
        else:
            assert await process.ended() == 1, process.output
            assert "Traceback" not in process.errors
            sentence = " ".join(process.output.split())
    assert "cut" in sentence
    assert "ownload or copy it again" in sentence


async def test_truncated_embedded_model_is_not_used(tmp_path: Path, embedded_model: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    cut = models / embedded_model.name
    shutil.copyfile(embedded_model, cut)
    with cut.open("r+b") as file:
        file.truncate(60_000_000)
    no_network = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
    async with command(tmp_path, "run", MODEL="embedded", **no_network, **UNREACHABLE) as process:
        sentence = await refusal(process)
    assert "could not be downloaded" in sentence
    assert "MODEL" in sentence


async def test_reply_of_a_model_that_breaks_is_told_with_a_reference(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, fail_after=3) as bot:
        asked = await discord.says("this will break")
        await discord.until(
            lambda: "reference" in str([m["content"] for m in discord.replies_to(asked)]), "the telling"
        )
        await discord.until(lambda: not bot.responder.running, "the end of the reply")
        assert len(discord.replies_to(asked)) == 1
