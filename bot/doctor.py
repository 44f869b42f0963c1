"""`encore doctor`: would `encore run` start here, and what should be better? Each finding comes with its remedy.

Looks and asks; changes nothing and fetches no model. How findings are shown is the command's.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import stat
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from dotenv import dotenv_values

from bot.backups import COPY_DAYS, gone_by, kept_aside
from bot.database import check_place
from bot.doctor_model import (
    check_engine,
    check_memory,
    check_model,
    check_prompt,
    existing,
    model_that_is_there,
    unavailable,
)
from bot.doctor_nights import night_sentences
from bot.encryption import Encryption, disk_encryption
from bot.errors import StoreError
from bot.findings import Finding, Level
from bot.settings import Settings, variable
from bot.store_condition import Condition, condition
from models import safety_spec
from models.errors import WrongModel

DISCORD_API = "https://discord.com/api/v10"
PORTAL = "https://discord.com/developers/applications"
_REQUEST_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_MESSAGE_CONTENT_GRANTED = 1 << 18 | 1 << 19  # application flags: verified, or in fewer than 100 servers
_MEGABYTE = 10**6
_LOW_DISK_BYTES = 2000 * _MEGABYTE
_LEAST_DISK_BYTES = 200 * _MEGABYTE
_FOREIGN_VARIABLES = ("HF_", "HUGGING", "ENCORE_")  # in .env for others: the hub's client, the tests


async def examine(settings: Settings, *, env_file: Path = Path(".env")) -> list[Finding]:
    """Run every check, the one that asks Discord included."""
    found = [*check_variables(env_file), check_token(settings.discord_token)]
    base, stored = existing(settings.data_dir), None
    try:
        await asyncio.to_thread(check_place, settings.database)
        if settings.database.exists():
            stored = await asyncio.to_thread(condition, settings.database)
    except StoreError as error:
        found.append(Finding("store", Level.ERROR, str(error), "Run `encore doctor` again once that is mended."))
    else:
        found.append(check_store(settings, stored) if stored else check_new_store(settings, base))
    application = None
    if settings.discord_token:
        application, finding = await ask_discord(settings.discord_api_base or DISCORD_API, settings.discord_token)
        found.append(finding)
    if settings.discord_gateway:
        found.append(await check_gateway(settings.discord_gateway))
    found.append(check_intents(settings, application, stored))
    found += await asyncio.to_thread(check_model, settings)
    found += await asyncio.to_thread(check_engine, settings)
    found += await asyncio.to_thread(check_memory, settings)
    found += await asyncio.to_thread(check_prompt, settings)
    found += await asyncio.to_thread(check_nights, settings, shutil.disk_usage(base).free)
    found.append(check_training(settings))
    found.append(await asyncio.to_thread(check_safety, settings))
    found.append(check_disk(shutil.disk_usage(base).free))
    found.append(check_encryption(await asyncio.to_thread(disk_encryption, base), base))
    found += await asyncio.to_thread(check_copies, settings)
    found += await asyncio.to_thread(check_permissions, settings, env_file)
    return found


def check_variables(env_file: Path) -> list[Finding]:
    """Find names in the .env file that are no settings: a typo would silently do nothing."""
    known = {variable(field.name) for field in fields(Settings)}
    given = dotenv_values(env_file) if env_file.is_file() else {}
    unknown = [name for name in given if name not in known and not name.startswith(_FOREIGN_VARIABLES)]
    if not unknown:
        return [Finding("settings", Level.OK, "Every setting can be used.")]
    names = ", ".join(unknown)
    remedy = "Correct or remove it; .env.example lists every setting."
    return [Finding("settings", Level.WARNING, f"{env_file} sets {names}, which Encore does not know.", remedy)]


def check_token(token: str) -> Finding:
    """Check the token's form alone: three parts, the first of which is the bot's id. Never repeats the token."""
    remedy = f"Open your application on {PORTAL}, press Bot > Reset Token and put the new token into DISCORD_TOKEN."
    if not token:
        sentence = "DISCORD_TOKEN is empty; `encore run` needs a bot token."
        return Finding("token", Level.ERROR, sentence, remedy, wrong_setting=True)
    if token.lower().startswith(("bot ", "bearer ")):
        return Finding("token", Level.ERROR, "DISCORD_TOKEN starts with a word.", "Keep the token alone, without it.")
    if token.isdecimal() or "." not in token:
        sentence = "DISCORD_TOKEN is no bot token; it may be the application's id, public key or client secret."
        return Finding("token", Level.ERROR, sentence, remedy)
    parts = token.split(".")
    try:
        account = base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)).decode("ascii")
    except ValueError:
        account = ""
    if len(parts) != 3 or not all(parts) or not account.isdecimal():
        return Finding("token", Level.ERROR, "DISCORD_TOKEN has not the form of a bot token; it may be cut.", remedy)
    return Finding("token", Level.OK, f"DISCORD_TOKEN has the form of a token (of the bot with id {account}).")


async def ask_discord(api: str, token: str) -> tuple[dict[str, Any] | None, Finding]:
    """Ask Discord for the application behind the token; it changes nothing there."""
    headers = {"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (https://pypi.org/project/encore, 0.1)"}
    try:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{api}/oauth2/applications/@me", headers=headers) as response,
        ):
            status = response.status
            application: dict[str, Any] = await response.json() if status == 200 else {}
    except (aiohttp.ClientError, OSError, ValueError) as error:
        sentence = f"Discord could not be reached ({type(error).__name__}): token and intents are not checked."
        return None, Finding("discord", Level.ERROR, sentence, "Connect to the network and run `encore doctor` again.")
    if status == 200:
        return application, Finding("discord", Level.OK, f"Discord knows the token: {application.get('name')}.")
    if status == 401:
        remedy = f"Open your application on {PORTAL}, press Bot > Reset Token and put the new token into DISCORD_TOKEN."
        return None, Finding("discord", Level.ERROR, "Discord refused the token.", remedy)
    sentence = f"Discord answered with status {status}: token and intents are not checked."
    return None, Finding("discord", Level.ERROR, sentence, "Run `encore doctor` again in some minutes.")


async def check_gateway(address: str) -> Finding:
    """Knock at the gateway that is set by hand, without a session: Discord counts those."""
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            port = parts.port or (443 if parts.scheme == "wss" else 80)
            _, writer = await asyncio.open_connection(parts.hostname, port)
        writer.transport.abort()
    except OSError as error:  # TimeoutError is one
        sentence = f"DISCORD_GATEWAY: {address} can't be reached ({error.strerror or 'no answer'})."
        return Finding("gateway", Level.ERROR, sentence, "Correct it, or leave it empty for Discord's own.")
    return Finding("gateway", Level.OK, f"Something listens at DISCORD_GATEWAY, {address}.")


def check_intents(settings: Settings, application: dict[str, Any] | None, stored: Condition | None) -> Finding:
    """Hold the setting against what the developer portal grants and what the configured channels need."""
    free = stored.free_channels if stored else 0
    unprompted = stored.unprompted_channels if stored else 0
    switch = f"switch on Message Content Intent under Bot on {PORTAL}"
    if not settings.message_content_intent:
        if free or unprompted:
            kinds = ((free, "free channel"), (unprompted, "channel for unprompted talk"))
            channels = " and ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in kinds if count)
            are = "is" if free + unprompted == 1 else "are"
            sentence = f"{channels} {are} configured, but MESSAGE_CONTENT_INTENT is false: messages there stay unread."
            remedy = f"To read them, {switch} and set MESSAGE_CONTENT_INTENT=true."
            return Finding("intents", Level.WARNING, sentence, remedy)
        sentence = (
            "No privileged intent is asked for: Encore reads direct messages, messages that mention it and replies "
            "that ping it; in a thread it has to be mentioned each time."
        )
        return Finding("intents", Level.OK, sentence)
    if application is None:
        sentence = "MESSAGE_CONTENT_INTENT is true; whether Discord grants it is not checked."
        return Finding("intents", Level.NOTICE, sentence, f"If `encore run` is refused, {switch}.")
    if not int(application.get("flags") or 0) & _MESSAGE_CONTENT_GRANTED:
        sentence = "MESSAGE_CONTENT_INTENT is true, but the application does not have the message-content intent."
        return Finding("intents", Level.ERROR, sentence, f"To have it, {switch}; or set it to false.")
    return Finding("intents", Level.OK, "The message-content intent is asked for and granted.")


def check_nights(settings: Settings, free_bytes: int) -> list[Finding]:
    """Check that nights can train here and that what they made is whole. Blocks."""
    told = night_sentences(settings, model_that_is_there(settings), free_bytes)
    return [Finding("nights", Level(level), sentence, remedy) for level, sentence, remedy in told]


def check_training(settings: Settings) -> Finding:
    """Say what the operator stated about training on Discord's text."""
    if settings.discord_training_permission:
        sentence = (
            "You state that Discord permitted training on its messages (DISCORD_TRAINING_PERMISSION); conversations "
            "teach when everybody in them agreed."
        )
        return Finding("training", Level.NOTICE, sentence, "Keep Discord's answer: members may ask for it.")
    sentence = "Text that came through Discord trains nothing; rating rooms, imports and the demo do."
    return Finding("training", Level.OK, sentence)


