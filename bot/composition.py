"""What every serving command opens, in order, and closes in reverse: the store, then the model.

The store comes first: a second Encore on one data folder is refused before it loads a model.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from bot.settings import Settings
from bot.store import Store
from models.loading import LoadedModel, load_model


class Services(NamedTuple):
    store: Store
    model: LoadedModel


@asynccontextmanager
async def services(
    settings: Settings, *, database: Path, progress: Callable[[str, int, int], None], imports: tuple[str, ...] = ()
) -> AsyncIterator[Services]:
    """Open the store at `database` and load the model of `settings`; close both at the end.

    `imports` names modules that the caller needs next: they are imported while the model loads. Raises StoreError and
    ModelError.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await Store.open(database))
        loading = load_model(
            settings.model,
            cache_dir=settings.models_dir,
            context_tokens=settings.context_tokens,
            slots=settings.parallel_streams,
            queue_limit=settings.queue_limit,
            threads=settings.threads,
            kv_cache=settings.kv_cache,
            prompt_cache_mib=settings.prompt_cache_mib,
            progress=progress,
        )
        model, _ = await asyncio.gather(loading, asyncio.to_thread(_import, imports))
        stack.push_async_callback(model.aclose)
        yield Services(store, model)


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)
