"""Labels inferred from votes, with and without trolls, against majority and against knowing who trolls.

    python -m benchmarks.raters [--quick] [--seeds 200]

Needs no data set: communities are simulated (benchmarks/simulation.py says what each attack does). A cell is an
attack, its share of the raters, its activity, and whether there is help: 5 trusted raters (who err like all honest
ones) and gold labels on 10 % of the replies. Accuracy is the share of the replies *without* a gold label for which
P(good) > .5 says the truth: under toxic-up the planted replies are bad in truth, under phrase they are as good or bad
as they would be without the phrase. The method was tuned on other seeds than those it is judged on (from FIRST_SEED).

For each cell, over the seeds: majority (of the raw votes), encore, their difference with a 95 % interval, the worst
seed of each, how often learning freezes, and

kept, kept_accuracy   the share of the replies that are certain enough to train on, and encore's accuracy on them
oracle                ceiling: knows the bloc, its attack, every error and the class prior (Bayes optimal)
without_trolls        ceiling of dropping the bloc's votes, knowing who it is

A frozen night without help returns majority's labels, and none of them is learned from: read such a cell's accuracy
with its `frozen`. Bars, each on the *mean* over the seeds of the worst of the cells it names:

flip_30           encore, the cells of flip at .3 (either activity, with and without help): >= .90
flip_45_helped    encore, the cells of flip at .45 with help: >= .90
below_majority    majority - encore, all cells: <= .02
no_trolls         |majority - encore|, the cells of share 0: <= .01

The grid's members all rate alike. Nowhere do they: the cells `crowd` are of communities in which the k-th most active
member is 1/k as active as the first (Zipf), and of ones with accounts a day old that vote once, by a coin. Their bars:

crowd_below_majority   majority - encore, all of these cells where the bloc isn't the majority: <= .02
crowd_no_trolls        majority - encore, those of share 0 (to ignore the coins is better than majority): <= .01
crowd_frozen           how often learning freezes, those of flip at .55: >= without such accounts, less .02

Each bar on labels also says what its worst single seed was (`worst_seed`, and of which cell). `holds` doesn't judge by
it: single seeds of 400 replies do fall below majority by more than .02, and `seeds_below_by_02` says how many.

`beyond` repeats the figures for communities outside the grid (noisy trolls, unequal or lenient members, few or many
votes); no bar is on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.simulation import Attack, Community, Ratings, rate
from models.learning.raters import infer
from models.learning.sufficiency import MIN_CERTAINTY

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_SEED = 1000
SEEDS, QUICK_SEEDS = 200, 10
HELP: dict[str, Any] = {"trusted": 5, "gold_share": 0.1}
CROWD = {
    "zipf": Community(tail=1.0),
    "zipf, 200 raters": Community(tail=1.0, raters=200),
    "zipf, 25 throwaway": Community(tail=1.0, throwaway=25),
    "zipf, 80 throwaway": Community(tail=1.0, throwaway=80),
    "25 throwaway": Community(throwaway=25),
    "80 throwaway": Community(throwaway=80),
    **{
        f"zipf, {attack.value} {share:g} x{activity:g}": Community(attack, share, activity, tail=1.0)
        for attack in Attack
        for share, activity in ((0.3, 1.0), (0.3, 3.0))
    },
    **{
        f"zipf, flip 0.45 x{activity:g} helped": Community(Attack.FLIP, 0.45, activity, tail=1.0, **HELP)
        for activity in (1.0, 3.0)
    },
    "zipf, flip 0.3, 80 throwaway": Community(Attack.FLIP, 0.3, tail=1.0, throwaway=80),
    **{
        f"flip {share:g}, {throwaway} throwaway": Community(Attack.FLIP, share, throwaway=throwaway)
        for share in (0.45, 0.55)
        for throwaway in (0, 25, 80)
    },
}
UNDILUTED = "flip 0.55, 0 throwaway"
BEYOND = {
    "zipf with exponent 1.5": Community(tail=1.5),
    "zipf with exponent 1.5, flip .3": Community(Attack.FLIP, 0.3, tail=1.5),
    "zipf, flip .55": Community(Attack.FLIP, 0.55, tail=1.0),
    "flip by 3 raters, 16x as active": Community(Attack.FLIP, 0.05, 16.0),
    "toxic-up by 3 raters, 16x as active": Community(Attack.TOXIC_UP, 0.05, 16.0),
    "phrase by 3 raters, 16x as active": Community(Attack.PHRASE, 0.05, 16.0),
    "flip .3, trolls err too": Community(Attack.FLIP, 0.3, troll_error=0.2),
    "flip .45, trolls err too, helped": Community(Attack.FLIP, 0.45, troll_error=0.2, **HELP),
    "no trolls, errors 0 to .4": Community(error_spread=0.2),
    "flip .3, errors 0 to .4": Community(Attack.FLIP, 0.3, error_spread=0.2),
    "no trolls, lenient by .15": Community(leniency=0.15),
    "always-down .3, lenient by .15": Community(Attack.ALWAYS_DOWN, 0.3, leniency=0.15),
    "flip .55, helped": Community(Attack.FLIP, 0.55, **HELP),
    "flip .6": Community(Attack.FLIP, 0.6),
    "flip .3, 15 raters, 80 replies": Community(Attack.FLIP, 0.3, raters=15, replies=80),
    "no trolls, 15 raters, 80 replies": Community(raters=15, replies=80),
    "flip .3, 15 votes each": Community(Attack.FLIP, 0.3, votes_each=15),
    "no trolls, 15 votes each": Community(votes_each=15),
}


@dataclass(frozen=True, slots=True)
class Seed:
    majority: float
    encore: float
    oracle: float
    without_trolls: float
    majority_planted: float
    encore_planted: float
    frozen: bool
    kept: float
    kept_accuracy: float
    joined: int  # honest raters that were held to be copies


@dataclass(frozen=True, slots=True)
class Cell:
    """Means over the seeds, with what is said of each in the module's docstring."""

    majority: float
    encore: float
    oracle: float
    without_trolls: float
    difference: float
    difference_95: tuple[float, float]
    worst_encore: float
    worst_difference: float
    best_difference: float
    seeds_below_by_02: float  # share of the seeds
    frozen: float  # share of the seeds
    kept: float
    kept_accuracy: float
    majority_planted: float | None
    encore_planted: float | None
    honest_joined: float  # a seed


