"""Numbers in sentences, as a night's report, card and progress say them."""

from __future__ import annotations


def counted(count: float, noun: str) -> str:
    """Return "1 reply", "1,204 replies", "0 votes"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,.0f} {noun if count == 1 else plural}"
