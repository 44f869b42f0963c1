"""Each bar of the raters' benchmark is judged on a mean, and says the worst seed beside it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.raters import CROWD, Cell, bars, grid

RIGHT = Cell(
    majority=0.9,
    encore=0.95,
    oracle=0.96,
    without_trolls=0.9,
    difference=-0.004,
    difference_95=(-0.005, -0.003),
    worst_encore=0.94,
    worst_difference=-0.006,
    best_difference=0.0,
    seeds_below_by_02=0.0,
    frozen=1.0,
    kept=0.97,
    kept_accuracy=0.96,
    majority_planted=None,
    encore_planted=None,
    honest_joined=0.0,
)


def _judged(cells: dict[str, Cell], crowds: dict[str, Cell]) -> dict[str, dict[str, object]]:
    communities = grid()
    return bars(communities, dict.fromkeys(communities, RIGHT) | cells, dict.fromkeys(CROWD, RIGHT) | crowds)


def test_a_bar_holds_by_its_worst_mean_and_names_the_worst_seed_of_any_cell() -> None:
    one_bad_seed = replace(RIGHT, worst_difference=-0.031, worst_encore=0.7, seeds_below_by_02=0.045)
    bad_mean = replace(RIGHT, difference=-0.021)
    lucky = _judged({"flip 0.3 x3": one_bad_seed}, {"zipf": one_bad_seed})
    assert all(bar["holds"] for bar in lucky.values())
    assert lucky["below_majority"]["worst_seed"] == lucky["crowd_no_trolls"]["worst_seed"] == 0.031
    assert (lucky["flip_30"]["worst_seed"], lucky["flip_30"]["worst_seed_cell"]) == (0.7, "flip 0.3 x3")
    judged = _judged({"flip 0.3 x3": bad_mean}, {"zipf, flip 0.3 x3": bad_mean})
    assert [name for name, bar in judged.items() if not bar["holds"]] == ["below_majority", "crowd_below_majority"]
    assert (judged["below_majority"]["mean"], judged["below_majority"]["cell"]) == (0.021, "flip 0.3 x3")


def test_a_freeze_that_throwaway_accounts_lift_is_told() -> None:
    judged = _judged({}, {"flip 0.55, 25 throwaway": replace(RIGHT, frozen=0.9)})
    assert [name for name, bar in judged.items() if not bar["holds"]] == ["crowd_frozen"]