def measure(community: Community, seed: int) -> Seed:
    ratings = rate(community, seed)
    reply = np.array([vote.reply_id for vote in ratings.votes])
    rater = np.array([vote.rater_id for vote in ratings.votes])
    up = np.array([vote.value > 0 for vote in ratings.votes])
    judged = ~np.isin(np.arange(community.replies), list(ratings.gold))
    report = infer(ratings.votes, ratings.facts, ratings.gold)
    p_good = np.array([report.p_good[i] for i in range(community.replies)])
    encore, certain = p_good > 0.5, np.abs(2 * p_good - 1) >= MIN_CERTAINTY
    signed = np.where(up, 1.0, -1.0)
    majority = np.bincount(reply, signed, community.replies) > 0

    def right(labels: NDArray[np.bool_], among: NDArray[np.bool_] = judged) -> float:
        return float((labels == ratings.truth)[among & judged].mean()) if (among & judged).any() else float("nan")

    joined = frozenset().union(*report.clusters) - ratings.trolls
    return Seed(
        majority=right(majority),
        encore=right(encore),
        oracle=right(_knowing(community, ratings, reply, rater, up, use_trolls=True)),
        without_trolls=right(_knowing(community, ratings, reply, rater, up, use_trolls=False)),
        majority_planted=right(majority, ratings.planted),
        encore_planted=right(encore, ratings.planted),
        frozen=report.frozen,
        kept=float(certain[judged].mean()),
        kept_accuracy=right(encore, certain),
        joined=len(joined),
    )


