"""How much a night's time is enough to train on: shared among its runs, and measured once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.learning.pace import shared, tokens_in_time
from tests.models.learning.tiny_torch import SMALL, replies, tiny_base


class _Machine:
    """A night's context on a machine that takes `row_seconds` for a row; every look at the clock is one row later."""

    def __init__(self, left: float, row_seconds: float) -> None:
        self.base = tiny_base()
        self._left, self._row_seconds = left, row_seconds

    @property
    def seconds_left(self) -> float:
        self._left -= self._row_seconds
        return self._left

    def tell(self, done: int, total: int, sentence: str) -> None:
        pass


def _most(folder: Path, machine: Any, demands: Sequence[int] = (10**9,)) -> int | None:
    return tokens_in_time(machine, demands, replies(20), SMALL, folder)


@pytest.mark.parametrize(
    ("total", "demands", "most"),
    [(100, [90, 20, 60], 40), (170, [90, 20, 60], None), (169, [90, 20, 60], 89), (0, [5], 0), (7, [], None)],
)
def test_runs_that_want_little_leave_the_rest_more(total: int, demands: list[int], most: int | None) -> None:
    assert shared(total, demands) == most


def test_slower_machine_has_time_for_fewer_tokens_and_a_longer_night_for_more(tmp_path: Path) -> None:
    usual, slow, long = (
        _most(tmp_path / name, _Machine(left, row))
        for name, left, row in (("usual", 1e6, 1.0), ("slow", 1e6, 4.0), ("long", 3e6, 1.0))
    )
    assert usual is not None and slow is not None and long is not None
    assert slow == pytest.approx(usual / 4, rel=1e-3)
    assert long == pytest.approx(usual * 3, rel=1e-3)


def test_night_that_is_resumed_keeps_to_what_it_measured(tmp_path: Path) -> None:
    assert _most(tmp_path, _Machine(1e6, 1.0)) == _most(tmp_path, _Machine(1e3, 9.0))
    assert _most(tmp_path / "fits", _Machine(1e6, 1.0), demands=(100, 100)) is None
    assert _most(tmp_path / "fits", _Machine(1e3, 9.0), demands=(100, 100)) is None


def test_damaged_measurement_is_made_anew(tmp_path: Path) -> None:
    most = _most(tmp_path, _Machine(1e6, 1.0))
    (tmp_path / "pace.json").write_bytes(b"{")
    assert _most(tmp_path, _Machine(1e6, 1.0)) == most
