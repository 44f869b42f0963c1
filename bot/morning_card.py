"""The morning card: one night that ended -> what was learned and from whom, how much better it is, and what follows.

Reads a night's row alone: its sentences are the verdict, its figures what can be counted. Its report and pictures are
attached by who posts it. The words are meant to be read aloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bot import text
from bot.learning_records import NightOutcome, NightState
from bot.night_cards import Card, Field, Tone, duration, listed

if TYPE_CHECKING:
    from bot.learning_records import Night

_TITLES = {
    NightOutcome.PROMOTED: "I learned something, and it is better",
    NightOutcome.REJECTED: "what I tried is not better, so nothing changes",
    NightOutcome.INSUFFICIENT: "not enough evidence yet, so nothing changes",
    NightOutcome.RETRACTED: "a rating was taken back, so I learn anew",
    None: "it failed, so nothing changes",
}
_SENTENCES = 6  # the report has them all
_EXAMPLES = 2
_EXAMPLE_SHOWN = 260  # characters of a prompt or a reply


def morning_card(night: Night) -> Card:
    """Say how a night ended and why, in the words of its job."""
    figures = night.figures
    fields = [Field("Learned from", told) for told in [_learned_from(figures)] if told]
    fields += [Field("Against what answered before", told) for told in [_better_by(figures)] if told]
    fields += [Field(f"The same prompt, before and after ({n})", told) for n, told in enumerate(_examples(figures), 1)]
    if night.more_ratings_needed:
        fields.append(Field("What it takes", f"About {_counted(night.more_ratings_needed, 'more rating')}."))
    if night.warnings:
        fields.append(Field("Look at this", listed(night.warnings[:_SENTENCES])))
    failed = night.state is NightState.FAILED
    bad = failed or bool(night.warnings)
    good = night.outcome is NightOutcome.PROMOTED
    return Card(
        f"Night {night.id}: {_TITLES[None if failed else night.outcome]}",
        " ".join(night.sentences[:1]) + "".join(f"\n- {sentence}" for sentence in night.sentences[1:_SENTENCES]),
        tuple(fields),
        footer=_footer(night),
        tone=Tone.BAD if bad else Tone.GOOD if good else Tone.PLAIN,
    )


def _footer(night: Night) -> str:
    took = f"It took {duration(night.finished_at - night.started_at)}." if night.finished_at is not None else ""
    undo = "/training rollback takes it back." if night.outcome is NightOutcome.PROMOTED else ""
    return " ".join(filter(None, [took, undo]))


def _learned_from(figures: Mapping[str, Any]) -> str:
    """Say whose votes were learned from: "812 votes of 41 members on 300 replies"."""
    votes, raters, replies = (_whole(figures.get(name)) for name in ("votes", "raters", "rated_replies"))
    if votes is None or raters is None:
        return ""
    told = f"{_counted(votes, 'vote')} of {_counted(raters, 'rater')}"
    return f"{told} on {_counted(replies, 'reply')}" if replies is not None else told


def _better_by(figures: Mapping[str, Any]) -> str:
    return ""


def _examples(figures: Mapping[str, Any]) -> list[str]:
    return []


def _whole(value: Any) -> int | None:
    return round(value) if isinstance(value, int | float) and value == value else None


def _counted(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _short(words: str) -> str:
    flat = text.harmless(" ".join(words.split()))
    return flat if len(flat) <= _EXAMPLE_SHOWN else flat[: _EXAMPLE_SHOWN - 1] + "…"
