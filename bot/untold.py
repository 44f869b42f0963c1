"""What commands such as `encore night` did while the bot was off: kept in the store until moderators can read it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from bot.learning_records import Night
from bot.night_cards import Card
from models.arms import CanaryVerdict
from models.learning import watch

if TYPE_CHECKING:
    from bot.store import Store

_KEY = "untold"  # its name in the store's meta table


class Untold:
    """A queue of nights that ended, of canaries that were ended and of plain cards, the oldest first.

    Of a card title and text are kept. All raise StoreError.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, of: Night | CanaryVerdict | Card) -> None:
        if isinstance(of, Night):
            word = {"night": of.id}
        elif isinstance(of, CanaryVerdict):
            word = {"canary": json.dumps(asdict(of))}
        else:
            word = {"title": of.title, "text": of.text}
        await self._keep([*await self._kept(), word])

    async def first(self) -> Night | CanaryVerdict | Card | None:
        """Return what moderators are to read next, None when there is nothing."""
        while kept := await self._kept():
            if "canary" in kept[0]:
                return watch.answer(kept[0]["canary"])
            if "title" in kept[0]:
                return Card(kept[0]["title"], kept[0]["text"])
            if (night := await self._store.night(kept[0]["night"])) is not None:
                return night
            await self.told()
        return None

    async def told(self) -> None:
        """Take the first away: it was posted."""
        await self._keep((await self._kept())[1:])

    async def _kept(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(await self._store.meta(_KEY) or "[]")
        return found

    async def _keep(self, words: list[dict[str, str]]) -> None:
        await self._store.set_meta(_KEY, json.dumps(words))
