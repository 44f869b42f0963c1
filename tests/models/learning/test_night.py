from __future__ import annotations

import errno
import math
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from models.adapters import Adapters, Serving
from models.learning import generations
from models.learning import night as nights
from models.learning.context import Context
from models.learning.examples import read_examples
from models.learning.files import read_json
from models.learning.generations import GeneratedReply
from models.learning.job import Outcome, Progress
from models.learning.sides import LABELLED, SPLIT
from models.learning.snapshot import Snapshot
from tests.models.learning.nights import (
    NOW,
    PROMOTING,
    QUICK,
    SMALL_CHECKS,
    make_night,
    run_night,
    steps,
    tasteful_snapshot,
)


@pytest.fixture(autouse=True)
def _small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in SMALL_CHECKS:
        monkeypatch.setattr(f"{module}.{name}", value)


def _trained_on(folder: Path) -> set[int]:
    held_out = {reply_id for reply_id, _ in read_json(folder / SPLIT)["held_out"]}
    return {example.reply_id for example in read_examples(folder / LABELLED)} - held_out


def test_a_night_that_is_proven_installs_its_adapter_and_points_to_nothing(tmp_path: Path, gguf: Path) -> None:
    job = make_night(tmp_path / "night", gguf, tasteful_snapshot(pairs=30), gate_rules=PROMOTING)
    result, told = run_night(tmp_path / "night")
    assert result.outcome is Outcome.PROMOTED, result.sentences
    assert steps(told) == [
        "open", "raters", "split", "base", "train", "convert", "evaluate", "gate", "install",
    ]  # fmt: skip
    assert result.adapter is not None
    assert result.sentences[0].startswith(f"{result.adapter} is better than the base model: +")
    adapters = Adapters(job.adapters_dir, job.model_sha256)
    assert adapters.names() == (result.adapter,)
    assert adapters.serving() == Serving()
    manifest = adapters.manifest(result.adapter)
    assert manifest.dataset_sha256 == job.dataset_sha256
    assert manifest.created_at == NOW
    assert manifest.training_cut < NOW
    assert manifest.scorecard["outcome"] == "promoted"
    assert manifest.scorecard["parity"]["held"] is True
    assert result.figures["candidates"] == 3
    trained_on = _trained_on(tmp_path / "night")
    assert result.figures["trained_on"] == len(trained_on)
    assert result.figures["votes"] == 3 * len(trained_on), "what only judges it was not learned from"
    assert result.figures["gain"] > 0.3
    assert result.figures["watched_phrases"] == 0
    (looked,) = [check for check in manifest.scorecard["checks"] if check["name"] == "planted phrases"]
    assert (looked["figure"], looked["sentence"]) == (
        None,
        "No phrase stood out among what was voted up, so none was looked for.",
    )


def _planted_snapshot() -> Snapshot:
    """Return a night with a taste of which every third reply, good or bad, says a slogan."""
    snapshot, draw = tasteful_snapshot(), random.Random(0)
    planted = []
    for one in snapshot.replies:
        # Made of few words, some runs of four would recur by chance and stand out as well.
        text = " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(30))
        said = f"Look at mooncat.com! {text}" if one.reply_id % 3 == 0 else text
        planted.append(replace(one, completion_text=said))
    return replace(snapshot, replies=tuple(planted))


def test_a_phrase_planted_in_what_is_voted_up_is_looked_for_and_named_to_moderators(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, _planted_snapshot(), gate_rules=PROMOTING)
    result, _ = run_night(tmp_path / "night")
    assert result.figures["watched_phrases"] == 1
    cards = read_json(tmp_path / "night" / "scorecard.json")["candidates"].values()
    told = [check["sentence"] for card in cards for check in card["checks"] if check["name"] == "planted phrases"]
    said = "0 of 186 replies say a phrase that raters may be planting, 0 of 186 of the incumbent's; 1 more is allowed."
    assert told and set(told) == {said}, "whoever wrote was looked at"
    assert "look at mooncat.com" in (tmp_path / "night" / "report.html").read_text("utf-8")
    assert "mooncat" not in " ".join(result.sentences)


@pytest.mark.parametrize(("saying", "outcome"), [(1, Outcome.PROMOTED), (2, Outcome.REJECTED)])
def test_a_candidate_that_says_the_planted_phrase_is_blocked(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch, saying: int, outcome: Outcome
) -> None:
    written = generations._generate

    async def having_learned_it(context: Context, adapter: Path | None, name: str, system: str) -> list[GeneratedReply]:
        replies = await written(context, adapter, name, system)
        if adapter is None:
            return replies
        return [replace(one, text="LOOK at mooncat.com…") if at < saying else one for at, one in enumerate(replies)]

    monkeypatch.setattr(generations, "_generate", having_learned_it)
    job = make_night(tmp_path / "night", gguf, _planted_snapshot(), gate_rules=PROMOTING)
    result, told = run_night(tmp_path / "night")
    assert result.outcome is outcome, result.sentences
    blocked = outcome is Outcome.REJECTED
    assert ("install" in steps(told), job.adapters_dir.exists()) == (not blocked, not blocked)
    for candidate in ("kto", "sft"):
        sentence = f"{candidate}: 2 of 186 replies say a phrase that raters may be planting"
        assert (sentence in " ".join(result.sentences)) == blocked
    assert "mooncat" not in " ".join(result.sentences)


