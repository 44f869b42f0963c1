"""How a night ends before any model is read, and what its process says of it."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from models.learning import job as jobs
from models.learning import night as nights
from models.learning.examples import RaterFacts, Vote
from models.learning.job import Outcome
from models.learning.snapshot import Snapshot
from tests.models.learning.nights import (
    make_night,
    reply,
    run_night,
    small_snapshot,
    steps,
    tasteful_snapshot,
)

_ROOT = Path(__file__).resolve().parents[3]


def test_too_few_ratings_end_the_night_before_any_model_is_read(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())
    result, told = run_night(tmp_path / "night")
    assert result.outcome is Outcome.INSUFFICIENT
    assert result.sentences[0] == "There was no training tonight: not enough to learn from."
    assert "raters of the 12 needed" in " ".join(result.sentences)
    assert result.more_ratings_needed is not None
    assert result.more_ratings_needed > 0
    assert result.figures["votes"] == 12
    assert steps(told) == ["open", "raters"]
    assert jobs.read_result(tmp_path / "night") == result


def test_votes_of_banned_raters_are_none_that_count_and_a_cluster_is_one_rater(tmp_path: Path, gguf: Path) -> None:
    draw = random.Random(0)
    replies = tuple(reply(number) for number in range(1, 61))
    votes = []
    for one in replies:
        of_copies, by_themselves = draw.choice((-1.0, 1.0)), {rater: draw.choice((-1.0, 1.0)) for rater in (3, 4, 5)}
        said = {1: of_copies, 2: of_copies, **by_themselves}
        votes += [Vote(one.reply_id, rater, value, rated_at=one.created_at) for rater, value in said.items()]
    make_night(tmp_path / "night", gguf, Snapshot(replies, tuple(votes), {5: RaterFacts(5, banned=True)}, {}))
    result, _ = run_night(tmp_path / "night")
    assert result.warnings[0].startswith("Some raters vote as one")
    assert (result.figures["votes"], result.figures["raters"]) == (240, 3)


def test_a_bloc_of_raters_freezes_the_night(tmp_path: Path, gguf: Path) -> None:
    snapshot = tasteful_snapshot()
    against = tuple(
        Vote(vote.reply_id, 100 + vote.rater_id, -vote.value, rated_at=vote.rated_at) for vote in snapshot.votes
    )
    make_night(tmp_path / "night", gguf, replace(snapshot, votes=snapshot.votes + against, facts={}))
    result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.INSUFFICIENT
    assert result.sentences[1].startswith("Learning is frozen")
    assert result.more_ratings_needed is None


def test_too_few_held_out_end_the_night_before_any_model_is_read(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, tasteful_snapshot(), gate_rules={"min_replies_of_a_class": 50})
    result, told = run_night(tmp_path / "night")
    assert result.outcome is Outcome.INSUFFICIENT
    assert "held out to judge by" in result.sentences[1]
    assert steps(told) == ["open", "raters", "split"]


def test_a_damaged_snapshot_fails_the_night(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())
    with (tmp_path / "night" / jobs.SNAPSHOT).open("ab") as file:
        file.write(b" ")
    result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.FAILED
    assert "isn't the file that was frozen" in result.sentences[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_sha256": "00" * 32}, "isn't the one that these replies are of"),
        ({"model_path": Path("gone.gguf")}, "isn't the one that these replies are of"),
        ({"incumbent": "2026-11-01-kto"}, "There is no adapter 2026-11-01-kto"),
        ({"gate_rules": {"mercy": 1}}, "a rule that there isn't"),
        ({"limit_seconds": -1.0}, "longer than its limit"),
        ({"limit_seconds": 60.0, "spent_seconds": 60.1}, "longer than its limit"),
    ],
)
def test_what_a_night_can_not_go_on_with_is_said_in_a_sentence(
    tmp_path: Path, gguf: Path, changes: dict[str, Any], sentence: str
) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot(), **changes)
    result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.FAILED
    assert len(result.sentences) == 1
    assert sentence in result.sentences[0]
    assert result.resumable == ("limit" in sentence), "only what may end otherwise is tried again"
    assert jobs.read_result(tmp_path / "night") == result


def test_a_damaged_job_fails_the_night(tmp_path: Path) -> None:
    (tmp_path / jobs.JOB).write_text("{")
    result, _ = run_night(tmp_path)
    assert result.outcome is Outcome.FAILED
    assert "job.json can't be read" in result.sentences[0]


def test_a_full_disk_fails_the_night_and_the_next_run_goes_on(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())

    def full(path: Path, value: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("models.learning.sides.write_json", full)
        result, _ = run_night(tmp_path / "night")
    assert result.outcome is Outcome.FAILED
    assert result.sentences[0].startswith("The disk is full; free 1 GB beside")
    assert result.resumable
    assert run_night(tmp_path / "night")[0].outcome is Outcome.INSUFFICIENT


def test_a_finished_night_is_not_run_again(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())
    first, _ = run_night(tmp_path / "night")
    (tmp_path / "night" / jobs.SNAPSHOT).unlink()
    again, told = run_night(tmp_path / "night")
    assert again == first
    assert told == []


def test_a_night_is_run_by_one_process(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())
    with FileLock(tmp_path / "night" / ".lock"), pytest.raises(nights.NightRuns, match="Another process"):
        run_night(tmp_path / "night")


def test_refusals_need_no_torch() -> None:
    code = "import sys; import models.learning.night; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=False).returncode == 0


def test_the_process_says_its_progress_alone_on_standard_output(tmp_path: Path, gguf: Path) -> None:
    make_night(tmp_path / "night", gguf, small_snapshot())
    ended = subprocess.run(
        [sys.executable, "-m", "models.learning.night", str(tmp_path / "night")],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = [jobs.read_progress(line) for line in ended.stdout.splitlines()]
    assert [progress.step for progress in told if progress] == ["open", "raters"]
    assert None not in told
    assert "seconds:" in ended.stderr
    result = jobs.read_result(tmp_path / "night")
    assert result is not None
    assert result.outcome is Outcome.INSUFFICIENT
