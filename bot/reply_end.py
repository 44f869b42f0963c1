"""The end of a reply -> the store, however long that is locked or full; what a member sees has come before."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bot.errors import StoreError

if TYPE_CHECKING:
    from bot.records import Outcome
    from bot.store import Store

log = logging.getLogger(__name__)

_RETRY_SECONDS, _PATIENCE_SECONDS = 1.0, 300.0


async def keep_end(
    store: Store, reply_id: int, message_ids: Sequence[int], outcome: Outcome, *, closing: Callable[[], bool]
) -> None:
    """Note where a reply shows and how it ended, waiting for a store that is locked or full, unless `closing`."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            for part, message_id in enumerate(message_ids):
                await store.attach_message(reply_id, message_id, part)
            await store.finish_reply(reply_id, outcome)
            return
        except StoreError as error:
            if closing() or time.monotonic() > patience:
                log.error("reply %s: its end is not kept, the next start will mark it: %s", reply_id, error)
                return
            log.warning("reply %s: its end is not kept yet: %s", reply_id, error)
        await asyncio.sleep(_RETRY_SECONDS)
