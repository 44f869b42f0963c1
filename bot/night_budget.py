"""How long a night has worked, over all its attempts: spent.json in its folder, which a kill sets back by seconds.

Owns the count alone; NIGHT_LIMIT_HOURS is kept by the night's job and by `bot.night_job`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from models.learning.files import read_json, write_json

log = logging.getLogger(__name__)

SPENT = "spent.json"
_KEPT_EVERY_SECONDS = 20.0


def spent_seconds(folder: Path) -> float:
    """Return how long the night of a folder has worked; 0 where nothing is kept."""
    try:
        return max(0.0, float(read_json(folder / SPENT)["seconds"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


@asynccontextmanager
async def spending(folder: Path, *, every_seconds: float = _KEPT_EVERY_SECONDS) -> AsyncIterator[None]:
    """Count the time in the block as work of the night, kept every `every_seconds` and at the end."""
    before, began = await asyncio.to_thread(spent_seconds, folder), time.monotonic()

    async def keep() -> None:
        try:
            spent = {"seconds": round(before + time.monotonic() - began, 3)}
            await asyncio.to_thread(write_json, folder / SPENT, spent)
        except OSError as error:  # a full disk ends the night by itself
            log.warning("%s: how long the night worked is not kept: %s", folder.name, error)

    async def keep_on() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            await keep()

    keeping = asyncio.create_task(keep_on(), name="night budget")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.shield(keep())
