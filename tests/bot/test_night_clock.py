"""When nights are due, on clocks that skip an hour, repeat one, or are set back."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.night_clock import corrected, next_at, occurrence

BERLIN, SHANGHAI, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("Pacific/Apia")
DAY = 86_400.0


def at(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def test_a_night_is_planned_at_the_local_hour() -> None:
    now = at("2026-06-10T13:00")
    assert occurrence(now, hour=4, timezone=BERLIN) == at("2026-06-10T04:00")
    assert next_at(now, hour=4, timezone=BERLIN) == at("2026-06-11T04:00")
    assert next_at(now, hour=23, timezone=BERLIN) == at("2026-06-10T23:00")
    assert next_at(now, hour=4, timezone=SHANGHAI) == at("2026-06-11T04:00", SHANGHAI)


def test_the_moment_itself_is_this_occurrence_and_not_the_next() -> None:
    now = at("2026-06-10T04:00")
    assert occurrence(now, hour=4, timezone=BERLIN) == now
    assert occurrence(now - 1, hour=4, timezone=BERLIN) == at("2026-06-09T04:00")
    assert next_at(now, hour=4, timezone=BERLIN) == at("2026-06-11T04:00")


def test_a_skipped_hour_is_the_moment_after_the_gap() -> None:
    # In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026.
    gap = at("2026-03-29T03:00")
    assert next_at(at("2026-03-28T12:00"), hour=2, timezone=BERLIN) == gap
    assert next_at(gap, hour=2, timezone=BERLIN) == at("2026-03-30T02:00")


def test_a_repeated_hour_makes_one_night() -> None:
    # In Berlin 02:00 to 03:00 comes twice on 25 October 2026.
    first, second = at("2026-10-25T02:00"), at("2026-10-25T02:00", fold=1)
    assert second - first == 3600
    assert next_at(at("2026-10-24T12:00"), hour=2, timezone=BERLIN) == first
    for moment in (first, first + 1800, second, second + 1800):
        assert occurrence(moment, hour=2, timezone=BERLIN) == first
    assert next_at(second, hour=2, timezone=BERLIN) == at("2026-10-26T02:00")


@pytest.mark.parametrize("zone", [BERLIN, SHANGHAI, APIA, ZoneInfo("America/St_Johns"), None])
@given(now=st.floats(0, 2e9), hour=st.integers(0, 23))
def test_each_occurrence_leads_to_the_next(zone: ZoneInfo | None, now: float, hour: int) -> None:
    before, after = occurrence(now, hour=hour, timezone=zone), next_at(now, hour=hour, timezone=zone)
    assert before <= now < after
    assert after - before <= 2 * DAY + 3600  # Apia once left out a day
    assert occurrence(after, hour=hour, timezone=zone) == after


def test_a_night_noted_in_the_far_future_is_corrected_and_one_of_today_is_kept() -> None:
    now = at("2026-06-10T13:00")
    assert corrected(now + 365 * DAY, now) == now
    assert corrected(now + 3600, now) == now + 3600
    assert corrected(now - 5 * DAY, now) == now - 5 * DAY
