"""What the tests of privacy share: a stand-in for what forgets, and the deletion of a member's rows."""

from __future__ import annotations

import time
from typing import Any, Self

from bot.privacy.forget import Receipt
from bot.privacy.journal import Request
from bot.store import Store


async def delete_data(store: Store, member: Any) -> None:
    """Delete a member's rows, as /mydata delete does."""
    await store.erase(Request(f"d{member.id}", member.id, time.time()))


class FakeForget:
    """Keeps members' choices in a store, answers with `receipt`, and notes whom it was asked to forget and unlearn."""

    store: Store

    def __init__(self, receipt: Receipt | None = None) -> None:
        self.receipt = receipt or Receipt()
        self.deleted: list[int] = []
        self.unlearned: list[int] = []

    def on(self, store: Store) -> Self:
        self.store = store
        return self

    async def give_consent(self, member_id: int) -> bool:
        return await self.store.give_consent(member_id)

    async def withdraw_consent(self, member_id: int) -> Receipt:
        await self.store.withdraw_consent(member_id)
        self.unlearned.append(member_id)
        return self.receipt

    async def opt_out(self, member_id: int) -> Receipt:
        await self.store.opt_out(member_id, True)
        if (await self.store.consent(member_id)).given:
            await self.store.withdraw_consent(member_id)
        self.unlearned.append(member_id)
        return self.receipt

    async def opt_in(self, member_id: int) -> bool:
        return await self.store.opt_out(member_id, False)

    async def delete(self, member_id: int) -> Receipt:
        self.deleted.append(member_id)
        return self.receipt
