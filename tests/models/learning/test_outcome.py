from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from models.learning import verdict as verdicts
from models.learning.candidates import Candidate
from models.learning.choice import Choice
from models.learning.job import Outcome
from models.learning.objectives import Objective
from models.learning.outcome import concluded, scorecard
from models.learning.statistics import NOTHING, Estimate
from models.learning.train import TrainResult
from models.learning.verdict import Check, Kind, Verdict

KTO, SFT = (Candidate(f"n-{o.value}", o, Path(o.value)) for o in (Objective.KTO, Objective.SFT))
TRAINED = {candidate: TrainResult(Path(), 20, (0.5,) * 10 + (0.25,) * 10, 100, 1.0, 20, 20) for candidate in (KTO, SFT)}


def _verdict(outcome: verdicts.Outcome, gain: Estimate, more: int | None = None, reason: str = "") -> Verdict:
    checks = (
        Check("length ratio", Kind.HARM, 1.1, 1.4, True, "Replies are 1.10 times as long."),
        *([Check("gain", Kind.PROOF, math.nan, 0.0, False, reason)] if reason else []),
    )
    return Verdict(outcome, checks, gain, 0.05, more, None if gain is NOTHING else gain)


PROMOTED = _verdict(verdicts.Outcome.PROMOTED, Estimate(0.2, 0.05, 50.0))
INSUFFICIENT = _verdict(verdicts.Outcome.INSUFFICIENT, Estimate(0.1, 0.1, 50.0), 40, "Too little gain.")
REJECTED = _verdict(verdicts.Outcome.REJECTED, NOTHING, None, "It swears.")


def test_a_promotion_says_by_how_much_against_what() -> None:
    choice = Choice(1, (INSUFFICIENT, PROMOTED))
    result = concluded(choice, [KTO, SFT], TRAINED, {"held_out": 70}, incumbent=None, warnings=["Look."])
    assert result.outcome is Outcome.PROMOTED
    assert result.adapter == "n-sft"
    assert result.sentences == (
        "n-sft is better than the base model: +20.0% of preference AUC on 70 replies that it never saw, "
        "at least +11.6% with 95% confidence.",
        "kto: Too little gain.",
    )
    assert result.warnings == ("Look.",)
    assert result.more_ratings_needed is None
    assert result.figures["objective"] == "sft"
    assert result.figures["gain"] == 0.2
    assert result.figures["win_rate"] == pytest.approx(0.7)
    # Against the base both are one measurement: what is shown of it is what the gate judged by.
    assert result.figures["win_rate_low"] == pytest.approx(0.5 + result.figures["gain_low"])
    assert result.figures["win_rate_high"] == pytest.approx(0.5 + result.figures["gain_high"])
    assert result.figures["level"] == 0.05
    assert result.figures["length_ratio"] == 1.1
    assert result.figures["loss_last"] == 0.25


def test_what_is_not_proven_says_how_many_ratings_it_takes() -> None:
    choice = Choice(None, (REJECTED, INSUFFICIENT))
    result = concluded(choice, [KTO, SFT], TRAINED, {"held_out": 70}, incumbent="n0-kto", warnings=[])
    assert result.outcome is Outcome.INSUFFICIENT
    assert result.adapter is None
    assert result.more_ratings_needed == 40
    assert result.sentences[0] == (
        "Not promoted: insufficient evidence against the adapter n0-kto; about 40 more ratings would settle it."
    )
    assert result.sentences[1:] == ("kto: It swears.", "sft: Too little gain.")


def test_harm_alone_is_a_rejection_without_figures_that_are_no_numbers() -> None:
    result = concluded(Choice(None, (REJECTED,)), [KTO], TRAINED, {"held_out": 70}, incumbent=None, warnings=[])
    assert result.outcome is Outcome.REJECTED
    assert "gain" not in result.figures
    json.dumps(result.figures, allow_nan=False)


def test_a_scorecard_is_json_whatever_could_not_be_measured() -> None:
    card = scorecard(REJECTED, {"prefixes": 200, "held": True, "median_difference": math.nan})
    text = json.dumps(card, allow_nan=False)
    assert '"figure": null' in text
    assert card["parity"] == {"prefixes": 200, "held": True, "median_difference": None}
    assert card["outcome"] == "rejected"