def check_safety(settings: Settings) -> Finding:
    """Say what scores messages for moderation, as far as that can be told without loading it. Blocks."""
    try:
        spec = safety_spec.resolve(settings.safety_model)
    except WrongModel as error:
        return unavailable("safety", error)
    if spec.folder is not None:
        kinds = ", ".join(kind.replace("_", " ") for kind in spec.categories)
        sentence = f"The classifier in {spec.folder} scores messages: {kinds}. Encore's own stands in while it starts."
        return Finding("safety", Level.OK, sentence)
    if spec.repository is not None:
        sentence = (
            f"SAFETY_MODEL {spec.repository} is fetched with the first message; until then Encore's own stands in."
        )
        return Finding("safety", Level.NOTICE, sentence, "Stay connected until then; the log says when it answers.")
    return Finding("safety", Level.OK, "Encore's own classifier scores messages in English and Chinese.")


def check_store(settings: Settings, stored: Condition) -> Finding:
    path = settings.database
    if stored.problems:
        remedy = "Stop Encore and run `encore restore FILE` with a backup."
        return Finding("store", Level.ERROR, f"{path} is damaged: {stored.problems[0]}.", remedy)
    if stored.version > stored.newest:
        sentence = f"{path} was written by a newer Encore (version {stored.version}, this one knows {stored.newest})."
        return Finding("store", Level.ERROR, sentence, "Update Encore.")
    if stored.running:
        remedy = "That is fine if it is the one you want; otherwise stop it, or set another DATA_DIR."
        return Finding("store", Level.ERROR, f"Another Encore runs on {path.parent}; a second one won't start.", remedy)
    if path.exists() and not os.access(path, os.W_OK):
        remedy = "Let this account write there, or set another DATA_DIR."
        return Finding("store", Level.ERROR, f"This account may not write to {path}.", remedy)
    upgrade = "" if stored.version == stored.newest else f", to be brought to {stored.newest} at the next start"
    return Finding("store", Level.OK, f"{path} is sound (version {stored.version}{upgrade}).")