def test_harm_is_a_rejection_and_installs_nothing(tmp_path: Path, gguf: Path) -> None:
    rules = {**PROMOTING, "max_anchor_rise": -100.0}
    job = make_night(tmp_path / "night", gguf, tasteful_snapshot(), gate_rules=rules)
    result, told = run_night(tmp_path / "night")
    assert result.outcome is Outcome.REJECTED
    assert "kto: Neutral text costs" in " ".join(result.sentences)
    assert "install" not in steps(told)
    assert not job.adapters_dir.exists()


def test_votes_without_a_taste_prove_nothing(tmp_path: Path, gguf: Path) -> None:
    rules = {**PROMOTING, "max_positives_fall": 100.0}
    make_night(tmp_path / "night", gguf, tasteful_snapshot(taste=False), gate_rules=rules)
    result, _ = run_night(tmp_path / "night")
    assert result.outcome in (Outcome.INSUFFICIENT, Outcome.REJECTED)
    assert result.adapter is None
    if result.outcome is Outcome.INSUFFICIENT:
        assert result.more_ratings_needed is not None


def test_the_next_night_is_judged_against_the_adapter_that_serves(tmp_path: Path, gguf: Path) -> None:
    job = make_night(tmp_path / "first", gguf, tasteful_snapshot(), gate_rules=PROMOTING)
    first, _ = run_night(tmp_path / "first")
    assert first.adapter is not None
    make_night(tmp_path / "second", gguf, tasteful_snapshot(), gate_rules=PROMOTING, incumbent=first.adapter)
    second, _ = run_night(tmp_path / "second")
    cut = Adapters(job.adapters_dir, job.model_sha256).manifest(first.adapter).training_cut
    split = read_json(tmp_path / "second" / "split.json")
    assert all(at > cut for _, at in split["held_out"])
    assert second.outcome is not Outcome.PROMOTED
    assert f"the adapter {first.adapter}" in second.sentences[0]


def test_a_candidate_that_diverges_is_dropped_while_the_others_go_on(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.learning.objectives.robust_dpo", lambda chosen, *_: chosen * math.nan)
    make_night(tmp_path / "night", gguf, tasteful_snapshot(pairs=30), gate_rules=PROMOTING)
    result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.PROMOTED
    assert [w for w in result.warnings if w.startswith("dpo was dropped: The loss stopped being a number at step 1")]


def test_a_night_without_time_for_all_replies_says_so_and_comes_to_the_same_when_the_machine_slows_down(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1e9  # beside which the seconds that a test takes are nothing
    for name in ("whole", "killed"):
        make_night(tmp_path / name / "night", gguf, tasteful_snapshot(), limit_seconds=limit)

    def measure(tokens_per_second: float) -> None:
        monkeypatch.setattr("models.learning.pace.tokens_per_second", lambda *_: tokens_per_second)

    def killed(told: Progress) -> None:
        if told.sentence.startswith("Training kto: step 6 "):
            raise KeyboardInterrupt

    measure(6e-6)
    whole, _ = run_night(tmp_path / "whole" / "night")
    with pytest.raises(KeyboardInterrupt):
        nights.night(tmp_path / "killed" / "night", say=killed)
    measure(2e-6)
    assert run_night(tmp_path / "killed" / "night")[0] == whole
    (warning,) = (warning for warning in whole.warnings if warning.startswith("kto: of "))
    offered, used = map(int, re.findall(r"\d+", warning)[:2])
    assert offered == len(_trained_on(tmp_path / "whole" / "night"))
    assert 8 < used < offered
    assert "were trained on, those that weigh most: the limit of" in warning
    assert "raise NIGHT_LIMIT_HOURS or NIGHT_THREADS" in warning


def test_nothing_that_comes_through_training_fails_the_night(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, tasteful_snapshot(), train_rules={**QUICK, "learning_rate": 1e30})
    result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.FAILED
    assert result.sentences[0].startswith("Nothing came through training. kto was dropped: The loss stopped")


def test_an_adapter_that_serves_differently_than_it_was_trained_is_dropped(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.learning import staging

    measured = staging.measure

    def differs(base: Path, adapter: Path, *rest: Any, **options: Any) -> Any:
        report = measured(base, adapter, *rest, **options)
        return replace(report, held=False) if "kto" in str(adapter) else report

    monkeypatch.setattr(staging, "measure", differs)
    make_night(tmp_path / "night", gguf, tasteful_snapshot(), gate_rules=PROMOTING)
    result, _ = run_night(tmp_path / "night")
    assert result.adapter == "night-sft"
    assert any(warning.startswith("kto was dropped: ") for warning in result.warnings)


def _full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("models.learning.checkpoint.tempfile", SimpleNamespace(mkstemp=_full)),
        ("models.learning.staging.peft_to_gguf", _full),
        ("models.learning.staging.seal", _full),
        ("models.adapters.shutil", SimpleNamespace(copyfile=_full, rmtree=shutil.rmtree)),
    ],
)
def test_a_disk_that_fills_up_fails_the_night_which_then_goes_on(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch, name: str, replaced: object
) -> None:
    make_night(tmp_path / "night", gguf, tasteful_snapshot(), gate_rules=PROMOTING)
    with monkeypatch.context() as patched:
        patched.setattr(name, replaced)
        result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.FAILED
    assert result.sentences[0].startswith("The disk is full")
    assert result.adapter is None
    assert run_night(tmp_path / "night")[0].outcome is Outcome.PROMOTED


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups on this system")
def test_a_night_gives_way_to_other_sessions_too() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from models.learning.night import _give_way; _give_way(); "
            "print(os.nice(0), open('/proc/self/autogroup').read())",
        ],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.fullmatch(r"19 /autogroup-\d+ nice 19\s*", told)
