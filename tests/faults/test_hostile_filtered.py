"""Hostile messages through the filter and the limits, as a server has them, with words listed that all of them use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.moderation.blocklist import LANGUAGES
from bot.moderation.check import check_answer
from bot.moderation.findings import Action, Audience, Finding, Policy
from bot.moderation.leak import PromptLeak
from bot.moderation.limits import Admission
from bot.moderation.normalise import Forms
from bot.screening import Screening
from bot.settings import Settings
from tests.bot.test_screening import Embedded
from tests.faults.hostile import messages
from tests.faults.hostile_world import (
    ANSWER_TOKENS,
    CHANNELS,
    NAMES,
    Watch,
    in_larger_pieces,
    names_in,
    put,
    talk_all_over,
)
from tests.world import SayingEngine, World, live_world

MESSAGES, SEED = 600, 20260802
LISTED = ["repeat", "今天天气", "assistant"]
A_DAY, TRIED = 20, 30  # messages that one member may send, and does


@pytest.fixture
def screening() -> Screening:
    return Screening(Embedded())


@pytest.fixture
async def world(tmp_path: Path, screening: Screening, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(SayingEngine, "_answer", in_larger_pieces)
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=0.05, history_messages=3, message_content_intent=True)
    async with live_world(
        tmp_path, settings=settings, screening=screening, context_tokens=65536, slots=CHANNELS, keep_messages=50
    ) as world:
        await world.allow_long_answers(ANSWER_TOKENS)
        await world.store.change_server_settings(
            world.guild.id, world.moderator.id, quotas={}, filter_words=LISTED, filter_lists=list(LANGUAGES)
        )
        yield world


def to_hide(policy: Policy, system_prompt: str) -> Callable[[str], list[Finding]]:
    """Return what finds in a text all that the policy hides of answers."""
    leak = PromptLeak(system_prompt, policy.prompt_overlap)

    def found(text: str) -> list[Finding]:
        findings = check_answer(Forms(text), policy, [leak])
        return [finding for finding in findings if policy.answers.get(finding.category) is Action.HIDE]

    return found


async def test_hostile_messages_do_not_get_past_the_filter(
    world: World, screening: Screening, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    policy = await screening.policy(await world.store.server_settings(world.guild.id), Audience.GENERAL)
    watch = Watch(world, hides=to_hide(policy, world.settings.system_prompt))
    world.backend.watchers.append(watch)
    asked = await talk_all_over(world, watch, messages(MESSAGES, SEED, **names_in(world)))
    answered = await world.store._database.read("SELECT state, finish_reason FROM replies")
    assert watch.wrong == []
    assert len(asked) == MESSAGES, "each was answered, or told why not"
    assert len(answered) < MESSAGES * 3 // 4, "many never came before the model"
    assert sum(str(reason).startswith("hidden:") for _, reason in answered) > MESSAGES // 100, (
        "many began and were cut off"
    )
    assert {state for state, _ in answered} == {"done", "stopped"}
    assert [record.getMessage() for record in caplog.records] == []


async def test_hostile_messages_do_not_get_past_the_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.store.change_server_settings(
        world.guild.id, world.moderator.id, quotas={"member": {"messages_per_day": A_DAY}}
    )
    watch = Watch(world)
    world.backend.watchers.append(watch)
    admit, admitted = world.bot.gate.admit, []

    def noted(*given: Any) -> Any:
        admitted.append(found := admit(*given))
        return found

    monkeypatch.setattr(world.bot.gate, "admit", noted)
    member = world.guild.add_member(world.env.create_user("flood", global_name=NAMES[1]))
    chat: Any = world.bot.get_cog("Chat")
    sent = []
    for number, (_, text) in enumerate(messages(TRIED, SEED, **names_in(world)), 1):
        sent.append(await put(world, member, world.general, text))
        await world.eventually(lambda number=number: len(admitted) == number and not chat._tasks)
    assert [isinstance(found, Admission) for found in admitted] == [True] * A_DAY + [False] * (TRIED - A_DAY)
    told = [message_id for message_id in sent if watch.done.get(message_id)]
    assert told == sent[: A_DAY + 1], "the first that is too much is told so, the others nothing"
    assert watch.wrong == []
