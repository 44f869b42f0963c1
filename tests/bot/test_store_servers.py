"""What a server's moderators set, their audit, and what the bot notes of itself."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from bot.records import DEFAULT_EMOJI, ServerSettings
from models.types import Sampling
from tests.bot.stores import Clock, opened


async def test_settings_are_defaults_until_changed_and_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.server_settings(7) == ServerSettings()
        changed = await store.change_server_settings(7, 9, paused=True, temperature=0.1, emoji={"🎉": 2.0}, seed=0)
        assert changed == ServerSettings(paused=True, sampling=Sampling(temperature=0.1), emoji={"🎉": 2.0}, seed=0)
        assert await store.server_settings(7) == changed
        assert await store.server_settings(None) == ServerSettings()
    async with opened(tmp_path) as store:
        assert await store.server_settings(7) == changed
        assert (await store.server_settings(None)).emoji == DEFAULT_EMOJI


async def test_settings_of_direct_messages_are_guild_zero(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.change_server_settings(None, 9, system_prompt="你是一只猫")
        assert (await store.server_settings(0)).system_prompt == "你是一只猫"
        assert [entry.guild_id for entry in await store.audit(None, 5)] == [None]


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await asyncio.gather(
            store.change_server_settings(7, 1, temperature=0.3),
            store.change_server_settings(7, 2, top_p=0.4),
            store.change_server_settings(7, 3, seed=5),
            store.server_settings(7),
        )
        assert await store.server_settings(7) == ServerSettings(sampling=Sampling(temperature=0.3, top_p=0.4), seed=5)


async def test_whole_sampling_may_be_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        sampling = Sampling(0.1, 0.2, 0.3, 1.4, 5, 6)
        assert (await store.change_server_settings(7, 1, sampling=sampling)).sampling == sampling
        assert (await store.change_server_settings(7, 1, top_p=0.9)).sampling == dataclasses.replace(
            sampling, top_p=0.9
        )


async def test_each_real_change_is_audited_with_it_in_one_transaction(tmp_path: Path) -> None:
    clock = Clock(100.0)
    async with opened(tmp_path, clock=clock) as store:
        await store.change_server_settings(7, 9, paused=True, temperature=0.8)
        await store.change_server_settings(7, 9, paused=True)  # changes nothing
        with pytest.raises(TypeError):
            await store.change_server_settings(7, 9, paused=False, colour="red")
        assert (await store.server_settings(7)).paused
        (entry,) = await store.audit(7, 10)
        assert (entry.actor_id, entry.action, entry.detail, entry.created_at) == (
            9,
            "settings",
            {"paused": [False, True]},
            100.0,
        )


async def test_free_channels_are_audited_once_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.add_free_channel(7, 70, 9)
        assert not await store.add_free_channel(7, 70, 9)
        assert await store.add_free_channel(8, 80, 9)
        assert await store.free_channels(7) == {70}
        assert await store.remove_free_channel(7, 70, 9)
        assert not await store.remove_free_channel(7, 70, 9)
        assert await store.free_channels(7) == set()
        found = [(entry.action, entry.detail) for entry in await store.audit(7, 10)]
        assert found == [("channels remove", {"channel_id": 70}), ("channels add", {"channel_id": 70})]


async def test_audit_is_newest_first_and_limited(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(5):
            await store.add_audit(7, 9, "note", {"number": number, "text": "中\ud800"})
        assert [entry.detail["number"] for entry in await store.audit(7, 3)] == [4, 3, 2]
        assert await store.audit(8, 3) == []


async def test_meta_keeps_the_last_value(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.meta("tree") is None
        await store.set_meta("tree", "a")
        await store.set_meta("tree", "b")
    async with opened(tmp_path) as store:
        assert await store.meta("tree") == "b"
