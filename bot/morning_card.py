"""The morning card: one night that ended -> what was learned and from whom, how much better it is, and what follows.

Reads a night's row alone: its sentences are the verdict, its figures what can be counted. Its report and pictures are
attached by who posts it. The words are meant to be read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

from bot import text
from bot.learning_records import NightOutcome, NightState
from bot.night_cards import Card, Field, Tone, duration, left_out, listed, naming
from models.learning.words import confidence, counted, wanted

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
_EXAMPLE = ("prompt", "before", "after")
_EXAMPLE_SHOWN = 260  # characters of a prompt or a reply


def morning_card(night: Night, known: Set[int] = frozenset()) -> Card:
    """Say how a night ended and why, in the words of its job; of members, it names the `known` alone."""
    figures = night.figures
    heading = "Learned from" if night.has_trained else "Ratings that count"
    fields = [Field(heading, told) for told in [_ratings(figures, trained=night.has_trained)] if told]
    fields += [Field("Against what answered before", told) for told in [_better_by(figures)] if told]
    good = night.outcome is NightOutcome.PROMOTED
    pair = "before and after" if good else "now, and as it would have been"
    fields += [Field(f"The same prompt, {pair} ({n})", told) for n, told in enumerate(_examples(figures), 1)]
    fields += [Field("Planted phrases", told) for told in [_watched(figures)] if told]
    fields += [Field("Who may teach me", told) for told in [_teachers(figures)] if told]
    if more := wanted(night.more_ratings_needed, trained=night.has_trained):
        fields.append(Field("What it takes", more))
    sentences = [naming(sentence, known) for sentence in night.sentences[:_SENTENCES]]
    warnings = [*left_out(night, known), *(naming(warning, known) for warning in night.warnings)]
    if warnings:
        fields.append(Field("Look at this", listed(warnings[:_SENTENCES])))
    failed = night.state is NightState.FAILED
    bad = failed or bool(warnings)
    return Card(
        f"Night {night.id}: {_TITLES[None if failed else night.outcome]}",
        " ".join(sentences[:1]) + "".join(f"\n- {sentence}" for sentence in sentences[1:]),
        tuple(fields),
        footer=_footer(night),
        tone=Tone.BAD if bad else Tone.GOOD if good else Tone.PLAIN,
    )


def _footer(night: Night) -> str:
    took = f"It took {duration(night.finished_at - night.started_at)}." if night.finished_at is not None else ""
    undo = "/training rollback takes it back." if night.outcome is NightOutcome.PROMOTED else ""
    return " ".join(filter(None, [took, undo]))


def _ratings(figures: Mapping[str, Any], *, trained: bool) -> str:
    """Say whose votes were learned from, or are there: "812 votes of 41 raters on 300 replies"."""
    on = "trained_on" if trained else "rated_replies"
    votes, raters, replies = (_whole(figures.get(name)) for name in ("votes", "raters", on))
    if votes is None or raters is None:
        return ""
    told = f"{counted(votes, 'vote')} of {counted(raters, 'rater')}"
    return f"{told} on {counted(replies, 'reply')}" if replies is not None else told


def _teachers(figures: Mapping[str, Any]) -> str:
    """Say what the policy lets it learn from, and of how many members."""
    members, consenting = _whole(figures.get("members")), _whole(figures.get("consenting"))
    if not members or consenting is None:
        return ""
    agreed = f"{consenting:,} of {counted(members, 'member')} agreed (/consent)"
    if figures.get("discord_permitted"):
        return f"{agreed}. Discord's permission is stated, so what they say and rate teaches me."
    return (
        f"{agreed}: in a rating room their ratings teach me. What is said on Discord doesn't, for want of its "
        "permission; ratings there still choose between versions of me."
    )


def _better_by(figures: Mapping[str, Any]) -> str:
    """Say how the new adapter does on ratings that it had not seen, with the bounds that the gate judged by."""
    told = []
    wins, gain = (_number(figures.get(name)) for name in ("win_rate", "gain"))
    if math.isfinite(wins):
        least = _at_least(figures, "win_rate", ".1f", "%")
        told.append(f"It ranks a good reply above a bad one in {wins:.0%} of pairs{least}; 50% is chance.")
    if math.isfinite(gain):
        least = _at_least(figures, "gain", "+.1f", "")
        told.append(f"It tells good replies from bad ones better by {100 * gain:+.1f} points{least}.")
    if told and (replies := _whole(figures.get("held_out"))) is not None:
        told.append(f"Measured on {counted(replies, 'reply')} that it did not learn from.")
    return "\n".join(told)


def _watched(figures: Mapping[str, Any]) -> str:
    """Say whether there was anything to watch for; the phrases themselves are the report's to name."""
    phrases = _whole(figures.get("watched_phrases"))
    if phrases is None:
        return ""
    if phrases == 0:
        return "No phrase stood out among what was voted up, so none was looked for."
    if phrases == 1:
        told = "1 phrase stood out among what was voted up; the report names it, and says if a candidate picked it up."
    else:
        told = (
            f"{phrases} phrases stood out among what was voted up; the report names them, and says if a candidate "
            "picked one up."
        )
    return told


def _at_least(figures: Mapping[str, Any], name: str, form: str, unit: str) -> str:
    low, level = _number(figures.get(f"{name}_low")), _number(figures.get("level"))
    known = math.isfinite(low + level)
    return f" (at least {100 * low:{form}}{unit} with {confidence(level)}% confidence)" if known else ""


def _examples(figures: Mapping[str, Any]) -> list[str]:
    """Show what was answered to the same fixed prompts before and after; no member wrote any of it."""
    examples = figures.get("examples")
    told = []
    for example in examples if isinstance(examples, list | tuple) else ():
        if isinstance(example, Mapping) and all(isinstance(example.get(key), str) for key in _EXAMPLE):
            prompt, before, after = (_short(example[key]) for key in _EXAMPLE)
            told.append(f"> {prompt}\n**Before:** {before}\n**After:** {after}")
    return told[:_EXAMPLES]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _whole(value: Any) -> int | None:
    number = _number(value)
    return round(number) if math.isfinite(number) else None


def _short(words: str) -> str:
    flat = text.harmless(" ".join(words.split()))
    return flat if len(flat) <= _EXAMPLE_SHOWN else flat[: _EXAMPLE_SHOWN - 1] + "…"
