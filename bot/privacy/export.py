"""What a member is given of all that is held of them: one JSON object, rows by kind, their own words among them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.privacy.members import members_by_night
from bot.privacy.own_words import OwnWords
from models.prompt import PromptBuilder
from models.tokenizer import cached

if TYPE_CHECKING:
    from bot.store import Store

_WITH_WORDS = ("replies", "replies_to_others_that_read_you")


@dataclass(frozen=True, slots=True)
class Export:
    """`data` is UTF-8, `entries` the number of rows in it."""

    data: bytes
    entries: int

    @property
    def told(self) -> str:
        return f"{self.entries:,} entr{'y' if self.entries == 1 else 'ies'}, by kind"


async def export(store: Store, member_id: int, *, nights: Path, models: Path) -> Export:
    """Return all that is held of a member. Raises StoreError.

    `nights` is the folder of nights, `models` that of the models: their tokenizers read the prompts that were kept, and
    where one is gone, a reply's `your_words` are null.
    """
    held = await store.held(member_id)

    @cache
    def builder_of(model_sha256: str) -> PromptBuilder | None:
        tokenizer = cached(model_sha256, models)
        return None if tokenizer is None else PromptBuilder(tokenizer)

    own_words = OwnWords(member_id, builder_of)
    for row in (row for table in _WITH_WORDS for row in held[table]):
        reply = await store.reply(row["id"])
        row["your_words"] = None if reply is None else await asyncio.to_thread(own_words.of, reply)
    held["nights_that_hold_you"] = await asyncio.to_thread(_nights, nights, member_id)
    return Export(json.dumps(held, ensure_ascii=False, indent=1).encode(), sum(map(len, held.values())))


def _nights(folder: Path, member_id: int) -> list[dict[str, Any]]:
    """Return the nights whose files hold a member's data; not `certain`: they don't say whose, so they may."""
    by_night = members_by_night(folder)
    return [
        {"night": night, "certain": members is not None}
        for night, members in sorted(by_night.items())
        if members is None or member_id in members
    ]