def _knowing(
    community: Community,
    ratings: Ratings,
    reply: NDArray[np.int64],
    rater: NDArray[np.int64],
    up: NDArray[np.bool_],
    *,
    use_trolls: bool,
) -> NDArray[np.bool_]:
    """Label by Bayes' rule, knowing who is in the bloc and (if `use_trolls`) what their votes then say."""

    def odds(if_good: float, if_bad: float) -> NDArray[np.float64]:
        """Return the log-odds of votes by someone who votes up with these probabilities."""
        return np.where(up, np.float64(np.log(if_good / if_bad)), np.float64(np.log((1 - if_good) / (1 - if_bad))))

    error, lenient = community.honest_error, community.leniency
    honest = odds(min(1 - error + lenient, 1 - 1e-6), min(error + lenient, 1 - 1e-6))
    troll = np.zeros(len(up))
    if use_trolls and community.attack is Attack.FLIP:
        troll_error = min(max(community.troll_error, 1e-6), 1 - 1e-6)
        troll = odds(troll_error, 1 - troll_error)
    elif use_trolls and community.attack in (Attack.TOXIC_UP, Attack.PHRASE):
        troll = np.where(ratings.planted[reply], 0.0, honest)
    said = np.where(np.isin(rater, list(ratings.trolls)), troll, honest)
    prior = np.log(community.good_share / (1 - community.good_share))
    labels: NDArray[np.bool_] = prior + np.bincount(reply, said, community.replies) > 0
    return labels


def summarize(community: Community, seeds: int) -> Cell:
    rows = [measure(community, FIRST_SEED + seed) for seed in range(seeds)]
    column = {name: np.array([getattr(row, name) for row in rows], dtype=float) for name in Seed.__slots__}
    difference = column["encore"] - column["majority"]
    half = 1.96 * float(difference.std(ddof=1)) / len(rows) ** 0.5
    planted = community.attack in (Attack.TOXIC_UP, Attack.PHRASE)

    def mean(name: str) -> float:
        return round(float(column[name].mean()), 4)

    return Cell(
        majority=mean("majority"),
        encore=mean("encore"),
        oracle=mean("oracle"),
        without_trolls=mean("without_trolls"),
        difference=round(float(difference.mean()), 4),
        difference_95=(round(float(difference.mean()) - half, 4), round(float(difference.mean()) + half, 4)),
        worst_encore=round(float(column["encore"].min()), 4),
        worst_difference=round(float(difference.min()), 4),
        best_difference=round(float(difference.max()), 4),
        seeds_below_by_02=round(float((difference < -0.02).mean()), 4),
        frozen=mean("frozen"),
        kept=mean("kept"),
        kept_accuracy=mean("kept_accuracy"),
        majority_planted=mean("majority_planted") if planted else None,
        encore_planted=mean("encore_planted") if planted else None,
        honest_joined=mean("joined"),
    )


def grid() -> dict[str, Community]:
    """Name every cell; a share of 0 has no bloc and so no activity."""
    cells = {}
    for attack in Attack:
        for share, activity in ((0.0, 1.0), (0.3, 1.0), (0.3, 3.0), (0.45, 1.0), (0.45, 3.0)):
            community = Community(attack, share, activity)
            name = f"{attack.value} {share:g} x{activity:g}"
            cells[name] = community
            cells[f"{name} helped"] = replace(community, **HELP)
    return cells


def cpu_seconds_for_100_000_votes() -> float:
    ratings = rate(Community(Attack.FLIP, 0.3, 3.0, raters=2000, replies=33_334), FIRST_SEED)
    taken = []
    for _ in range(3):
        before = time.process_time()
        infer(ratings.votes, ratings.facts, ratings.gold)
        taken.append(time.process_time() - before)
    return min(taken)


