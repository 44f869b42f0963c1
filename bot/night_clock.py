"""When nights are due: once a day at an hour of the local clock, whatever that clock does.

Pure functions of times; who asks them keeps what was begun. A night is known by its *occurrence*, the moment at which
it was planned: a clock set back, by an hour or by the end of summer time, then never makes a night twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_DAY_SECONDS = 86_400.0


def occurrence(now: float, *, hour: int, timezone: tzinfo | None = None) -> float:
    """Return the latest time up to `now` at which it was `hour` o'clock in `timezone` (None: this machine's).

    Where the clock skips the hour, it is the moment after the gap; where it shows the hour twice, the first time.
    """
    today = datetime.fromtimestamp(now, UTC).astimezone(timezone).date()
    for days in (1, 0, -1, -2):
        at = _at(datetime.combine(today + timedelta(days=days), datetime.min.time()).replace(hour=hour), timezone)
        if at <= now:
            return at
    raise AssertionError("a day is never two days long")


def next_at(now: float, *, hour: int, timezone: tzinfo | None = None) -> float:
    """Return the first time after `now` at which it is `hour` o'clock in `timezone` (None: this machine's)."""
    at = occurrence(now, hour=hour, timezone=timezone)
    # A day is 23 to 25 hours long, so the occurrence before 26 hours later is the next one.
    return occurrence(at + 26 * 3600.0, hour=hour, timezone=timezone)


def corrected(begun: float, now: float) -> float:
    """Return the occurrence begun last, or `now` where that is too far ahead: the clock was wrong when it was noted."""
    return now if begun > now + _DAY_SECONDS else begun


def _at(wall: datetime, timezone: tzinfo | None) -> float:
    """Return when a clock in `timezone` shows `wall`."""
    # A naive time means this machine's zone; both read a skipped hour with the offset before the gap.
    return (wall if timezone is None else wall.replace(tzinfo=timezone)).timestamp()
