"""What each command of `encore` does, from its options and the settings to its exit code.

Imports heavy modules inside the commands that need them, so that `--help` and `doctor` stay quick. Errors are
`__main__`'s to tell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.console import ModelProgress, TypedLines
from bot.errors import SettingsError, StartError
from bot.learning_records import Cause
from bot.records import Provenance
from models.engines.cores import usable_cores

if TYPE_CHECKING:
    from bot.composition import NightOptions, Services
    from bot.demo.server import DeskOf, FactsOf
    from bot.demo.world import LiveWorld
    from bot.findings import Finding
    from bot.learning_desk import LearningDesk
    from bot.nightly import Nightly
    from bot.settings import Settings
    from bot.store import Store
    from models.loading import LoadedModel

_TERMINAL_EDIT_SECONDS = 0.05  # Discord limits edits; a terminal shows the text as it comes
_STYLES = {"ok": "green", "notice": "cyan", "warning": "yellow", "error": "bold red"}


def demo(options: argparse.Namespace, settings: Settings) -> int:
    """Serve the demo page until stopped; its ratings stay in a database of their own."""
    return until_stopped(_demo(options, settings))


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Run on Discord until stopped."""
    if not settings.discord_token:
        raise SettingsError(
            "DISCORD_TOKEN: it is empty; put your bot's token into .env (the README says where it comes from), "
            "or try `encore demo`, which needs none."
        )
    return until_stopped(_run(settings))


def chat(options: argparse.Namespace, settings: Settings) -> int:
    """Talk in the terminal until /quit, the end of input or a stop."""
    return until_stopped(_chat(options, settings))


def doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Print the findings and return what `encore run` would end with."""
    from bot.doctor import examine
    from bot.findings import as_object, exit_code

    findings = asyncio.run(examine(settings))
    if options.json:
        print(json.dumps(as_object(findings), ensure_ascii=False))
    else:
        _show(findings)
    return exit_code(findings)


def backup(options: argparse.Namespace, settings: Settings) -> int:
    from bot.backups import backup

    asyncio.run(backup(settings.database, options.file, overwrite=options.overwrite))
    print(f"Backed up {settings.database} to {options.file} ({options.file.stat().st_size:,} bytes, checked).")
    return 0


def restore(options: argparse.Namespace, settings: Settings) -> int:
    asyncio.run(_restore(options.file, settings.database))
    return 0


async def _restore(backup: Path, database: Path) -> None:
    from bot.backups import COPY_DAYS, restore
    from bot.privacy.forget import replay
    from bot.privacy.journal import JOURNAL, Journal
    from bot.store import Store

    kept = await restore(backup, database)
    print(f"Restored {database} from {backup}.")
    if kept:
        print(f"The database that was there is kept as {kept} for {COPY_DAYS} days.")
    journal = Journal(database.parent / JOURNAL)
    async with await Store.open(database) as store:
        replayed = await replay(store, journal)
    again = sum(rows is not None for _, rows in replayed.deletions)
    if again:
        print(f"Deleted from it again what members had deleted since the backup ({again} request{'s' * (again > 1)}).")
    if replayed.choices:
        print(f"Brought up to date in it whether members agreed, refused or opted out ({replayed.choices} changed).")
    if kept is None and not await asyncio.to_thread(journal.path.exists):
        print(
            f"There is no {JOURNAL} in {database.parent}. If it comes from another folder, copy that file from there "
            "before the next start: it says what members had deleted, agreed to and refused since the backup."
        )


async def _demo(options: argparse.Namespace, settings: Settings) -> None:
    # SimCord's own client asks for no intents, and discord.py warns of that and of missing voice libraries.
    for name in ("discord.client", "discord.state"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = options.data or settings.data_dir / "demo"
    # There is no portal to switch the intent on, and nothing of the real Discord belongs here.
    settings = replace(settings, discord_token="", discord_api_base="", discord_gateway="", message_content_intent=True)
    # Whoever pressed "Run a night" waits for it, so it may have all that there is.
    settings = replace(settings, night_threads=max(settings.night_threads, usable_cores()[0]))
    if not _is_this_machine(options.host):
        tell(
            f"Warning: with --host {options.host} whoever on your network learns the address can join the demo. "
            "Other machines open it at this machine's own address, not at 127.0.0.1."
        )
    from bot.composition import NightOptions

    # The members' ids are SimCord's and say nothing of the age of an account.
    opening = _opened(
        settings, folder / "encore.sqlite3", "bot.client", "bot.demo.server", nights=NightOptions(snowflakes=False)
    )
    async with opening as (store, model, learning, screening):
        from bot.client import build_bot
        from bot.demo.server import serve

        try:
            await serve(
                build_bot(
                    settings,
                    store,
                    model,
                    learning=learning,
                    screening=screening,
                    provenance=Provenance.DEMO,
                ),
                facts=demo_facts(store, model),
                desk=demo_desk(store, learning.nightly),
                announce=_announce,
                host=options.host,
                port=options.port,
                open_browser=options.browser and _has_display(),
            )
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(
                    f"--host: {options.host} is no address of this machine ({error.strerror}); use 127.0.0.1, or "
                    "0.0.0.0 for every address that it has."
                ) from error
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise StartError(
                f"The demo can't listen on {options.host}, port {options.port} ({error.strerror}): "
                "choose another --port, or 0 for any free one."
            ) from error


def demo_facts(store: Store, model: LoadedModel) -> FactsOf:
    """Return what the demo's page asks for its figures."""
    from bot.demo.server import Facts

    info = model.engine.info

    async def facts(guild_id: int) -> Facts:
        counts = await store.counts(guild_id)
        return Facts(
            replies=counts.replies,
            rated_replies=counts.rated_replies,
            votes_up=counts.votes_up,
            votes_down=counts.votes_down,
            comparisons=counts.comparisons,
            corrections=counts.corrections,
            model=info.model,
            quantization=info.quantization,
            languages=info.languages,
        )

    return facts