def bars(
    communities: dict[str, Community], cells: dict[str, Cell], crowds: dict[str, Cell]
) -> dict[str, dict[str, object]]:
    """Judge each bar on the mean of its worst cell, and name the worst seed."""

    def worst(
        values: dict[str, float], seeds: dict[str, float], bound: float, *, at_least: bool = False
    ) -> dict[str, object]:
        pick = min if at_least else max
        name = pick(values, key=lambda cell: values[cell])
        holds = values[name] >= bound if at_least else values[name] <= bound
        seed = pick(seeds, key=lambda cell: seeds[cell], default="")
        of_seed = {"worst_seed": seeds[seed], "worst_seed_cell": seed} if seed else {}
        return {"mean": values[name], "cell": name, **of_seed, "bound": bound, "cells": len(values), "holds": holds}

    def right(of: dict[str, Cell], bound: float) -> dict[str, object]:
        means, seeds = {n: cell.encore for n, cell in of.items()}, {n: cell.worst_encore for n, cell in of.items()}
        return worst(means, seeds, bound, at_least=True)

    def below(of: dict[str, Cell], bound: float) -> dict[str, object]:
        seeds = {name: -cell.worst_difference for name, cell in of.items()}
        return worst({name: -cell.difference for name, cell in of.items()}, seeds, bound)

    def apart(of: dict[str, Cell], bound: float) -> dict[str, object]:
        seeds = {name: max(-cell.worst_difference, cell.best_difference) for name, cell in of.items()}
        return worst({name: abs(cell.difference) for name, cell in of.items()}, seeds, bound)

    flips = {name: cell for name, cell in cells.items() if communities[name].attack is Attack.FLIP}
    at_30 = {name: cell for name, cell in flips.items() if communities[name].share == 0.3}
    at_45 = {
        name: cell for name, cell in flips.items() if communities[name].share == 0.45 and communities[name].trusted
    }
    without = {name: cell for name, cell in cells.items() if not communities[name].share}
    minorities = {name: cell for name, cell in crowds.items() if CROWD[name].share < 0.5}
    frozen = {name: cell.frozen for name, cell in crowds.items() if name not in minorities}
    least = round(frozen.pop(UNDILUTED) - 0.02, 4)
    return {
        "flip_30": right(at_30, 0.90),
        "flip_45_helped": right(at_45, 0.90),
        "below_majority": below(cells, 0.02),
        "no_trolls": apart(without, 0.01),
        "crowd_below_majority": below(minorities, 0.02),
        "crowd_no_trolls": below({name: cell for name, cell in minorities.items() if not CROWD[name].share}, 0.01),
        "crowd_frozen": worst(frozen, {}, least, at_least=True),
    }


def _summarized(communities: dict[str, Community], seeds: int) -> dict[str, Cell]:
    cells = {}
    for number, (name, community) in enumerate(communities.items(), start=1):
        cells[name] = summarize(community, seeds)
        print(f"{number}/{len(communities)} {name}: {cells[name].encore:.3f}", file=sys.stderr, flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of labels inferred from votes, by attack")
    parser.add_argument("--data", help="taken for uniformity with the other benchmarks; nothing is read")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SEEDS} seeds a cell, judging nothing")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds a cell (default {SEEDS})")
    options = parser.parse_args()
    seeds = QUICK_SEEDS if options.quick else options.seeds
    communities = grid()
    cells, crowds, beyond = (_summarized(of, seeds) for of in (communities, CROWD, BEYOND))
    judged = bars(communities, cells, crowds)
    figures = {
        "seeds": [FIRST_SEED, FIRST_SEED + seeds - 1],
        "judged_by": "the mean over the seeds of each bar's worst cell; worst_seed is told and not judged",
        "bars": judged,
        "cpu_seconds_for_100_000_votes": round(cpu_seconds_for_100_000_votes(), 3),
        "cells": {name: asdict(cell) for name, cell in cells.items()},
        "crowd": {name: asdict(cell) for name, cell in crowds.items()},
        "beyond": {name: asdict(cell) for name, cell in beyond.items()},
        "holds": all(bool(bar["holds"]) for bar in judged.values()) if seeds >= SEEDS else None,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
