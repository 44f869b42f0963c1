from __future__ import annotations

import html
import io
import sys
from pathlib import Path

import pytest

from models.arms import Arm, CanaryRating, Decision
from models.learning import watch
from models.learning.files import read_json
from models.learning.job import Outcome, Result, write_result
from models.learning.story_files import CANARY
from tests.models.learning.stories import NOW

ARMS = (Arm.CANDIDATE, Arm.INCUMBENT)
RATINGS = [
    CanaryRating(f"channel {place // 2}", ARMS[place // 2 % 2], 0.5, float(place % 2), NOW + place, place)
    for place in range(16)
]


def _watch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(watch.question(RATINGS)))
    watch.main(arguments)


def test_the_verdict_comes_back_as_it_was_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _watch(monkeypatch)
    verdict = watch.answer(capsys.readouterr().out)
    assert (verdict.decision, verdict.rates, verdict.conversations) == (Decision.CONTINUE, (0.5, 0.5), (4, 4))


def test_the_canary_is_shown_in_the_report_of_its_night_without_saying_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_result(tmp_path, Result(Outcome.PROMOTED, ("Better.",)))
    _watch(monkeypatch, str(tmp_path))
    verdict = watch.answer(capsys.readouterr().out)
    assert verdict.sentence in html.unescape((tmp_path / "report.html").read_text("utf-8"))
    assert (tmp_path / "canary.png").exists()
    points = read_json(tmp_path / CANARY)["points"]
    assert points[:2] == [[NOW, True, 0.5], [NOW + 2, False, 0.5]]
    assert "channel" not in (tmp_path / CANARY).read_text("utf-8")


def test_a_verdict_is_given_though_its_night_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        _watch(monkeypatch, str(tmp_path / "gone"))
    assert watch.answer(capsys.readouterr().out).decision is Decision.CONTINUE
    assert not (tmp_path / "gone").exists()
