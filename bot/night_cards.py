"""What moderators read of learning: where it stands, a night's progress, past nights side by side, the canary's end.

Values in, text out; how a card is sent is `bot.notices`'. The card of one night that ended is `bot.morning_card`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bot.learning_records import LEFT_OUT_DAYS
from models.arms import CanaryVerdict, Decision
from models.learning.naming import ids_in, renamed
from models.learning.words import counted, wanted

if TYPE_CHECKING:
    from bot.learning_records import Night, NightProgress
    from bot.nightly import Compared, NightStatus
    from models.adapters import Serving

BASE, BASE_NAME = "base", "the base model"  # as a rollback names it, as it reads
_BAR = 12  # marks
_ROWS_SHOWN = 30
_CARD_TEXT = 3800  # characters; Discord takes 4096


class Tone(StrEnum):
    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: str
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A title, a text and fields, as an embed shows them. What is too long for Discord is cut where it is sent."""

    title: str
    text: str = ""
    fields: tuple[Field, ...] = ()
    footer: str = ""
    tone: Tone = Tone.PLAIN


def status(now: NightStatus, known: Set[int] = frozenset()) -> Card:
    """Say what is served, what runs, what comes next and how the last night ended; of members, name the `known`."""
    serving = now.serving
    fields = [Field("Serving", _named(serving.adapter), inline=True)]
    if serving.canary is not None:
        told = now.canary.sentence if now.canary else "Nothing can be said of it yet."
        share = f"{_named(serving.canary.adapter)} answers {serving.canary.share * 100:.0f} % of the conversations."
        fields.append(Field("Canary", f"{share} {told}", inline=True))
    fields.append(Field("Next night", _next(now), inline=True))
    if now.running is not None:
        fields.append(Field("Now", progress(now.running).text))
    fields.append(Field("Last night", line(now.last) if now.last else "There was none yet."))
    warnings = [*now.warnings, *left_out(now.last, known)] if now.last else now.warnings
    if warnings:
        fields.append(Field("Warnings", listed(warnings)))
    frozen = "Learning is frozen: no night begins and nothing is promoted until /training unfreeze."
    usual = "Members' ratings are learned from at night; only what is proved better is served."
    return Card("Learning", frozen if now.frozen else usual, tuple(fields), tone=Tone.BAD if warnings else Tone.PLAIN)


def progress(now: NightProgress) -> Card:
    """Show how far a running night is; the time of its last word shows if it hangs."""
    bar = f"{_bar(now.done, now.total)}\n" if now.total > 0 else ""
    return Card(f"Night {now.night_id} is under way", f"{now.sentence}\n{bar}-# Last word from it <t:{int(now.at)}:R>.")


def history(nights: Sequence[Night]) -> Card:
    if not nights:
        return Card("Nights", "There was none yet; /training run begins one.")
    return Card("Nights", "\n".join(line(night) for night in nights), footer="Compare two with /training compare.")


def compare(a: str, b: str, figures: Iterable[Compared]) -> Card:
    """Set the figures of two nights side by side, with what changed from A to B."""
    rows = [(_spoken(f.name), _number(f.a), _number(f.b), _change(f.a, f.b)) for f in figures]
    shown = [("", a, b, "change"), *rows[:_ROWS_SHOWN]]
    widths = [max(len(row[column]) for row in shown) for column in range(4)]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    while len("\n".join(lines)) > _CARD_TEXT:
        lines.pop()
    hidden = len(rows) + 1 - len(lines)
    table = "```\n" + "\n".join(lines) + "\n```" if rows else "Neither night has figures to compare."
    return Card(f"Nights {a} and {b}", table, footer=f"{hidden} further figures are in the reports." if hidden else "")


def refused(reason: str) -> Card:
    """Say why the night that was planned did not begin."""
    return Card("The planned night did not begin", reason, footer="/training status says when the next one is.")


def canary_ended(verdict: CanaryVerdict) -> Card | None:
    """Say that the watch kept the canary or rolled it back; None while it goes on."""
    if verdict.decision is Decision.CONTINUE:
        return None
    if verdict.decision is Decision.KEEP:
        return Card("The canary stays", f"{verdict.sentence} It answers everyone from now on.", tone=Tone.GOOD)
    return Card(
        "The canary was rolled back",
        f"{verdict.sentence} The adapter before it answers everyone again.",
        tone=Tone.BAD,
    )


