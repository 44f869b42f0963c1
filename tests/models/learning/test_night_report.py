from __future__ import annotations

from pathlib import Path

import pytest

from models.learning import job as jobs
from models.learning import night as nights
from models.learning.job import Outcome
from tests.models.learning.nights import make_night, small_snapshot


def test_a_night_that_ends_leaves_a_report_of_whom_it_believed(tmp_path: Path, gguf: Path) -> None:
    folder = tmp_path / "night"
    make_night(folder, gguf, small_snapshot())
    result = nights.night(folder, say=lambda _: None)
    page = (folder / "report.html").read_text("utf-8")
    assert result.sentences[0] in page
    assert "All 5 raters" in page
    assert (folder / "rater_trust.png").exists()


def test_a_report_that_fails_costs_the_night_nothing(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("models.learning.report.tell", broken)
    folder = tmp_path / "night"
    make_night(folder, gguf, small_snapshot())
    result = nights.night(folder, say=lambda _: None)
    assert result.outcome is Outcome.INSUFFICIENT
    assert jobs.read_result(folder) == result
    assert "no ink" in caplog.text
