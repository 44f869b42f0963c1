"""From the snapshot to the two sides of a night: what is learned from, and what judges.

Owns the files raters.json, labelled.jsonl, pairs.jsonl and split.json (the last), and whether the night goes on. Who is
believed, what a reply weighs and where the cut lies is decided in raters.py, labels.py and split.py.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.learning import job as jobs
from models.learning.examples import ExamplesDamaged, read_examples, read_pairs, write_examples, write_pairs
from models.learning.files import read_json, write_json
from models.learning.raters import RaterReport, infer
from models.learning.split import MOST_HELD_OUT, split
from models.learning.sufficiency import (
    MIN_EFFECTIVE,
    MIN_OF_A_CLASS,
    MIN_RATERS,
    enough,
    votes_to_begin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.learning.context import Context
    from models.learning.examples import Example, PairExample
    from models.learning.labels import Labels, RatedExample
    from models.learning.snapshot import Snapshot
    from models.learning.split import Split
    from models.learning.verdict import Rules

LABELLED, PAIRS, SPLIT = "labelled.jsonl", "pairs.jsonl", "split.json"


@dataclass(frozen=True, slots=True)
class Sides:
    """The split as the later steps use it. `first_rated_at` is by reply id, of the held out.

    `files` has the sha256 of labelled.jsonl and pairs.jsonl; `figures` counts what was left out.
    """

    cut: float
    training: tuple[Example, ...]
    held_out: tuple[Example, ...]
    pairs: tuple[PairExample, ...]
    first_rated_at: dict[int, float]
    files: dict[str, str]
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why there is no training tonight, and how many more votes it takes at least (None: not a matter of votes)."""

    sentences: tuple[str, ...]
    more_ratings_needed: int | None


def judge_raters(context: Context, snapshot: Snapshot) -> RaterReport:
    """Infer whom to believe, or read it back."""
    path = context.folder / jobs.RATERS
    if path.exists():
        return _report(read_json(path))
    report = infer(snapshot.votes, snapshot.facts, snapshot.gold, seed=context.job.seed)
    fields = asdict(report) | {"clusters": [sorted(cluster) for cluster in report.clusters]}
    write_json(path, fields)
    return report


def shortage(
    snapshot: Snapshot, report: RaterReport, labels: Labels, *, not_before: float | None, rules: Rules
) -> Shortage | None:
    """Tell why tonight's ratings can't be learned from, if so; `not_before` is the incumbent's cut."""
    if report.frozen:
        return Shortage(report.warnings[:1], None)
    weights = {rated.example.reply_id: rated.example.weight for rated in labels.examples}
    p_good = {rated.example.reply_id: rated.example.p_good for rated in labels.examples}
    found = enough(weights, p_good, snapshot.votes, report)
    if found.enough:
        return None
    held = split(labels.examples, (), not_before=not_before, enough=_judges(rules)).held_out
    usable = [rated.example for rated in labels.examples if rated.example.weight > 0]
    missing = _missing_replies(usable, [rated.example for rated in held], rules)
    undecided = len(labels.examples) - len(usable) - len(labels.unsafe_good)
    more = max(votes_to_begin(missing, undecided), MIN_RATERS - found.raters)
    return Shortage(found.reasons, more if more > 0 else None)


def part(
    context: Context,
    snapshot: Snapshot,
    label_all: Callable[[], Labels],
    *,
    not_before: float | None,
    rules: Rules,
) -> Sides:
    """Part the labelled replies, or read back how they were parted. Raises ExamplesDamaged."""
    folder = context.folder
    if not (folder / SPLIT).exists():
        labels = label_all()
        _write(folder, labels, split(labels.examples, labels.pairs, not_before=not_before, enough=_judges(rules)))
    return _read(folder)


def short_held_out(sides: Sides, rules: Rules) -> Shortage | None:
    """Tell whether the held-out replies are too few for any candidate to be proven by them."""
    effective, good, bad = _sample(sides.held_out)
    least = rules.min_replies_of_a_class
    if effective >= rules.min_effective_replies and min(good, bad) >= least:
        return None
    sentence = (
        f"{effective:.0f} effective replies are held out to judge by ({rules.min_effective_replies:.0f} needed), "
        f"{good} good and {bad} bad ({least} of each): nothing could be proven with them, so nothing was trained."
    )
    missing = _missing_replies(
        [*sides.training, *sides.held_out], sides.held_out, rules, waiting=sides.figures["waiting"]
    )
    undecided = sides.figures["left_out"] - sides.figures["left_out_unsafe"]
    return Shortage((sentence,), votes_to_begin(missing, undecided))


