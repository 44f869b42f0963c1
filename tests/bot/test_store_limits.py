"""What members and channels used of today's budgets, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.moderation.limits import Count, Scope
from bot.store import Store
from tests.bot.stores import Clock, opened

MEI, CHANNEL, DAY = 11, 70, 20_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=Clock()) as store:
        yield store


def used(scope: Scope, subject: int, *, day: int = DAY, messages: int = 1, guild: int = 7) -> Count:
    return Count(guild, scope, subject, day, messages, 100 * messages)


async def test_newest_count_of_a_subject_is_kept_by_server(store: Store) -> None:
    await store.keep_usage([used(Scope.MEMBER, MEI), used(Scope.CHANNEL, CHANNEL)])
    await store.keep_usage([used(Scope.MEMBER, MEI, messages=3), used(Scope.MEMBER, MEI, guild=8)])
    assert await store.usage(DAY) == [
        used(Scope.MEMBER, MEI, messages=3),
        used(Scope.MEMBER, MEI, guild=8),
        used(Scope.CHANNEL, CHANNEL),
    ]


async def test_earlier_days_are_removed(store: Store) -> None:
    await store.keep_usage([used(Scope.MEMBER, MEI), used(Scope.CHANNEL, CHANNEL, day=DAY - 1)])
    assert await store.usage(DAY) == [used(Scope.MEMBER, MEI)]
    assert await store.usage(DAY + 1) == []
    assert await store.usage(DAY) == []


async def test_nothing_is_counted_of_who_opted_out(store: Store) -> None:
    await store.opt_out(MEI, True)
    await store.keep_usage([used(Scope.MEMBER, MEI), used(Scope.CHANNEL, CHANNEL)])
    assert await store.usage(DAY) == [used(Scope.CHANNEL, CHANNEL)]
