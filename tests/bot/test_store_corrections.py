"""Comparisons of two versions, corrections, and the counts of a server."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bot.errors import StoreError
from bot.records import Correction, Preference, ReplyCounts
from tests.bot.stores import Clock, add, new_reply, opened


async def test_preference_of_a_pair_is_one_however_it_was_shown(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await new_reply(store, 1), await new_reply(store, 2)
        await store.record_preference(first, second, 3, Preference.A)
        await store.record_preference(second, first, 4, Preference.A)
        await store.record_preference(second, first, 5, Preference.BOTH)
        assert await store.preferences(first, second) == {3: Preference.A, 4: Preference.B, 5: Preference.BOTH}
        assert await store.preferences(second, first) == {3: Preference.B, 4: Preference.A, 5: Preference.BOTH}
        await store.record_preference(second, first, 3, Preference.NEITHER)
        assert (await store.preferences(first, second))[3] is Preference.NEITHER


async def test_preference_needs_two_replies(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        with pytest.raises(StoreError):
            await store.record_preference(reply_id, reply_id, 3, Preference.A)
        with pytest.raises(StoreError):
            await store.record_preference(reply_id, 404, 3, Preference.A)


async def test_correction_replaces_the_same_members_earlier_one(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        reply_id = await new_reply(store, 1)
        await store.add_correction(Correction(reply_id, 3, ("rude",), "first", ""))
        clock.now += 1
        other = Correction(reply_id, 4, (), "", "应该说“你好” \ud83d\udc4d")
        await store.add_correction(other)
        clock.now += 1
        latest = Correction(reply_id, 3, ("wrong", "太长"), "second\ud800", "hello")
        await store.add_correction(latest)
        assert await store.corrections(reply_id) == [
            dataclasses.replace(other, should_have_said="应该说“你好” 👍"),
            dataclasses.replace(latest, comment="second\ufffd"),
        ]


async def test_counts_are_of_one_server(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await new_reply(store, 1), await new_reply(store, 2)
        await new_reply(store, 3)
        private = await new_reply(store, 4, guild_id=None)
        await store.apply_reactions([add(1, 3), add(1, 4, "👎", -1.0), add(2, 3), add(2, 3, "👎", -1.0)])
        await store.cast_vote(private, 9, "button", 1.0)
        await store.record_preference(first, second, 3, Preference.A)
        await store.add_correction(Correction(first, 3, (), "", "x"))
        assert await store.counts(7) == ReplyCounts(3, 2, 1, 2, 2, 1, 1)
        assert await store.counts(None) == ReplyCounts(1, 1, 1, 0, 1, 0, 0)
        assert await store.counts(8) == ReplyCounts(0, 0, 0, 0, 0, 0, 0)