def _judges(rules: Rules) -> Callable[[Sequence[RatedExample]], bool]:
    def enough_to_judge(held: Sequence[RatedExample]) -> bool:
        effective, good, bad = _sample([rated.example for rated in held])
        return effective >= rules.min_effective_replies and min(good, bad) >= rules.min_replies_of_a_class

    return enough_to_judge


def _sample(held: Sequence[Example]) -> tuple[float, int, int]:
    """Return Kish's effective number, the good and the bad."""
    weights = [example.weight for example in held]
    good = sum(example.p_good > 0.5 for example in held)
    return (sum(weights) ** 2 / sum(w * w for w in weights) if weights else 0.0), good, len(held) - good


def _missing_replies(usable: Sequence[Example], held: Sequence[Example], rules: Rules, *, waiting: int = 0) -> float:
    """Return how many replies more, all newer than these, are the least with which training begins.

    All of them can be held out, as long as that is no more than `MOST_HELD_OUT` of all, with those that wait.
    """
    effective, good, bad = _sample(usable)
    effective_held, good_held, bad_held = _sample(held)
    least = rules.min_replies_of_a_class
    return max(
        MIN_EFFECTIVE - effective,
        rules.min_effective_replies / MOST_HELD_OUT - len(usable) - waiting,
        max(MIN_OF_A_CLASS - good, 0) + max(MIN_OF_A_CLASS - bad, 0),
        rules.min_effective_replies - effective_held,
        max(least - good_held, 0) + max(least - bad_held, 0),
    )


def _write(folder: Path, labels: Labels, parted: Split) -> None:
    sides = (parted.training, parted.held_out)
    files = {
        LABELLED: write_examples(folder / LABELLED, [rated.example for side in sides for rated in side]),
        PAIRS: write_pairs(folder / PAIRS, [rated.pair for rated in parted.pairs]),
    }
    unusable = sum(rated.example.weight <= 0 for rated in labels.examples)
    said = {
        "cut": parted.cut if math.isfinite(parted.cut) else None,
        "held_out": [[rated.example.reply_id, rated.first_rated_at] for rated in parted.held_out],
        "files": files,
        "figures": {
            "rated_replies": len(labels.examples),
            "trained_on": len(parted.training),
            "held_out": len(parted.held_out),
            "waiting": len(parted.waiting),
            "pairs": len(parted.pairs),
            "left_out": unusable,
            "left_out_unsafe": len(labels.unsafe_good),
            "unsafe_pairs": labels.unsafe_pairs,
        },
    }
    write_json(folder / SPLIT, said)


def _read(folder: Path) -> Sides:
    try:
        said = read_json(folder / SPLIT)
        first_rated_at = dict(said["held_out"])
        files, figures = said["files"], said["figures"]
        cut = -math.inf if said["cut"] is None else said["cut"]
        sha256s = files[LABELLED], files[PAIRS]
    except (ValueError, KeyError, TypeError) as error:
        raise ExamplesDamaged(f"{SPLIT} can't be read ({error!r}); run the night again.") from error
    examples = read_examples(folder / LABELLED, sha256=sha256s[0])
    return Sides(
        cut=cut,
        training=tuple(example for example in examples if example.reply_id not in first_rated_at),
        held_out=tuple(example for example in examples if example.reply_id in first_rated_at),
        pairs=read_pairs(folder / PAIRS, sha256=sha256s[1]),
        first_rated_at=first_rated_at,
        files=files,
        figures=figures,
    )


def _report(fields: dict[str, Any]) -> RaterReport:
    by_id = {name: {int(key): value for key, value in fields[name].items()} for name in _BY_ID}
    clusters = tuple(map(frozenset, fields["clusters"]))
    return RaterReport(**{**fields, **by_id, "clusters": clusters, "warnings": tuple(fields["warnings"])})


_BY_ID = ("p_good", "accuracy", "influence")
