"""Encore's settings: one frozen value, every default and check in one place.

Reads the mapping it is given (the environment over the .env file); never `os.environ` by itself, never at import.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from bot.errors import SettingsError
from models.arms import SHARES

DEFAULT_SYSTEM_PROMPT = (
    "You are Encore, the character of this fan community: warm, curious and playful. "
    "Several people may talk to you; each line of theirs starts with their name. "
    "Answer the last message in a few sentences, in its language."
)

# Half of it is the reply's: the default system prompt leaves some 190 tokens of the rest for what is said.
LEAST_CONTEXT_TOKENS = 512

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("use true or false")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"use a whole number from {low} to {high}")
        return value

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"use a number from {low:g} to {high:g}")
        return value

    return parse


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if value != 0 and not SHARES[0] <= value <= SHARES[1]:
        raise ValueError(f"use 0, or a number from {SHARES[0]:g} to {SHARES[1]:g}")
    return value


def _ids(text: str) -> frozenset[int]:
    given = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) < 2**63 for part in given):
        raise ValueError("use ids such as 300000000000000001, parted by commas")
    return frozenset(map(int, given))


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            others = f"{', '.join(allowed[:-1])} or " if allowed[1:] else "nothing but "
            raise ValueError(f"use {others}{allowed[-1]}")
        return text

    return parse


def _address(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            right = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # [::bad, or a port that is none
            right = False
        if not right:
            raise ValueError("use an address with a host, as " + " or ".join(f"{scheme}://HOST" for scheme in schemes))
        return text.rstrip("/")

    return parse


def folder(text: str) -> Path:
    """Return a folder, there or yet to be made. Raises ValueError where none can be."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("name a home folder that exists") from None
    with contextlib.suppress(OSError):  # what may not be looked at is told where it is used
        for place in (path, *path.parents):
            if place.is_symlink() and not place.exists():
                raise ValueError(f"{place} is a link to nothing, so remove it or name another folder")
            if place.exists() and not place.is_dir():
                raise ValueError(f"{place} is a file, so name another folder")
    return path


def _setting(default: Any, help: str, parse: Callable[[str], Any] = str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "parse": parse, "secret": secret}, repr=not secret)


