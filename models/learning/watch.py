"""`python -m models.learning.watch`: judge a canary; its ratings come as JSON on standard input, its verdict goes out.

A process of its own, some seconds every few minutes while a canary runs: serving never loads scipy. Owns the two JSON
forms; `models.learning.canary` judges.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from models.arms import Arm, CanaryRating, CanaryVerdict, Decision


def question(ratings: Iterable[CanaryRating]) -> str:
    return json.dumps([asdict(rating) for rating in ratings])


def answer(text: str) -> CanaryVerdict:
    """Read a verdict. Raises ValueError, KeyError or TypeError for anything else."""
    fields: dict[str, Any] = json.loads(text)
    rates, conversations = tuple(fields["rates"]), tuple(fields["conversations"])
    return CanaryVerdict(
        **{**fields, "decision": Decision(fields["decision"]), "rates": rates, "conversations": conversations}
    )


def main() -> None:
    from models.learning.canary import decide

    ratings = [CanaryRating(**{**fields, "arm": Arm(fields["arm"])}) for fields in json.load(sys.stdin)]
    json.dump(asdict(decide(ratings)), sys.stdout)


if __name__ == "__main__":
    main()
