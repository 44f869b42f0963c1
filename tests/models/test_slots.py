from __future__ import annotations

import asyncio

from models.engines.slots import Slots

SYSTEM = tuple(range(50))
ANN, BASE = ("ann", 1.0), (None, 1.0)


def ended() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def test_conversation_keeps_its_slot() -> None:
    slots = Slots(3)
    first = (*SYSTEM, *range(100, 200))
    chosen = slots.take(BASE, first, ended())
    slots.take(BASE, (*SYSTEM, *range(300, 400)), ended())
    assert slots.take(BASE, (*first, 7, 8, 9), ended()) == chosen
    assert slots.take(BASE, first, ended()) == chosen


def test_other_conversation_with_the_same_system_prompt_takes_another_slot() -> None:
    slots = Slots(2)
    taken = [slots.take(BASE, (*SYSTEM, *range(start, start + 100)), ended()) for start in (100, 300)]
    assert sorted(taken) == [0, 1]


def test_same_prompt_under_another_adapter_or_scale_takes_another_slot() -> None:
    slots = Slots(3)
    taken = [slots.take(reader, SYSTEM, ended()) for reader in (BASE, ANN, ("ann", 0.5))]
    assert sorted(taken) == [0, 1, 2]
    assert [slots.take(reader, SYSTEM, ended()) for reader in (BASE, ANN, ("ann", 0.5))] == taken


def test_slot_that_was_unused_for_longest_is_taken_for_what_is_new() -> None:
    slots = Slots(2)
    old, new = [slots.take(BASE, (*range(start, start + 100),), ended()) for start in (0, 100)]
    slots.take(BASE, tuple(range(100)), ended())
    assert slots.take(BASE, tuple(range(200, 300)), ended()) == new
    assert slots.take(ANN, tuple(range(100)), ended()) == old


def test_slot_that_generates_is_left_alone_while_another_is_free() -> None:
    slots = Slots(2)
    running = asyncio.Event()
    busy = slots.take(BASE, SYSTEM, running)
    assert slots.take(BASE, SYSTEM, ended()) != busy
    running.set()
    assert slots.take(ANN, SYSTEM, ended()) == busy


def test_requests_beyond_the_slots_are_spread_over_them() -> None:
    slots = Slots(2)
    taken = [slots.take(BASE, SYSTEM, asyncio.Event()) for _ in range(4)]
    assert sorted(taken) == [0, 0, 1, 1]