def check_new_store(settings: Settings, base: Path) -> Finding:
    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        return Finding("store", Level.ERROR, f"{settings.data_dir} is no folder.", "Set DATA_DIR to a folder.")
    if not os.access(base, os.W_OK | os.X_OK):
        remedy = "Let this account write there, or set another DATA_DIR."
        return Finding("store", Level.ERROR, f"This account may not write to {base}.", remedy)
    return Finding("store", Level.OK, f"{settings.database} will be made at the first start.")


def check_disk(free_bytes: int) -> Finding:
    shown = f"{free_bytes / 1000 / _MEGABYTE:.1f} GB are free on the disk of DATA_DIR"
    if free_bytes < _LEAST_DISK_BYTES:
        remedy = f"Free some space: at least {_LEAST_DISK_BYTES / 1000 / _MEGABYTE:g} GB."
        return Finding("disk", Level.ERROR, f"Only {shown}.", remedy)
    if free_bytes < _LOW_DISK_BYTES:
        remedy = f"Free some space: {_LOW_DISK_BYTES / 1000 / _MEGABYTE:g} GB leave room to grow."
        return Finding("disk", Level.WARNING, f"Only {shown}.", remedy)
    return Finding("disk", Level.OK, f"{shown}.")


def check_encryption(encryption: Encryption, folder: Path) -> Finding:
    if encryption is Encryption.ON:
        return Finding("encryption", Level.OK, f"The disk of {folder} is encrypted.")
    remedy = (
        "Discord's terms ask for encryption at rest: put DATA_DIR on an encrypted disk (LUKS, FileVault, BitLocker), "
        "or make sure that your host encrypts it."
    )
    if encryption is Encryption.OFF:
        return Finding("encryption", Level.WARNING, f"The disk of {folder} does not look encrypted.", remedy)
    return Finding("encryption", Level.WARNING, f"Whether the disk of {folder} is encrypted can't be seen.", remedy)


def check_copies(settings: Settings) -> list[Finding]:
    """Find old databases that were kept: what members have deleted is still in them. Blocks."""
    if not (copies := kept_aside(settings.database)):
        return []
    names = ", ".join(f"{copy} ({f'gone by {day}' if (day := gone_by([copy])) else 'stays'})" for copy in copies)
    what = "A copy of the database is" if len(copies) == 1 else f"{len(copies)} copies of the database are"
    sentence = f"{what} kept from before a restore or a damage, and no member's deletion reaches there: {names}."
    remedy = f"Remove what you need no more; Encore removes each {COPY_DAYS} days after the day in its name."
    return [Finding("copies", Level.NOTICE, sentence, remedy)]


def check_permissions(settings: Settings, env_file: Path) -> list[Finding]:
    """Find secrets and members' data that other accounts of this machine can read. Blocks."""
    if os.name != "posix":
        return []
    models = settings.models_dir  # what was downloaded is nobody's secret
    data = (path for path in settings.data_dir.rglob("*") if not path.is_relative_to(models))
    open_files = [path for path in (env_file, *data) if path.is_file() and _is_open(path)]
    if not open_files:
        return [Finding("permissions", Level.OK, "Other accounts of this machine can't read your data or the token.")]
    named = " and ".join(map(str, open_files[:2]))
    more = len(open_files) - 2
    others = f" and {more:,} more file{'s' * (more > 1)}" if more > 0 else ""
    everything = " ".join(str(path) for path in (settings.data_dir, env_file) if path.exists())
    remedy = f"chmod 600 {env_file}" if open_files == [env_file] else f"chmod -R go= {everything}"
    sentence = f"Other accounts of this machine can read {named}{others}."
    return [Finding("permissions", Level.WARNING, sentence, f"Run `{remedy}`.")]


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO))
