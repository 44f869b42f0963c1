"""`encore doctor`: what it finds, that it is ready only where `encore run` would start, and that it leaves no trace."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from bot import doctor
from bot.doctor import examine
from bot.encryption import Encryption
from bot.findings import Finding, Level, as_object, ready
from bot.settings import Settings
from bot.store import Store
from bot.store_condition import Condition
from models.adapters import Adapters
from models.fetch import sha256_of
from models.manifest import GGUF
from tests.models.adapter_files import stage
from tests.models.tiny_gguf import write_tiny_gguf

_NO_FILE = Path("no-such.env")
TOKEN = (
    base64.urlsafe_b64encode(b"100000000000000000").decode().rstrip("=")
    + ".Gabcde.abcdefghijklmnopqrstuvwxyz0123456789AB"
)
CONTENT, CONTENT_LIMITED = 1 << 18, 1 << 19


class Discord:
    """Answers /oauth2/applications/@me."""

    def __init__(self) -> None:
        self.api = ""
        self.flags = 0
        self.status = 200

    async def application(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bot {TOKEN}":
            return web.json_response({"message": "401: Unauthorized", "code": 0}, status=401)
        if self.status != 200:
            return web.Response(status=self.status, text="down")
        return web.json_response({"id": "100000000000000000", "name": "Test Encore", "flags": self.flags})


@pytest.fixture
async def discord() -> AsyncIterator[Discord]:
    discord = Discord()
    app = web.Application()
    app.router.add_get("/api/v10/oauth2/applications/@me", discord.application)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    discord.api = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v10"
    yield discord
    await runner.cleanup()


@pytest.fixture
def settings(tmp_path: Path, discord: Discord) -> Settings:
    """Settings with which `encore run` would start."""
    return Settings(discord_token=TOKEN, data_dir=tmp_path / "data", model="echo", discord_api_base=discord.api)


async def finding(settings: Settings, check: str) -> Finding:
    (found,) = [found for found in await examine(settings, env_file=_NO_FILE) if found.check == check]
    return found


# ---------------------------------------------------------------------- the whole


async def test_ready_where_run_would_start(settings: Settings) -> None:
    findings = await examine(settings, env_file=_NO_FILE)
    assert ready(findings), findings
    checks = {found.check for found in findings}
    assert checks >= {"settings", "token", "discord", "intents", "model", "store", "disk", "encryption", "nights"}
    assert checks >= {"training", "permissions"}
    assert not settings.data_dir.exists(), "looking changes nothing"


async def test_what_must_be_mended_has_a_remedy(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = replace(
        settings, discord_token="nonsense", data_dir=tmp_path / "file", model="no.gguf", message_content_intent=True
    )
    findings = await examine(broken, env_file=_NO_FILE)
    assert {found.check for found in findings if found.level is Level.ERROR} == {"token", "discord", "store", "model"}
    assert "engine" in {found.check for found in findings}, "looked at for every model but echo"
    assert all(found.remedy for found in findings if found.level in (Level.ERROR, Level.WARNING))
    assert not ready(findings)


def test_json_is_one_object_with_the_verdict() -> None:
    told = as_object([Finding("disk", Level.OK, "Fine."), Finding("token", Level.ERROR, "Empty.", "Set it.")])
    assert json.loads(json.dumps(told)) == {
        "ready": False,
        "findings": [
            {"check": "disk", "level": "ok", "sentence": "Fine.", "remedy": "", "wrong_setting": False},
            {"check": "token", "level": "error", "sentence": "Empty.", "remedy": "Set it.", "wrong_setting": False},
        ],
    }


@pytest.mark.parametrize(("level", "verdict"), [(Level.NOTICE, True), (Level.WARNING, True), (Level.ERROR, False)])
def test_only_errors_keep_run_from_starting(level: Level, verdict: bool) -> None:
    assert ready([Finding("a", Level.OK, "."), Finding("b", level, ".")]) is verdict


# ---------------------------------------------------------------------- settings and token


def test_unknown_name_in_the_env_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MODLE=embedded\nTHREADS=2\nHF_TOKEN=abc\n")
    (found,) = doctor.check_variables(file)
    assert found.level is Level.WARNING
    assert "MODLE" in found.sentence and "THREADS" not in found.sentence and "HF_TOKEN" not in found.sentence


def test_token_of_the_right_form_is_fine_and_not_repeated() -> None:
    found = doctor.check_token(TOKEN)
    assert found.level is Level.OK
    assert "100000000000000000" in found.sentence
    assert TOKEN not in found.sentence and TOKEN.split(".")[2] not in found.sentence


@pytest.mark.parametrize(
    "token",
    [
        "",
        "your-token-here",
        "100000000000000000",
        "0123456789abcdef0123456789abcdef",
        f"Bot {TOKEN}",
        TOKEN.rpartition(".")[0],
        TOKEN + ".more",
        TOKEN.rpartition(".")[0] + ".",
        "aGVsbG8gd29ybGQ.Gabcde.abcdefghijklmnopqrstuvwxyz0123456789AB",
        "é.b.c",
    ],
)
def test_wrong_token_is_an_error_with_a_remedy_and_not_repeated(token: str) -> None:
    found = doctor.check_token(token)
    assert (found.check, found.level) == ("token", Level.ERROR)
    assert found.remedy
    assert not token or token not in found.sentence + found.remedy


async def test_refused_token_is_told(settings: Settings) -> None:
    found = await finding(replace(settings, discord_token=TOKEN[:-1]), "discord")
    assert found.level is Level.ERROR
    assert "Reset Token" in found.remedy


async def test_discord_out_of_reach_is_told_as_not_checked(settings: Settings) -> None:
    found = await finding(replace(settings, discord_api_base="http://127.0.0.1:9/api/v10"), "discord")
    assert found.level is Level.ERROR
    assert "not checked" in found.sentence


async def test_discord_that_is_down_is_told_as_not_checked(settings: Settings, discord: Discord) -> None:
    discord.status = 503
    found = await finding(settings, "discord")
    assert found.level is Level.ERROR
    assert "503" in found.sentence and "not checked" in found.sentence


async def test_nobody_is_asked_without_a_token(settings: Settings) -> None:
    findings = await examine(replace(settings, discord_token=""), env_file=_NO_FILE)
    assert "discord" not in {found.check for found in findings}


async def test_gateway_set_by_hand_is_knocked_at(settings: Settings) -> None:
    listening = replace(settings, discord_gateway=settings.discord_api_base.replace("http", "ws"))
    assert (await finding(listening, "gateway")).level is Level.OK
    found = await finding(replace(settings, discord_gateway="ws://127.0.0.1:9"), "gateway")
    assert found.level is Level.ERROR
    assert "ws://127.0.0.1:9 can't be reached" in found.sentence and "leave it empty" in found.remedy
    unknown = await finding(replace(settings, discord_gateway="wss://nosuch.invalid"), "gateway")
    assert unknown.level is Level.ERROR
    assert "gateway" not in {found.check for found in await examine(settings, env_file=_NO_FILE)}


# ---------------------------------------------------------------------- intents


@pytest.mark.parametrize("flags", [CONTENT, CONTENT_LIMITED])
async def test_granted_intent_is_fine(settings: Settings, discord: Discord, flags: int) -> None:
    discord.flags = flags
    assert (await finding(replace(settings, message_content_intent=True), "intents")).level is Level.OK


async def test_intent_that_the_portal_does_not_grant_is_an_error(settings: Settings) -> None:
    found = await finding(replace(settings, message_content_intent=True), "intents")
    assert found.level is Level.ERROR
    assert "Message Content Intent" in found.remedy


async def test_intent_is_not_checked_offline(settings: Settings) -> None:
    offline = replace(settings, message_content_intent=True, discord_api_base="http://127.0.0.1:9/api/v10")
    found = await finding(offline, "intents")
    assert found.level is Level.NOTICE
    assert "not checked" in found.sentence


async def test_free_channels_without_the_intent_are_found(settings: Settings) -> None:
    async with await Store.open(settings.database) as store:
        await store.add_free_channel(1, 100, 1)
        await store.add_free_channel(2, 200, 1)
    found = await finding(settings, "intents")
    assert found.level is Level.WARNING
    assert "2 free channels are" in found.sentence and "MESSAGE_CONTENT_INTENT" in found.sentence


async def test_channel_for_unprompted_talk_without_the_intent_is_found(settings: Settings) -> None:
    async with await Store.open(settings.database) as store:
        await store.change_server_settings(1, 9, unprompted_channel_id=100)
        await store.change_server_settings(2, 9, unprompted_channel_id=200)
        await store.change_server_settings(2, 9, unprompted_channel_id=None)
    found = await finding(settings, "intents")
    assert found.level is Level.WARNING
    assert found.sentence.startswith("1 channel for unprompted talk is configured")


async def test_what_the_operator_states_of_training_is_told(settings: Settings) -> None:
    assert "trains nothing" in (await finding(settings, "training")).sentence
    found = await finding(replace(settings, discord_training_permission="granted"), "training")
    assert found.level is Level.NOTICE and "You state that Discord permitted" in found.sentence


# ---------------------------------------------------------------------- store, disk, files


@pytest.fixture
def offline(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def test_running_encore_is_an_error(offline: Settings) -> None:
    found = doctor.check_store(offline, Condition(running=True, version=2, newest=2))
    assert found.level is Level.ERROR
    assert "Another Encore runs" in found.sentence


@pytest.mark.parametrize(("version", "level"), [(1, Level.OK), (2, Level.OK), (3, Level.ERROR)])
def test_only_a_newer_store_keeps_run_from_starting(offline: Settings, version: int, level: Level) -> None:
    assert doctor.check_store(offline, Condition(running=False, version=version, newest=2)).level is level


def test_database_that_cannot_be_written_is_an_error(offline: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    offline.data_dir.mkdir()
    offline.database.write_bytes(b"")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != offline.database)  # root may write anywhere
    found = doctor.check_store(offline, Condition(running=False, version=2, newest=2))
    assert found.level is Level.ERROR
    assert "may not write" in found.sentence


def test_damaged_store_names_restore(offline: Settings) -> None:
    found = doctor.check_store(offline, Condition(running=False, problems=("row 3 missing",)))
    assert found.level is Level.ERROR
    assert "encore restore" in found.remedy


def test_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    found = doctor.check_new_store(Settings(data_dir=tmp_path / "data"), tmp_path)
    assert found.level is Level.ERROR
    assert f"may not write to {tmp_path}" in found.sentence


@pytest.mark.parametrize(
    ("free", "level"), [(50_000_000_000, Level.OK), (1_900_000_000, Level.WARNING), (100_000_000, Level.ERROR)]
)
def test_free_disk_has_two_thresholds(free: int, level: Level) -> None:
    found = doctor.check_disk(free)
    assert found.level is level
    assert f"{free / 1e9:.1f} GB" in found.sentence


@pytest.mark.parametrize(
    ("encryption", "level"),
    [(Encryption.ON, Level.OK), (Encryption.OFF, Level.WARNING), (Encryption.UNKNOWN, Level.WARNING)],
)
def test_unencrypted_disk_is_a_warning_that_says_what_to_do(
    tmp_path: Path, encryption: Encryption, level: Level
) -> None:
    found = doctor.check_encryption(encryption, tmp_path)
    assert found.level is level
    assert bool(found.remedy) is (level is not Level.OK)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_files_that_others_can_read_are_found(tmp_path: Path) -> None:
    env_file, settings = tmp_path / ".env", Settings(data_dir=tmp_path / "data")
    night = settings.data_dir / "nights" / "2026-06-01"
    (settings.models_dir / "hub").mkdir(parents=True)
    night.mkdir(parents=True)
    files = [env_file, night / "examples.jsonl", night / "night.log", settings.models_dir / "hub" / "m.gguf"]
    for file in files:
        file.write_text("DISCORD_TOKEN=x\n")
        file.chmod(0o600)
    files[-1].chmod(0o644)  # anybody may have it from the hub
    assert [found.level for found in doctor.check_permissions(settings, env_file)] == [Level.OK]
    env_file.chmod(0o640)
    (found,) = doctor.check_permissions(settings, env_file)
    assert (found.level, found.remedy) == (Level.WARNING, f"Run `chmod 600 {env_file}`.")
    for file in files:
        file.chmod(0o604)
    (found,) = doctor.check_permissions(settings, env_file)
    assert str(env_file) in found.sentence and found.sentence.endswith(" and 1 more file.")
    assert found.remedy == f"Run `chmod -R go= {settings.data_dir} {env_file}`."


def test_old_databases_that_no_deletion_reaches_are_named_with_the_day_by_which_they_go(offline: Settings) -> None:
    offline.data_dir.mkdir()
    assert doctor.check_copies(offline) == []
    (offline.data_dir / "encore.sqlite3.before-restore-20260802-031500").touch()
    (found,) = doctor.check_copies(offline)
    assert found.sentence.startswith("A copy of the database is kept from before a restore or a damage")
    for name in ("damaged-20260801-031500", "damaged-20260801-031500-wal", "damaged-mine"):
        (offline.data_dir / f"encore.sqlite3.{name}").touch()
    (found,) = doctor.check_copies(offline)
    assert found.level is Level.NOTICE and "Encore removes each 30 days after the day in its name" in found.remedy
    assert found.sentence.startswith("3 copies of the database are kept") and found.sentence.endswith(
        f": {offline.database}.before-restore-20260802-031500 (gone by 2026-09-02), "
        f"{offline.database}.damaged-20260801-031500 (gone by 2026-09-01), {offline.database}.damaged-mine (stays)."
    )


def test_nearest_existing_folder_is_found(tmp_path: Path) -> None:
    assert doctor.existing(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "a").mkdir()
    assert doctor.existing(tmp_path / "a" / "b") == tmp_path / "a"
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("a file")
    assert doctor.existing(tmp_path / "a" / "b") == tmp_path


# ---------------------------------------------------------------------- nights


@pytest.fixture
def learning(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a model that can learn, which has served two adapters."""
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    sha256 = sha256_of(model)
    adapters = Adapters(settings.data_dir / "adapters", sha256)
    for name in ("a", "b"):
        staged = stage(tmp_path / f"staged-{name}", name, base_sha256=sha256)
        adapters.promote(adapters.install(staged), share=None, since=1.0)
    return replace(settings, model=str(model))


