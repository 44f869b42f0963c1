"""What the last night thought of one rater, in sentences for the moderators of one server.

Finds the night and says what its files hold; what moderators decided since is told beside it. Of other servers' votes
and raters it gives numbers alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.learning_records import NightState
from bot.night_cards import Field
from models.errors import ModelError
from models.learning.judgement import JudgedVote, Judgement, read_judgement
from models.learning.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.learning_records import Night
    from bot.nightly import Nightly
    from bot.store import Store
    from bot.store_raters import RaterRow

NO_NIGHT = "No night has weighed any votes yet, so there is nothing to explain; /training status says when one comes."
NO_LEARNING = "I don't learn here, so no votes are weighed."
NEVER_KNOWN = (
    "knew no vote of theirs: they hadn't rated by then, or what they rate may not teach me (/privacy says why)."
)
_NIGHTS_LOOKED_AT = 30
_NAMED = 10  # raters who vote as one
# A night that was refused early has weighed nothing, and what it weighed goes with what members take back.
_MISSING = (OSError, ValueError, KeyError, TypeError, ModelError)


@dataclass(frozen=True, slots=True)
class Judged:
    """The newest night that weighed votes, and what it thought of the rater; None: it knew nothing of theirs."""

    night: Night
    judgement: Judgement | None


async def last_judgement(nightly: Nightly, member_id: int) -> Judged | None:
    """Return what the newest night that weighed votes thought of a member. Raises StoreError."""
    for night in await nightly.history(_NIGHTS_LOOKED_AT):
        if night.state is NightState.RUNNING:
            continue
        try:
            found = await asyncio.to_thread(read_judgement, nightly.folder(night), member_id)
        except _MISSING:
            continue
        return Judged(night, found)
    return None


async def explain(store: Store, guild_id: int, member_id: int, judged: Judged) -> tuple[str, tuple[Field, ...]]:
    """Say what a night thought of a member, as a server's moderators may know it: in a sentence, and the details."""
    night, judgement = judged.night, judged.judgement
    if judgement is None:
        return f"The night {night.id}, the last that weighed votes, {NEVER_KNOWN}", ()
    told = f"This is what the night {night.id}, the last that weighed votes, made of theirs."
    if judgement.frozen:
        told += " It learned nothing from anybody's: those who vote against the others had too much weight in it."
    here = await store.replies_of_server(guild_id, {vote.reply_id for vote in judgement.votes})
    votes = [vote for vote in judgement.votes if vote.reply_id in here]
    known = await store.known_raters(guild_id, judgement.group)
    return told, (
        Field(f"Votes on replies here: {len(votes)}", "\n".join(_votes(votes, len(judgement.votes) - len(votes)))),
        Field("What a vote of theirs counted", "\n".join(_weight(judgement, sorted(known - {member_id})))),
    )


def standing(rater: RaterRow | None) -> str:
    """Say in a few words how a rater stands now, as moderators decided it; empty for any member."""
    if rater is None:
        return ""
    if rater.banned:
        return "banned"
    if rater.trust_given is not None:
        return "trusted by moderators" if rater.trust_given else "distrusted: counts as any member"
    return "trusted as a moderator" if rater.trusted else ""


def _votes(here: list[JudgedVote], elsewhere: int) -> Iterable[str]:
    ups = sum(vote.up for vote in here)
    yield f"{ups} up, {len(here) - ups} down." if here else "It knew none."
    decided = [vote for vote in here if vote.good is not None]
    if decided:
        agreed = sum(vote.up is vote.good for vote in decided)
        yield f"{agreed} of {len(decided)} agree with the night's own judgement, made from all votes and labels."
    labelled = [vote for vote in here if vote.gold is not None]
    right = sum(vote.up is vote.gold for vote in labelled)
    if labelled:
        yield f"Where the reply has a gold label, {right} were right and {len(labelled) - right} wrong."
    elif here:
        yield "None of these replies has a gold label."
    if own := sum(vote.own_prompt for vote in here):
        yield f"{own} of {len(here)} are on answers to their own prompts; such a vote counts half at most."
    if elsewhere:
        told = "1 more vote is" if elsewhere == 1 else f"{elsewhere} more votes are"
        yield f"{told} on replies of other servers, or on ones that are gone by now; what follows rests on them too."


def _weight(judgement: Judgement, named: list[int]) -> Iterable[str]:
    """Say what one vote counted and why, with the raters of this server who vote as one with this rater."""
    fact = judgement.fact
    if fact.banned:
        yield "Nothing, as they were banned from voting."
        return
    if judgement.accuracy is None:
        yield "Nothing, as none was weighed."
        return
    turned = "; that is below half, so it was read the other way round" if judgement.accuracy < 0.5 else ""
    yield f"It was taken to be right {judgement.accuracy:.0%} of the time{turned}."
    if fact.trusted:
        yield "They counted as trusted: taken to be honest unless their votes say otherwise."
    if judgement.influence >= 1:
        yield "It counted in full; no cap was reached."
        return
    yield f"It counted {_share(judgement.influence)} of a full one:"
    size = len(judgement.group)
    if size:
        names = [f"<@{rater}>" for rater in named[:_NAMED]]
        if others := size - 1 - len(names):
            names.append(f"{others} who {'is' if others == 1 else 'are'} not named here")
        with_whom = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        yield f"- They vote as one with {with_whom}; together they count as one rater."
    if judgement.is_new:
        ages = [("account", fact.account_age_days), ("membership", fact.membership_days)]
        told = " and ".join(f"the {what} {counted(int(days), 'day')}" for what, days in ages if days is not None)
        yield f"- They were new ({told} old); a new rater's vote counts half, and all new ones share a small part."
    if judgement.influence * max(size, 1) < 1 and not judgement.is_new:
        yield "- They reached the cap on influence: they vote far more than most, so each of their votes counts less."


def _share(influence: float) -> str:
    """Return a share below 1 as a percentage, without the 0% and 100% that it isn't."""
    return "less than 1%" if influence < 0.01 else f"{min(influence, 0.99):.0%}"