def demo_desk(store: Store, nightly: Nightly) -> DeskOf:
    """Return what the demo's page asks for learning."""
    from bot.fans import FanWeek
    from bot.learning_desk import LearningDesk

    async def desk(world: LiveWorld) -> LearningDesk:
        guild_id, bot = world.guild.id, world.bot
        if (await store.server_settings(guild_id)).moderators_channel_id is None:
            await store.change_server_settings(guild_id, bot.user.id, moderators_channel_id=world.mod_room.id)

        def week(seed: int) -> FanWeek:
            return FanWeek(store, bot.responder, bot.ratings, guild_id, seed=seed)

        return LearningDesk(nightly, week=week, learn=lambda: bot.get_cog("Training").shift.learn(Cause.DEMO))

    return desk


async def _run(settings: Settings) -> None:
    async with _opened(settings, settings.database, "bot.client", "bot.gateway") as opened:
        store, model, learning, screening = opened
        from bot import gateway
        from bot.client import build_bot

        bot = build_bot(settings, store, model, learning=learning, screening=screening)
        await gateway.run(bot, settings.discord_token)


async def _chat(options: argparse.Namespace, settings: Settings) -> None:
    settings = replace(settings, edit_interval_seconds=_TERMINAL_EDIT_SECONDS)
    async with _opened(settings, settings.database) as (store, model, learning, screening):
        from bot.responder import Responder
        from bot.terminal import HELP, Terminal, converse

        responder = Responder(store, model, settings=settings, arms=learning.arms, screening=screening)
        lines = TypedLines(sys.stdin)
        try:
            if lines.isatty():
                print(HELP)
            terminal = Terminal(store, responder, out=sys.stdout, name=options.name)
            await converse(terminal, lines, sys.stdout)
        finally:
            lines.close()
            await responder.aclose()


@asynccontextmanager
async def _opened(
    settings: Settings, database: Path, *imports: str, nights: NightOptions | None = None
) -> AsyncIterator[Services]:
    """Open the services, show the progress meanwhile, and say which model and adapter answer."""
    from bot.composition import NightOptions, services
    from models.spec import EMBEDDED_NOTE

    async with AsyncExitStack() as stack:
        with ModelProgress() as progress:
            opening = services(
                settings,
                database=database,
                progress=progress.report,
                imports=imports,
                nights=nights or NightOptions(),
            )
            opened = await stack.enter_async_context(opening)
        if not logging.getLogger("models").isEnabledFor(logging.INFO):  # else the log has it
            info = opened.model.engine.info
            tell(f"Model: {info.model} ({info.quantization}) on {info.device}; {info.reason}.")
            for name in opened.model.engine.adapters:
                tell(f"Adapter: {name}")
        if settings.model == "embedded":
            tell(EMBEDDED_NOTE)
        yield opened


def until_stopped(work: Coroutine[Any, Any, None]) -> int:
    """Run `work` to its end; Ctrl+C or SIGTERM lets it close in order, a second one ends the process at once."""
    stopped = False

    async def supervise() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        def stop() -> None:
            nonlocal stopped
            stopped = True
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            task.cancel()
            tell("Stopping ...")

        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        await asyncio.wait({task})
        if not (stopped and task.cancelled()):
            task.result()

    asyncio.run(supervise())
    return 0


def _announce(address: str) -> None:
    print(f"The demo is open at {address}\nPress Ctrl+C to stop it.", flush=True)


def tell(sentence: str) -> None:
    """Say something on stderr; where nobody reads any more (`encore demo 2>&1 | head`), nothing is lost."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_display() -> bool:
    """Return whether a browser would have a screen: X11 or Wayland, or a system that always has one."""
    if sys.platform in ("win32", "darwin"):
        return not os.environ.keys() & {"SSH_CONNECTION"}
    return bool(os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"})


def _show(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        told = Text(finding.sentence)
        if finding.remedy:
            told.append(f"\n{finding.remedy}", style="dim")
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.check, told)
    Console(highlight=False).print(table)
