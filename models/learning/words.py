"""Numbers in sentences, as a night's report, card and progress say them."""

from __future__ import annotations


def counted(count: float, noun: str) -> str:
    """Return "1 reply", "1,204 replies", "3 days", "0 votes"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{count:,.0f} {noun if count == 1 else plural}"


def confidence(level: float) -> str:
    """Return in percent how sure a bound is that errs with probability `level`: "95", "97.5", "98.3"."""
    return f"{100 * (1 - level):.3g}"


def wanted(more_ratings: int | None, *, trained: bool) -> str:
    """Say how many more ratings it takes to prove what was `trained`, or to train at all; empty where nobody can."""
    if not more_ratings:
        return ""
    more = counted(more_ratings, "more rating")
    return f"About {more} would settle it." if trained else f"It takes at least {more} to begin."