def rollback_question(serving: Serving, to: str | None) -> str:
    """Ask whether to serve `to` (None: what served before) instead of what is served."""
    wanted = "what answered before" if to is None else _named(None if to == BASE else to)
    return f"Shall {wanted} answer everyone again, at once, instead of {_served(serving)}?"


def rolled_back(who: str, before: Serving, after: Serving) -> Card:
    """Say who took what back."""
    told = f"{who} had {_named(after.adapter)} answer everyone again, instead of {_served(before)}."
    return Card("Rolled back", told)


def ended(night: Night) -> Card:
    """Say in one line what stands in place of a night's progress; its morning card says more."""
    return Card(f"Night {night.id} has ended", line(night))


def line(night: Night) -> str:
    """Say a night in one line."""
    parts = [f"**{night.id}** {_outcome(night)}"]
    if night.adapter:
        parts.append(_named(night.adapter))
    if night.finished_at is not None:
        parts.append(f"took {duration(night.finished_at - night.started_at)}")
    if more := wanted(night.more_ratings_needed, trained=night.has_trained):
        parts.append(more)
    return " · ".join(parts)


def left_out(night: Night, known: Set[int] = frozenset()) -> list[str]:
    """Say whose ratings a night did without, if anybody's, and name the `known` of them."""
    if not night.members_left_out:
        return []
    who = _who(night.members_left_out, known)
    return [
        f"The night {night.id} learned without the ratings of {who}: some were taken back during two nights in a row, "
        f"so that neither could be kept. After {LEFT_OUT_DAYS} days they count again; /raters ban leaves them out for "
        "good."
    ]


def members_named(night: Night) -> set[int]:
    """Return the members whom a night's sentences, warnings and figures name."""
    named = set(night.members_left_out)
    return named.union(*(ids_in(sentence) for sentence in (*night.sentences, *night.warnings)))


def naming(sentence: str, known: Set[int]) -> str:
    """Return a night's sentence that names, of the raters whose ids it lists, the `known`, and counts the others."""
    return renamed(sentence, lambda ids: _who(ids, known))


def plain_line(night: Night) -> str:
    """Say a night in the few words of a list to choose from."""
    return f"{night.id}: {_outcome(night)}"


def duration(seconds: float) -> str:
    """Return "2 hours 5 minutes", "12 minutes", "40 seconds"."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    parts = [f"{count} {unit}{'s' * (count != 1)}" for count, unit in ((hours, "hour"), (minutes, "minute")) if count]
    return " ".join(parts) or f"{whole} second{'s' * (whole != 1)}"


def listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _who(members: Sequence[int], known: Set[int]) -> str:
    """Return "<@1>, <@2> and 3 more", or "5 members" where none is known."""
    names = ", ".join(f"<@{member}>" for member in members if member in known)
    others = sum(member not in known for member in members)
    if not names:
        return counted(others, "member")
    return f"{names} and {others:,} more" if others else names


def _named(adapter: str | None) -> str:
    return f"`{adapter}`" if adapter else BASE_NAME


def _served(serving: Serving) -> str:
    canary = f" and the canary {_named(serving.canary.adapter)}" if serving.canary else ""
    return f"{_named(serving.adapter)}{canary}"


def _outcome(night: Night) -> str:
    return night.outcome.value if night.outcome else night.state.value


def _next(now: NightStatus) -> str:
    if now.next_at is not None:
        return f"<t:{int(now.next_at)}:f>, <t:{int(now.next_at)}:R>"
    return "none while learning is frozen" if now.frozen else "none is planned: NIGHT_HOUR is off, or I can't learn"


def _bar(done: int, total: int) -> str:
    share = min(max(done / total, 0.0), 1.0)
    full = int(share * _BAR)
    return f"{'▰' * full}{'▱' * (_BAR - full)} {done:,} of {total:,}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _change(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    return "0" if b == a else f"{b - a:+,.4g}"
