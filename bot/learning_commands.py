"""What the commands of learning do: `encore night`, `import`, `prompts import` and `rollback`.

As `bot.commands`: heavy modules are imported inside, errors are `__main__`'s to tell. They need the data folder to
themselves; where Encore runs on it, they name the slash command that does the same.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bot import night_cards
from bot.commands import tell, until_stopped
from bot.console import ModelProgress, NightBar
from bot.errors import AdapterChangeRefused, StartError, StoreBusy
from bot.learning_records import Cause, Night, NightOutcome, NightState
from models.learning.words import wanted

if TYPE_CHECKING:
    from bot.composition import Learning
    from bot.settings import Settings
    from bot.store import Store
    from models.adapters import Serving
    from models.arms import CanaryVerdict

_OPERATOR = 0  # the actor of what is done at the terminal
_LINES_NAMED = 5


def night(options: argparse.Namespace, settings: Settings) -> int:
    """Run one night; 0 when it came to an end, promoted or not, or was stopped in order, 1 when it failed.

    Moderators get its card, and that of a canary that it ended, when Encore runs again.
    """
    ended: list[Night] = []

    async def work() -> None:
        async with open_learning(settings, "/training run") as learning:
            untold = learning.nightly.untold

            async def canary_ended(verdict: CanaryVerdict) -> None:
                await untold.add(verdict)
                if (card := night_cards.canary_ended(verdict)) is not None:
                    print(f"{card.title}. {card.text}")

            with NightBar() as bar:
                ended.append(await learning.nightly.run(Cause.COMMAND, bar.report, on_canary=canary_ended))
            _tell_night(ended[0], learning.nightly.report(ended[0]))
            if ended[0].outcome is NightOutcome.PROMOTED:
                print(_serves((await learning.nightly.status()).serving))
            await untold.add(ended[0])

    until_stopped(work())
    if not ended:
        tell("The night isn't over: it goes on with the next `encore night`, or when Encore runs.")
        return 0
    return 0 if ended[0].state is NightState.FINISHED else 1


def rollback(options: argparse.Namespace, settings: Settings) -> int:
    """Serve an adapter again; moderators read of it when Encore runs again."""
    asyncio.run(_rollback(options.adapter, settings))
    return 0


def import_file(options: argparse.Namespace, settings: Settings) -> int:
    """Take rated replies and pairs from a file, all or none."""
    asyncio.run(_import_file(options.file, settings, skip_bad=options.skip_bad))
    return 0


def import_prompts(options: argparse.Namespace, settings: Settings) -> int:
    """Take prompts for the rating rooms from a file, all or none."""
    asyncio.run(_import_prompts(options.file, settings))
    return 0


async def _rollback(to: str | None, settings: Settings) -> None:
    async with open_learning(settings, "/training rollback") as learning:
        before = (await learning.nightly.status()).serving
        try:
            serving = await learning.nightly.rollback(to, _OPERATOR)
        except AdapterChangeRefused as error:
            known = ", ".join(learning.nightly.adapters())
            listed = (
                f"Adapters of this model, the newest first: {known}." if known else "This model has no adapters yet."
            )
            raise StartError(f"{error} {listed}") from error
        print(_serves(serving))
        await learning.nightly.untold.add(night_cards.rolled_back("The operator, at the terminal,", before, serving))


async def _import_file(path: Path, settings: Settings, *, skip_bad: bool) -> None:
    from bot.importer import read_import
    from models.prompt import PROMPT_VERSION, PromptBuilder
    from models.spec import resolve
    from models.tokenizer import prepare

    async with open_store(settings, "stop it, and import again") as store:
        with ModelProgress() as progress:
            spec = await asyncio.to_thread(resolve, settings.model, settings.models_dir, progress=progress.report)
            tokenizer = await asyncio.to_thread(prepare, spec, settings.models_dir, progress=progress.report)
        imported = await asyncio.to_thread(
            read_import,
            path,
            tokenizer,
            PromptBuilder(tokenizer),
            system=settings.system_prompt,
            context_tokens=settings.context_tokens,
            skip_bad=skip_bad,
        )
        kept = await store.add_import(
            imported, model=spec.name, model_sha256=spec.sha256, prompt_version=PROMPT_VERSION
        )
    if imported.ignored_keys:
        tell(f"Ignored keys: {', '.join(imported.ignored_keys)}.")
    if imported.left_out:
        told = [f"line {one.line} ({one.sentence.rstrip('.')})" for one in imported.left_out[:_LINES_NAMED]]
        rest = [f"{len(imported.left_out) - len(told):,} more"] if len(imported.left_out) > len(told) else []
        tell(f"Left out {_count(len(imported.left_out), 'line', 'lines')}: {', '.join((*told, *rest))}.")
    if kept is None:
        print(f"{path} was imported before; nothing was added.")
        return
    replies, pairs = _count(len(imported.replies), "reply", "replies"), _count(imported.pairs, "pair", "pairs")
    known = f" ({kept.known:,} of them known already)" if kept.known else ""
    counts = f"{_count(imported.lines, 'line', 'lines')}: {replies}{known}, {pairs}"
    print(f"Imported {path}, {counts}. The next night may learn from them.")


async def _import_prompts(path: Path, settings: Settings) -> None:
    from bot.importer import read_prompts

    prompts = await asyncio.to_thread(read_prompts, path)
    async with open_store(settings, "stop it, and import again") as store:
        added = await store.add_prompts(prompts)
        total, _ = await store.count_prompts()
    new = _count(added, "prompt", "prompts") if added else "no new prompts"
    print(f"Added {new} of {path}; there are {total:,} now. /room start lets members rate the answers.")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _serves(serving: Serving) -> str:
    answers = f"the adapter {serving.adapter}" if serving.adapter else "the model without an adapter"
    if serving.canary is None:
        return f"From the next start on, {answers} answers."
    share = f"{serving.canary.share:.0%} of the conversations"
    return f"From the next start on, {serving.canary.adapter} answers {share} and {answers} the others."


def _tell_night(ended: Night, report: Path | None) -> None:
    outcome = ended.outcome.value if ended.outcome else ended.state.value
    print(f"Night {ended.id}: {outcome}.")
    for sentence in (*ended.sentences, *ended.warnings, *night_cards.left_out(ended)):
        print(f"- {sentence}")
    if more := wanted(ended.more_ratings_needed, trained=ended.has_trained):
        print(f"- {more}")
    if report is not None:
        print(f"The report is {report}")


@asynccontextmanager
async def open_learning(settings: Settings, slash_command: str) -> AsyncIterator[Learning]:
    """Open what learning needs, on a folder where no Encore runs; else `slash_command` is what does the same there."""
    from bot.composition import learning

    async with open_store(settings, f"use {slash_command} there, or stop it") as store:
        with ModelProgress() as progress:
            opened = await learning(settings, store, database=settings.database, progress=progress.report)
        yield opened


@asynccontextmanager
async def open_store(settings: Settings, remedy: str) -> AsyncIterator[Store]:
    """Open the store; raises StartError with `remedy` where another Encore has it."""
    from bot.store import Store

    try:
        store = await Store.open(settings.database)
    except StoreBusy as error:
        raise StartError(f"Encore runs on {settings.data_dir}: {remedy}.") from error
    async with store:
        yield store