def nights(settings: Settings, free_bytes: int = 10**12) -> list[tuple[Level, str]]:
    return [(found.level, found.sentence) for found in doctor.check_nights(settings, free_bytes)]


def test_says_when_nights_begin_and_what_answers(learning: Settings) -> None:
    assert nights(learning) == [
        (Level.OK, "Nights begin at 4:00 of this machine's clock."),
        (Level.OK, "The adapter b is whole and answers."),
    ]
    assert (Level.NOTICE, "NIGHT_HOUR=-1: nights run only when they are asked for.") in nights(
        replace(learning, night_hour=-1)
    )


def test_damaged_adapter_that_serves_is_found(learning: Settings) -> None:
    (learning.data_dir / "adapters" / "b" / GGUF).write_bytes(b"damaged")
    (found,) = [found for found in doctor.check_nights(learning, 10**12) if found.level is Level.WARNING]
    assert "adapter.gguf of the adapter b" in found.sentence
    assert "encore rollback" in found.remedy


def test_little_room_for_a_night_is_found(learning: Settings) -> None:
    assert any("A night may need" in sentence for level, sentence in nights(learning, 1000) if level is Level.WARNING)


def test_missing_torch_is_found_with_its_name(learning: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "peft") else real(name))
    (found,) = [found for found in doctor.check_nights(learning, 10**12) if found.level is Level.WARNING]
    assert "torch, peft can't be imported" in found.sentence
    assert "pip install" in found.remedy
