"""What the tests of privacy share: a stand-in for what forgets."""

from __future__ import annotations

from bot.privacy.forget import Receipt


class FakeForget:
    """Answers with `receipt` and notes whom it was asked to forget or to unlearn."""

    def __init__(self, receipt: Receipt | None = None) -> None:
        self.receipt = receipt or Receipt()
        self.deleted: list[int] = []
        self.unlearned: list[int] = []

    async def delete(self, member_id: int) -> Receipt:
        self.deleted.append(member_id)
        return self.receipt

    async def unlearn(self, member_id: int) -> Receipt:
        self.unlearned.append(member_id)
        return self.receipt
