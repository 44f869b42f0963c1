"""What members ask for, done: consent, opting out, and forgetting: rows, words in others' prompts, nights, adapters.

Owns the order, by which a request that was acknowledged is finished whenever the process is killed: the journal first,
then the database, then files and adapters, each step good to be done twice. A night's folder says in members.json whose
data it holds; one that doesn't say is taken to hold everybody's.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bot.backups import kept_aside
from bot.database import explained
from bot.privacy.journal import RequestKind
from bot.privacy.members import members_by_night, members_of
from models.learning.files import sync_folder

if TYPE_CHECKING:
    from bot.nightly import Nightly
    from bot.privacy.journal import Journal, Request
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
    learns_anew: bool = False  # a night comes by itself, in the place of those that went
    failures: tuple[str, ...] = ()
    copies: tuple[Path, ...] = ()  # of the database, kept aside, which a deletion doesn't reach


@dataclass(frozen=True, slots=True)
class Replayed:
    """What of the journal a database had still to do: its unfinished deletions with the rows that went (None: gone
    already), and how many of members' choices weren't as they had left them."""

    deletions: tuple[tuple[Request, dict[str, int] | None], ...]
    choices: int


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
        self._rows = asyncio.Lock()  # the database changes in the journal's order
        self._alone = asyncio.Lock()

    async def give_consent(self, member_id: int) -> bool:
        """Have a member's ratings teach; return False when they had agreed already. Raises StoreError as `delete`."""
        return await self._choose(member_id, RequestKind.GIVE)

    async def withdraw_consent(self, member_id: int) -> Receipt:
        """Have a member teach nothing, and take out what was learned from them; their rows stay.

        Good to be asked again: what couldn't be removed yet is tried again. Raises StoreError as `delete`.
        """
        await self._choose(member_id, RequestKind.WITHDRAW)
        return await self._unlearn({member_id})

    async def opt_out(self, member_id: int) -> Receipt:
        """Have nothing of a member read, kept or learned, as `withdraw_consent` does; their consent is over."""
        await self._choose(member_id, RequestKind.OPT_OUT)
        await self._end_consent(member_id)
        return await self._unlearn({member_id})

    async def opt_in(self, member_id: int) -> bool:
        """Return False when the member hadn't opted out. Raises StoreError as `delete`."""
        if member_id in await self._store.opted_out():
            await self._end_consent(member_id)  # which a kill, or an earlier version, left at the opt-out
        return await self._choose(member_id, RequestKind.OPT_IN)

    async def delete(self, member_id: int) -> Receipt:
        """Forget a member. Once this has begun it will be finished, at the next start at the latest.

        Raises StoreError: the request couldn't be written down, and nothing has happened, or it is finished later.
        """
        async with self._rows:
            deletion = await self._note(member_id, RequestKind.DELETE)
            rows = await self._store.erase(deletion)
        copies = await asyncio.to_thread(kept_aside, self._store.path)
        return replace(await self._finish(deletion, rows), copies=tuple(copies))

    async def finish_all(self) -> list[Receipt]:
        """Finish what the last process left, and what a restored database has forgotten.

        A withdrawal is finished when no night holds data of who stands as refusing. Call once at the start, before
        anything is read or served. Raises StoreError, ModelError.
        """
        async with self._rows:
            replayed = await replay(self._store, self._journal)
        receipts = [await self._finish(deletion, rows) for deletion, rows in replayed.deletions]
        if refusing := await self._store.refusing():
            receipt = await self._unlearn(refusing)
            if receipt.nights or receipt.adapters or receipt.failures:
                log.info("withdrawals: %d nights, %d adapters", len(receipt.nights), len(receipt.adapters))
                receipts.append(receipt)
        return receipts

    async def _end_consent(self, member_id: int) -> None:
        if (await self._store.consent(member_id)).given:
            await self._choose(member_id, RequestKind.WITHDRAW)

    async def _choose(self, member_id: int, kind: RequestKind) -> bool:
        async with self._rows:
            return await self._store.keep_choice(await self._note(member_id, kind))

    async def _note(self, member_id: int, kind: RequestKind) -> Request:
        with explained(self._journal.path):
            return await asyncio.to_thread(self._journal.add, member_id, kind, now=self._clock())

    async def _finish(self, deletion: Request, rows: dict[str, int] | None) -> Receipt:
        receipt = await self._unlearn({deletion.member_id}, rows)
        if not receipt.failures:
            await self._store.finish_deletion(deletion.id)
        log.info("deletion %s: %d nights, %d adapters", deletion.id, len(receipt.nights), len(receipt.adapters))
        return receipt

    async def _unlearn(self, members: Set[int], rows: dict[str, int] | None = None) -> Receipt:
        async with self._alone:
            async with self._nightly.collecting:
                nights = await asyncio.to_thread(self._holding, members)
            await self._nightly.abandon(nights)
            gone = await self._promotion.retire(lambda night: night in nights or not self._says_whose(night))
            removed, failures = await asyncio.to_thread(self._remove, nights)
            receipt = Receipt(
                rows, tuple(removed), gone.adapters, gone.serving, gone.changed, failures=(*gone.failures, *failures)
            )
            if not gone.adapters:
                return receipt
            await self._nightly.repeat()
            return replace(receipt, learns_anew=await self._nightly.next_at() is not None)

    def _holding(self, members: Set[int]) -> set[str]:
        by_night = members_by_night(self._nights)
        return {night for night, ids in by_night.items() if ids is None or not ids.isdisjoint(members)}

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


async def replay(store: Store, journal: Journal) -> Replayed:
    """Do to a database, in the order in which members asked, what it hasn't done or has forgotten of the journal.

    Rows alone: nights and adapters are the start's. Raises StoreError.
    """
    with explained(journal.path):
        requests = await asyncio.to_thread(journal.read)
    left = {deletion.id for deletion in await store.unfinished_deletions(requests)}
    deletions, choices = [], 0
    for request in requests:
        if request.kind is not RequestKind.DELETE:
            choices += await store.keep_choice(request)
        elif request.id in left:
            deletions.append((request, await store.erase(request)))
    return Replayed(tuple(deletions), choices)
