"""Forgetting a member: their rows, their words in others' prompts, the nights that read them, the adapters of these.

Owns the order, by which a deletion that was acknowledged is finished whenever the process is killed: the journal first,
then the database, then files and adapters, each step good to be done twice. A night's folder says in members.json whose
data it holds; one that doesn't say is taken to hold everybody's.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.database import explained
from bot.privacy.members import members_of
from models.learning.files import sync_folder

if TYPE_CHECKING:
    from bot.nightly import Nightly
    from bot.privacy.journal import Deletion, Journal
    from bot.promotion import Promotion
    from bot.store import Store

log = logging.getLogger(__name__)

_REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a request came to. `rows` counts by table; None: they were gone already, or weren't asked to go."""

    rows: dict[str, int] | None = None
    nights: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    serving: str | None = None  # what answers now; None is the base
    changed: bool = False  # what answers was changed for it
    failures: tuple[str, ...] = ()


class Forget:
    """Built by `bot.composition`; `journal` lies beside the database, so a copy of that alone forgets nothing."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        nightly: Nightly,
        promotion: Promotion,
        *,
        nights: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._journal = journal
        self._nightly = nightly
        self._promotion = promotion
        self._nights = nights
        self._clock = clock
        self._alone = asyncio.Lock()

    async def delete(self, member_id: int) -> Receipt:
        """Forget a member. Once this has begun it will be finished, at the next start at the latest.

        Raises StoreError: the request couldn't be written down, and nothing has happened, or it is finished later.
        """
        with explained(self._journal.path):
            deletion = await asyncio.to_thread(self._journal.add, member_id, now=self._clock())
        return await self._finish(deletion)

    async def unlearn(self, member_id: int) -> Receipt:
        """Take a member's data out of what was learned, after their consent is withdrawn; their rows stay."""
        async with self._alone:
            return await self._unlearn(member_id, None)

    async def finish_all(self) -> list[Receipt]:
        """Finish what the last process left, and what a restored database has forgotten.

        Call once at the start, before anything is read or served. Raises StoreError, ModelError.
        """
        return [await self._finish(deletion) for deletion in await _left(self._store, self._journal)]

    async def _finish(self, deletion: Deletion) -> Receipt:
        async with self._alone:
            rows = await self._store.erase(deletion)
            receipt = await self._unlearn(deletion.member_id, rows)
            if not receipt.failures:
                await self._store.finish_deletion(deletion.id)
            log.info("deletion %s: %d nights, %d adapters", deletion.id, len(receipt.nights), len(receipt.adapters))
            return receipt

    async def _unlearn(self, member_id: int, rows: dict[str, int] | None) -> Receipt:
        nights = await asyncio.to_thread(self._holding, member_id)
        await self._nightly.abandon(nights)
        gone = await self._promotion.retire(lambda night: night in nights or not self._says_whose(night))
        removed, failures = await asyncio.to_thread(self._remove, nights)
        if gone.adapters:
            await self._nightly.repeat()
        return Receipt(rows, tuple(removed), gone.adapters, gone.serving, gone.changed, (*gone.failures, *failures))

    def _holding(self, member_id: int) -> set[str]:
        found = self._nights.iterdir() if self._nights.is_dir() else ()
        folders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
        return {path.name for path in folders if (ids := members_of(path)) is None or member_id in ids}

    def _says_whose(self, night: str) -> bool:
        return members_of(self._nights / Path(night).name) is not None

    def _remove(self, nights: Collection[str]) -> tuple[list[str], list[str]]:
        removed, failures = [], []
        for left in self._nights.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for night in sorted(nights):
            folder = self._nights / night
            try:
                away = self._nights / f"{_REMOVED}{night}"
                shutil.rmtree(away, ignore_errors=True)
                folder.replace(away)
                sync_folder(self._nights)
                shutil.rmtree(away)
            except FileNotFoundError:
                continue
            except OSError as error:
                failures.append(f"The folder of the night {night} could not be removed ({error.strerror}).")
            else:
                removed.append(night)
        return removed, failures


async def erase_again(store: Store, journal: Journal) -> int:
    """Delete the rows that a restored database brought back, and return of how many requests; the start does the rest.

    Raises StoreError.
    """
    erased = [await store.erase(deletion) for deletion in await _left(store, journal)]
    return sum(rows is not None for rows in erased)


async def _left(store: Store, journal: Journal) -> list[Deletion]:
    with explained(journal.path):
        requests = await asyncio.to_thread(journal.read)
    return await store.unfinished_deletions(requests)
