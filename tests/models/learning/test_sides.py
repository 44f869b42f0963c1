from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.learning.context import Context, LimitReached
from models.learning.examples import ExamplesDamaged
from models.learning.job import Job, Progress
from models.learning.labels import Labels, label
from models.learning.sides import Sides, judge_raters, part, short_held_out
from models.learning.verdict import Rules
from tests.models.learning.nights import LENIENT, NOW, tasteful_snapshot

RULES = Rules(**LENIENT)


def _context(folder: Path, **options: Any) -> Context:
    job = Job("night", Path(), "", "tiny", Path(), Path(), "", NOW, limit_seconds=60.0)
    return Context(folder, job, **{"say": lambda progress: None, **options})


def _parted(folder: Path, not_before: float | None = None) -> Sides:
    snapshot = tasteful_snapshot(pairs=10)
    context = _context(folder)
    labels = label(snapshot, judge_raters(context, snapshot), frozenset(), now=NOW)
    return part(context, snapshot, lambda: labels, not_before=not_before, rules=RULES)


def test_what_was_inferred_of_raters_is_read_back_as_it_was(tmp_path: Path) -> None:
    snapshot = tasteful_snapshot()
    report = judge_raters(_context(tmp_path), snapshot)
    assert judge_raters(_context(tmp_path), snapshot) == report


def test_how_replies_were_parted_is_read_back_and_not_decided_anew(tmp_path: Path) -> None:
    first = _parted(tmp_path)

    def not_asked() -> Labels:
        raise AssertionError

    again = part(_context(tmp_path), tasteful_snapshot(pairs=10), not_asked, not_before=None, rules=RULES)
    assert again == first
    assert len(first.training) == first.figures["trained_on"] == 84
    assert len(first.held_out) == first.figures["held_out"] == 36
    assert set(first.first_rated_at) == {example.reply_id for example in first.held_out}
    assert min(first.first_rated_at.values()) > first.cut


def test_nothing_that_the_incumbent_may_have_seen_is_held_out(tmp_path: Path) -> None:
    cut = sorted(_parted(tmp_path / "a").first_rated_at.values())[10]
    later = _parted(tmp_path / "b", not_before=cut)
    assert min(later.first_rated_at.values()) > cut
    assert later.cut >= cut


@pytest.mark.parametrize("name", ["labelled.jsonl", "pairs.jsonl"])
def test_a_file_of_a_side_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    _parted(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ExamplesDamaged, match="isn't the file that was frozen"):
        _parted(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"held_out": 3}'])
def test_a_split_that_can_not_be_read_is_refused(tmp_path: Path, text: str) -> None:
    _parted(tmp_path)
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ExamplesDamaged, match=r"split\.json can't be read"):
        _parted(tmp_path)


def test_a_shortage_says_how_many_votes_it_takes(tmp_path: Path) -> None:
    sides = _parted(tmp_path)
    assert short_held_out(sides, RULES) is None
    short = short_held_out(sides, Rules(min_effective_replies=10.0, min_replies_of_a_class=36))
    assert short is not None
    assert short.more_ratings_needed == 2 * 2 * 18, "18 of each, with two voices"
    assert "18 good and 18 bad (36 of each)" in short.sentences[0]


def test_where_nothing_can_be_held_out_it_takes_as_much_as_has_to_be_however_much_is_rated(tmp_path: Path) -> None:
    sides = replace(_parted(tmp_path, not_before=NOW), training=_parted(tmp_path).training)
    assert sides.held_out == ()
    short = short_held_out(sides, Rules())
    assert short is not None
    assert short.more_ratings_needed == 2 * 64


def test_a_step_ends_where_the_next_begins_and_the_limit_is_kept() -> None:
    now = [0.0]
    told: list[Progress] = []
    context = _context(Path(), say=told.append, clock=lambda: now[0])
    context.begin("open", "Opening.")
    now[0] = 20.0
    context.begin("train", "Training.")
    now[0] = 59.0
    context.tell(1, 2, "Step 1.")
    now[0] = 61.0
    with pytest.raises(LimitReached, match="raise NIGHT_LIMIT_HOURS"):
        context.tell(2, 2, "Step 2.")
    context.end()
    assert context.seconds == {"open": 20.0, "train": 41.0}
    assert [(progress.step, progress.done) for progress in told] == [("open", 0), ("train", 0), ("train", 1)]
