"""Which adapter answers where: the same for one conversation, as many as the share says, logged with the reply."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.arms import Arms, choose
from bot.records import Ask, Provenance
from models.adapters import Canary, Serving
from models.arms import Arm
from tests.bot.learning import ended_reply
from tests.bot.stores import Clock, opened

CANARY = Serving("old", Canary("new", 0.2, 1.0))


def _ask(message_id: int, channel_id: int = 70, variant: int = 0, conversation_id: str | None = None) -> Ask:
    return Ask(message_id, channel_id, 7, 1, Provenance.DEMO, variant, conversation_id=conversation_id)


def test_without_a_canary_there_is_no_arm() -> None:
    choice = choose("talk", Serving("old"))
    assert choice.adapter == "old"
    assert (choice.placement.conversation_id, choice.placement.arm, choice.placement.canary) == ("talk", None, None)


def test_share_of_the_conversations_goes_to_the_canary_with_its_propensity() -> None:
    choices = [choose(f"talk {number}", CANARY) for number in range(4000)]
    new = [choice for choice in choices if choice.adapter == "new"]
    assert 0.17 < len(new) / len(choices) < 0.23
    assert {(choice.placement.arm, choice.placement.propensity) for choice in new} == {(Arm.CANDIDATE, 0.2)}
    old = [choice for choice in choices if choice.adapter == "old"]
    assert len(old) + len(new) == 4000
    assert {(choice.placement.arm, choice.placement.propensity) for choice in old} == {(Arm.INCUMBENT, 0.8)}


def test_two_canaries_draw_their_conversations_independently() -> None:
    other = Serving("old", Canary("newer", 0.5, 1.0))
    half = Serving("old", Canary("new", 0.5, 1.0))
    same = sum(choose(f"{n}", other).placement.arm is choose(f"{n}", half).placement.arm for n in range(2000))
    assert 900 < same < 1100


def test_arm_of_a_conversation_is_not_to_be_told_from_the_names_that_members_know() -> None:
    salted = Serving("old", Canary("new", 0.2, 1.0, "secret"))
    same = sum(choose(f"{n}", CANARY).placement.arm is choose(f"{n}", salted).placement.arm for n in range(4000))
    assert 0.65 < same / 4000 < 0.71, "as often as two draws agree: .2 * .2 + .8 * .8"


async def test_talk_in_a_channel_is_one_conversation_until_it_falls_silent(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        arms = Arms(store, lambda: CANARY, clock=clock)
        first = await arms.place(_ask(1))
        clock.now += 20 * 60
        assert await arms.place(_ask(2)) == first
        clock.now += 20 * 60
        assert await arms.place(_ask(3)) == first, "it is the silence that ends it"
        assert (await arms.place(_ask(4, channel_id=71))).placement.conversation_id != first.placement.conversation_id
        clock.now += 31 * 60
        assert (await arms.place(_ask(5))).placement.conversation_id != first.placement.conversation_id


async def test_another_version_stays_in_the_conversation_of_the_first(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        arms = Arms(store, lambda: CANARY, clock=clock)
        first = await arms.place(_ask(1))
        await ended_reply(store, asked=1, placement=first.placement)
        clock.now += 9 * 3600
        assert await arms.place(_ask(1, variant=1)) == first


async def test_ask_that_names_its_conversation_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        arms = Arms(store, lambda: CANARY)
        assert (await arms.place(_ask(1, conversation_id="room"))).placement.conversation_id == "room"


async def test_clock_set_back_begins_a_new_conversation(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        arms = Arms(store, lambda: CANARY, clock=clock)
        first = await arms.place(_ask(1))
        clock.now -= 3600
        assert (await arms.place(_ask(2))).placement.conversation_id != first.placement.conversation_id


async def test_arms_follow_what_is_served(tmp_path: Path) -> None:
    serving = [Serving("old")]
    async with opened(tmp_path) as store:
        arms = Arms(store, lambda: serving[0])
        assert (await arms.place(_ask(1))).adapter == "old"
        serving[0] = Serving()
        assert (await arms.place(_ask(2))).adapter is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_share_that_is_no_trial_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        choose("talk", Serving("old", Canary("new", share, 1.0)))
