"""How much voting is usual in a community, and whose votes may say so.

Owns the yardstick of every cap: a few regulars do most of the rating anywhere, so a median over everybody is that of
members who voted once, and can be set by accounts made for it. Knows counts and ages; not votes, nor who is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.learning.examples import RaterFacts
    from models.learning.vote_table import Flags, Floats

NEW_ACCOUNT_DAYS, NEW_MEMBER_DAYS = 30.0, 7.0
NEW_INFLUENCE, NEW_TOGETHER = 0.5, 0.2  # of each new account; of all of them in the mass that counts
PROVEN_VOTES = 8  # below, whether someone votes right is a guess (chance alone: 1 of 26 who toss coins gets 7 right)
MIN_PROVEN = 6  # fewer say nothing of what is usual; a night takes seven voices at least (15 % each)


def is_new(fact: RaterFacts | None) -> bool:
    """Tell whether an account or a membership is too new to count in full; a trusted rater's never is."""
    if fact is None or fact.trusted:
        return False
    ages = ((fact.account_age_days, NEW_ACCOUNT_DAYS), (fact.membership_days, NEW_MEMBER_DAYS))
    return any(age is not None and age < limit for age, limit in ages)


def proven(counts: Floats, new: Flags) -> Flags:
    """Tell which voices (voices,) may say how much is usual: who isn't new and said something PROVEN_VOTES times.

    Where they are fewer than MIN_PROVEN, all who aren't new; where everybody is new, everybody.
    """
    old = ~new if not new.all() else np.ones_like(new)
    regular = old & (counts >= PROVEN_VOTES)
    return regular if np.count_nonzero(regular) >= MIN_PROVEN else old


def new_held_back(mass: Floats, new: Flags) -> Floats:
    """Return what each voice holds (voices,), the new ones' lowered alike until they have at most NEW_TOGETHER of all.

    Where everybody is new, nobody's is.
    """
    theirs, others = float(mass[new].sum()), float(mass[~new].sum())
    allowed = NEW_TOGETHER / (1 - NEW_TOGETHER) * others
    return np.where(new, mass * allowed / theirs, mass) if theirs > allowed and not new.all() else mass
