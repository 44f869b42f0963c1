"""`python -m models.learning.watch [FOLDER]`: judge a canary; its ratings come as JSON on standard input.

The verdict goes to standard output. After that the night's FOLDER, if it is named, gets canary.json (when each
conversation was first rated, by which arm and how well: no ids) and its report is drawn anew.

A process of its own, some seconds every few minutes while a canary runs: serving never loads scipy. Owns the two JSON
forms; `models.learning.canary` judges.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
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


def main(arguments: Sequence[str]) -> None:
    from models.learning.canary import decide, heard

    ratings = list(heard(CanaryRating(**{**fields, "arm": Arm(fields["arm"])}) for fields in json.load(sys.stdin)))
    verdict = decide(ratings)
    json.dump(asdict(verdict), sys.stdout)
    sys.stdout.flush()
    if arguments:
        show(Path(arguments[0]), ratings, verdict)


def show(folder: Path, ratings: Iterable[CanaryRating], verdict: CanaryVerdict) -> None:
    """Draw the canary into the report of its night. Raises OSError where the folder has no night."""
    from models.learning.report import write_report
    from models.learning.story import CanaryPoint, CanaryStory
    from models.learning.story_files import read_story, write_canary

    story = read_story(folder)
    rated: dict[str, list[CanaryRating]] = {}
    for rating in sorted(ratings, key=lambda one: one.rated_at):
        rated.setdefault(rating.conversation_id, []).append(rating)
    points = tuple(
        CanaryPoint(of[0].rated_at, of[0].arm is Arm.CANDIDATE, sum(one.good for one in of) / len(of))
        for of in rated.values()
    )
    told = CanaryStory(verdict.decision.value, verdict.probability_worse, verdict.sentence, points)
    write_canary(folder, told)
    write_report(folder, replace(story, canary=told))


if __name__ == "__main__":
    main(sys.argv[1:])
