"""What a member is given of all that is held of them: one JSON object, rows by kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.store import Store


@dataclass(frozen=True, slots=True)
class Export:
    """`data` is UTF-8, `entries` the number of rows in it."""

    data: bytes
    entries: int

    @property
    def told(self) -> str:
        return f"{self.entries:,} entr{'y' if self.entries == 1 else 'ies'}, by kind"


async def export(store: Store, member_id: int) -> Export:
    """Return all that is held of a member. Raises StoreError."""
    held = await store.held(member_id)
    return Export(json.dumps(held, ensure_ascii=False, indent=1).encode(), sum(map(len, held.values())))
