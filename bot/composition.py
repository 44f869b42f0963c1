"""What every command opens, in order, and closes in reverse: the store, what screens texts, the model with adapters.

The store comes first: a second Encore on one data folder is refused before it loads a model. Adapters and nights lie
beside the database, so that the demo has its own.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bot.arms import Arms
from bot.night_work import NightRules, NightWork
from bot.nightly import Nightly
from bot.privacy.forget import Forget
from bot.privacy.journal import JOURNAL, Journal
from bot.privacy.retention import Retention
from bot.promotion import Promotion, needed
from bot.screening import Screening
from bot.settings import Settings
from bot.store import Store
from models.adapters import Adapters, Serving
from models.errors import AdapterRefused, ModelError
from models.loading import LoadedModel, load_model
from models.safety_process import open_classifier
from models.spec import ModelSpec, resolve

if TYPE_CHECKING:
    from models.types import Engine

log = logging.getLogger(__name__)

ADAPTERS, NIGHTS = "adapters", "nights"  # folders beside the database

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Learning:
    """The services of learning and unlearning on one data folder."""

    nightly: Nightly
    arms: Arms
    forget: Forget
    retention: Retention


class Services(NamedTuple):
    store: Store
    model: LoadedModel
    learning: Learning
    screening: Screening


@dataclass(frozen=True, slots=True)
class NightOptions:
    """How nights differ: the demo's are short and its members' ids no snowflakes; `command` is for tests."""

    rules: NightRules | None = None
    snowflakes: bool = True
    command: Sequence[str] | None = None


@asynccontextmanager
async def services(
    settings: Settings,
    *,
    database: Path,
    progress: Progress,
    imports: tuple[str, ...] = (),
    nights: NightOptions = NightOptions(),
) -> AsyncIterator[Services]:
    """Open the store at `database` and load the model of `settings` with what it learned; close both at the end.

    What members had deleted is gone from it by then, also where a kill or a restored backup left it. `imports` names
    modules that the caller needs next: they are imported while the model loads. Raises StoreError and ModelError; a
    damaged adapter isn't one, something older answers instead.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await Store.open(database))
        classifier = await stack.enter_async_context(open_classifier(settings.safety_model))
        loading = _with_adapters(settings, database.parent / ADAPTERS, progress)
        (model, adapters, healed), _ = await asyncio.gather(loading, asyncio.to_thread(_import, imports))
        stack.push_async_callback(model.aclose)
        built = _learning(settings, store, model.spec, database, adapters, healed, model.engine, nights)
        await built.forget.finish_all()  # before anything is read or said that a member wanted gone
        yield Services(store, model, built, Screening(classifier))


async def learning(
    settings: Settings, store: Store, *, database: Path, progress: Progress, nights: NightOptions = NightOptions()
) -> Learning:
    """Build what a command needs to learn, unlearn or roll back while nothing is served, as `services` does.

    Raises StoreError, ModelError.
    """
    spec = await asyncio.to_thread(resolve, settings.model, settings.models_dir, progress=progress)
    adapters = Adapters(database.parent / ADAPTERS, spec.sha256)
    healed = await asyncio.to_thread(_heal, adapters, spec)
    built = _learning(settings, store, spec, database, adapters, healed, None, nights)
    await built.forget.finish_all()
    return built


class _Healed(NamedTuple):
    serving: Serving
    warnings: tuple[str, ...]


def _heal(adapters: Adapters, spec: ModelSpec) -> _Healed:
    if spec.path is None:  # it can't serve any, and what another model serves is left as it is
        return _Healed(Serving(), ())
    try:
        healed = _Healed(*adapters.heal())
    except (ModelError, OSError) as error:
        healed = _Healed(Serving(), (f"The adapters can't be read ({error}); the base model answers until a restart.",))
    for warning in healed.warnings:
        log.warning("%s", warning)
    return healed


async def _with_adapters(settings: Settings, folder: Path, progress: Progress) -> tuple[LoadedModel, Adapters, _Healed]:
    """Load the model with the adapters that answer, without any where the engine refuses them."""
    spec = await asyncio.to_thread(resolve, settings.model, settings.models_dir, progress=progress)
    adapters = Adapters(folder, spec.sha256)
    healed = await asyncio.to_thread(_heal, adapters, spec)
    while True:
        try:
            paths = {name: adapters.gguf(name) for name in sorted(needed(healed.serving))}
            model = await load_model(
                settings.model,
                cache_dir=settings.models_dir,
                context_tokens=settings.context_tokens,
                slots=settings.parallel_streams,
                queue_limit=settings.queue_limit,
                threads=settings.threads,
                kv_cache=settings.kv_cache,
                prompt_cache_mib=settings.prompt_cache_mib,
                adapters=paths,
                progress=progress,
            )
        except AdapterRefused as error:
            if not needed(healed.serving):
                raise
            log.warning("%s The base model answers.", error)
            base = await asyncio.to_thread(adapters.rollback, None)
            healed = _Healed(base, (*healed.warnings, f"{error} The base model answers."))
        else:
            return model, adapters, healed


def _learning(
    settings: Settings,
    store: Store,
    spec: ModelSpec,
    database: Path,
    adapters: Adapters,
    healed: _Healed,
    engine: Engine | None,
    nights: NightOptions,
) -> Learning:
    folder = database.parent / NIGHTS
    promotion = Promotion(
        store,
        adapters,
        healed.serving,
        engine=engine,
        share=settings.canary_share,
        keep=settings.keep_adapters,
        warnings=healed.warnings,
        nights=folder,
    )
    work = NightWork(
        store,
        spec,
        promotion,
        settings,
        folder=folder,
        rules=nights.rules,
        snowflakes=nights.snowflakes,
        command=nights.command,
    )
    nightly = Nightly(store, work, promotion, hour=settings.night_hour)
    journal = Journal(database.parent / JOURNAL)
    return Learning(
        nightly,
        Arms(store, lambda: promotion.serving),
        Forget(store, journal, nightly, promotion, nights=folder),
        Retention(store, settings, nights=folder),
    )


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)