@dataclass(frozen=True, slots=True)
class Settings:
    """One field a setting; the variable is the field's name in capitals."""

    discord_token: str = _setting(
        "", "bot token from Discord's developer portal; needed by `encore run` only", secret=True
    )
    data_dir: Path = _setting(Path("data"), "folder for the database, models and adapters", folder)
    model: str = _setting(
        "embedded", "`embedded`, a path to a GGUF file, or `owner/repo/file.gguf` on the Hugging Face hub"
    )
    context_tokens: int = _setting(
        2048, "context of one conversation in tokens", _integer(LEAST_CONTEXT_TOKENS, 131072)
    )
    parallel_streams: int = _setting(4, "replies generated at once", _integer(1, 64))
    queue_limit: int = _setting(64, "requests that may wait; further ones are told to try again", _integer(1, 10000))
    threads: int = _setting(0, "CPU threads for generation (0 = one a physical core)", _integer(0, 512))
    kv_cache: str = _setting(
        "q8_0", "type of the attention cache: q8_0 (half the memory) or f16", _choice("q8_0", "f16")
    )
    prompt_cache_mib: int = _setting(
        64, "memory for prompts of idle conversations in MiB (0 = off)", _integer(0, 65536)
    )
    history_messages: int = _setting(40, "newest channel messages considered as context", _integer(1, 200))
    edit_interval_seconds: float = _setting(1.0, "seconds between edits of a streaming message", _number(0.0, 60.0))
    system_prompt: str = _setting(
        DEFAULT_SYSTEM_PROMPT, "who the character is in rating rooms, and where a server sets nothing else"
    )
    message_content_intent: bool = _setting(
        False,
        "true if the privileged message-content intent is on in the developer portal (free channels need it)",
        _boolean,
    )
    discord_api_base: str = _setting(
        "", "REST address of a Discord-compatible server or proxy (empty = Discord)", _address("http", "https")
    )
    discord_gateway: str = _setting(
        "", "gateway address of a Discord-compatible server or proxy (empty = Discord)", _address("ws", "wss")
    )
    night_hour: int = _setting(
        4, "hour of this machine's clock at which nights begin, 0 to 23 (-1 = never)", _integer(-1, 23)
    )
    night_limit_hours: float = _setting(
        3.0, "longest time that a night may take in hours of work, over all its attempts", _number(0.05, 48.0)
    )
    night_threads: int = _setting(1, "CPU threads for training", _integer(1, 512))
    keep_adapters: int = _setting(5, "newest adapters kept on disk; those served are always kept", _integer(1, 1000))
    canary_share: float = _setting(
        0.5, "share of conversations that a new adapter answers at first, 0.2 to 0.5 (0 = all at once)", _share
    )
    discord_training_permission: str = _setting(
        "",
        "`granted` states that Discord permitted you to train on its messages; members must agree as well",
        _choice("granted"),
    )
    privacy_contact: str = _setting("", "how members reach you about their data, shown by /privacy")
    retention_days_replies: int = _setting(
        365,
        "days that replies are kept, with their prompts and ratings, imported ones aside (0 = for ever)",
        _integer(0, 36500),
    )
    retention_days_audit: int = _setting(
        365, "days that moderators' changes and cases are kept (0 = for ever)", _integer(0, 36500)
    )
    retention_days_nights: int = _setting(
        90, "days that a night's data and report, and the members it names, are kept (0 = for ever)", _integer(0, 36500)
    )
    banned_members: frozenset[int] = _setting(
        frozenset(), "ids of members whom it answers nowhere, direct messages included, parted by commas", _ids
    )
    dm_messages_per_minute: int = _setting(
        10, "direct messages of one member answered in a minute (0 = no limit)", _integer(0, 1000)
    )
    dm_messages_per_day: int = _setting(
        200, "direct messages of one member answered in a day (0 = no limit)", _integer(0, 100_000)
    )
    dm_tokens_per_day: int = _setting(
        200_000,
        "tokens that one member's direct messages and their answers may take in a day (0 = no limit)",
        _integer(0, 1_000_000_000),
    )
    safety_model: str = _setting(
        "embedded",
        "what scores messages for moderation: `embedded`, or a transformers text classifier's folder or `owner/repo`",
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR", _choice("DEBUG", "INFO", "WARNING", "ERROR"))

    @property
    def database(self) -> Path:
        return self.data_dir / "encore.sqlite3"

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"


def variable(name: str) -> str:
    """Return the environment variable of a field: `data_dir` -> `DATA_DIR`."""
    return name.upper()


def _from_file(env_file: Path) -> dict[str, str | None]:
    try:
        text = env_file.read_text("utf-8") if env_file.is_file() else ""
    except OSError as error:
        raise SettingsError(f"{env_file} can't be read ({error.strerror}); let this account read it.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark decodes, into names that no setting has
        raise SettingsError(f"{env_file} is no UTF-8 text; save it again with the encoding UTF-8.")
    return dict(dotenv_values(stream=io.StringIO(text)))


def load(environment: Mapping[str, str] | None = None, *, env_file: Path = Path(".env")) -> Settings:
    """Read the settings: the environment wins over `env_file`; an empty value means the default.

    Raises SettingsError with the variable, the value (never a secret's) and the remedy, or with an unreadable file.
    """
    given = _from_file(env_file)
    given.update(os.environ if environment is None else environment)
    values: dict[str, Any] = {}
    for entry in fields(Settings):
        text = (given.get(variable(entry.name)) or "").strip()
        if not text:
            continue
        try:
            values[entry.name] = entry.metadata["parse"](text)
        except ValueError as error:
            shown = "the value given" if entry.metadata["secret"] else repr(text)
            raise SettingsError(f"{variable(entry.name)}: {shown} can't be used; {error}.") from None
    return Settings(**values)
