"""How much a night's time is enough to train on, by the pace of this machine: measured once a night, and kept.

Owns the file train/pace.json. A night that is resumed reads it back, for what a candidate learns from must not hang on
how busy the machine is then. Which replies these tokens are spent on is train.py's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from models.learning.batches import pack, packs, truncated
from models.learning.files import read_json, write_json
from models.learning.torch_model import fresh_adapter, sums

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.learning.batches import Tokens
    from models.learning.context import Context
    from models.learning.train import TrainRules

PACE = "pace.json"
SHARE = 0.6  # of the time left is training's; reading the held-out replies and the fixed prompts takes the rest
# What a token trained on costs together with the base's reading of it, z0 and anchors, in its own cost: measured on the
# embedded model it was 1.6 for KTO and 1.1 for SFT.
_BESIDE = 1.5
_SAMPLE = 8  # sequences
_LEAST_SECONDS = 1e-6  # a clock may stand still


def tokens_in_time(
    context: Context, demands: Sequence[int], sequences: Sequence[Tokens], rules: TrainRules, folder: Path
) -> int | None:
    """Return how many tokens no run of the night may exceed for all to end in time; None: there is time for all.

    `demands` are the tokens that each would be trained on, `folder` has the runs. The first time it takes two passes
    over a row of the `sequences`. Raises LimitReached, OSError.
    """
    path = folder / PACE
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        most: int | None = read_json(path)["most_tokens"]
        return most
    seconds = SHARE * context.seconds_left
    most = shared(int(seconds * tokens_per_second(context, sequences, rules) / _BESIDE), demands)
    write_json(path, {"most_tokens": most})
    return most


def shared(total: int, demands: Sequence[int]) -> int | None:
    """Return the most that any may have so that all have no more than `total`; None where that is enough for all.

    >>> shared(100, [20, 60, 90]), shared(170, [20, 60, 90])
    (40, None)
    """
    for place, demand in enumerate(sorted(demands)):
        share = total // (len(demands) - place)
        if demand > share:
            return share
        total -= demand
    return None


def tokens_per_second(context: Context, sequences: Sequence[Tokens], rules: TrainRules) -> float:
    """Train on one row of the sequences, with an adapter that is thrown away, and return the pace of it."""
    sample = [truncated(one, rules.max_tokens) for one in sequences[:: max(1, len(sequences) // _SAMPLE)]]
    row = [sample[place] for place in packs([(one,) for one in sample], tokens_per_batch=rules.tokens_per_batch)[0]]
    packed = pack(row)
    model = fresh_adapter(context.base, rank=rules.rank, alpha=rules.alpha, seed=0)
    took = []
    try:
        for _ in range(2):  # the first pass reads the weights from the disk, and either may be disturbed
            context.tell(0, 0, "Trying how fast this machine trains.")
            before = context.seconds_left
            sums(model, packed).sum().backward()
            took.append(before - context.seconds_left)
    finally:
        model.unload()
    return sum(len(one.ids) for one in row) / max(min(took), _LEAST_SECONDS)
