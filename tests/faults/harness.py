"""The real bot against the Discord stub: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.client import EncoreBot, build_bot
from bot.settings import Settings
from bot.streaming import CURSOR
from models.adapters import Adapters, Serving
from tests.bot.learning import MODEL_SHA
from tests.bot.stores import open_store
from tests.faults.discord_payloads import TOKEN, Json
from tests.faults.discord_stub import DiscordStub, addresses_restored
from tests.world import echo_model

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 0.05  # discord.py waits two seconds for servers that Discord may still announce


@asynccontextmanager
async def running_bot(discord: DiscordStub, data_dir: Path, **options: Any) -> AsyncIterator[EncoreBot]:
    """Run the bot against `discord` until the block ends; `options` are settings or EchoEngine's.

    A block may close the bot or let it fail by itself.
    """
    settings = Settings(
        data_dir=data_dir,
        edit_interval_seconds=0.02,
        discord_token=discord.token,
        discord_api_base=discord.api,
        discord_gateway=discord.gateway.address,
    )
    known = set(Settings.__dataclass_fields__)
    settings = replace(settings, **{key: options.pop(key) for key in known & options.keys()})
    with addresses_restored():
        async with await open_store(settings.database, busy_timeout_seconds=0.2) as store:
            model = echo_model(data_dir, **options)
            bot = build_bot(settings, store, model)
            bot._connection.guild_ready_timeout = _READY_SECONDS
            bot.before_identify_hook = _at_once  # type: ignore[method-assign]
            task = asyncio.create_task(bot.start(settings.discord_token))
            try:
                await discord.until(lambda: bot.is_ready() or task.done(), "the bot being ready")
                if task.done():
                    task.result()
                yield bot
            finally:
                await bot.close()
                await asyncio.wait({task})
                await model.aclose()


async def _at_once(shard_id: int | None, *, initial: bool = False) -> None:
    """Identify without the five seconds that discord.py lets pass before a second session."""


def finished(message: Json) -> bool:
    """Return whether a message of the bot is complete to a member's eyes: no cursor, and the buttons of a reply."""
    return not message["content"].endswith(CURSOR) and "encore:regenerate:" in str(message["components"])


def reply_ids(message: Json) -> set[str]:
    """Return the reply ids that a message's buttons carry."""
    return set(re.findall(r"encore:[a-z]+:(\d+)", str(message["components"])))


def served_whole(data_dir: Path) -> Serving:
    """Return what a start serves there, after it was found whole; the model is that of `tests.bot.nights`."""
    adapters = Adapters(data_dir / "adapters", MODEL_SHA)
    served, _ = adapters.heal()
    assert adapters.serving() == served
    return served


class Command:
    """`python -m bot ARGUMENTS` (or a driver module) with an environment of its own, and what it wrote."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._wrote = asyncio.create_task(process.communicate())  # reads on, so that a full pipe never stops it
        self.output = self.errors = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end; return the exit code."""
        output, errors = await asyncio.wait_for(asyncio.shield(self._wrote), seconds)
        self.output, self.errors = output.decode(), errors.decode()
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def command(
    data_dir: Path, *arguments: str, discord: DiscordStub | None = None, module: str = "bot", **environment: str
) -> AsyncIterator[Command]:
    """Start a command with nothing but these settings; it is killed when the block ends."""
    given = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
    }
    given |= {"PYTHONPATH": str(_ROOT), "DATA_DIR": str(data_dir), "MODEL": "echo", "DISCORD_TOKEN": TOKEN}
    if discord is not None:
        given |= {"DISCORD_API_BASE": discord.api, "DISCORD_GATEWAY": discord.gateway.address}
    data_dir.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        cwd=data_dir, env=given | environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    started = Command(process)
    try:
        yield started
    finally:
        started.kill()
        await started.ended()
