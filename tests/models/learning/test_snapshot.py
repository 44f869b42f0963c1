from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from models.learning.examples import ExamplesDamaged, Vote
from models.learning.snapshot import CollectedPair, Opinion, Snapshot, read_snapshot, write_snapshot
from tests.models.learning.nights import reply, small_snapshot


def test_snapshot_survives_the_file(tmp_path: Path) -> None:
    odd = reply(9, author_id=2**63, completion_text="你好 \u2028 \n", adapter="2026-11-24-kto", created_at=0.1 + 0.2)
    whole = small_snapshot()
    snapshot = replace(whole, replies=(*whole.replies, odd))
    sha256 = write_snapshot(tmp_path / "examples.jsonl", snapshot)
    read = read_snapshot(tmp_path / "examples.jsonl", sha256=sha256)
    assert read == replace(snapshot, votes=read.votes)
    assert set(read.votes) == set(snapshot.votes)


def test_hash_is_the_files_and_the_same_in_any_order(tmp_path: Path) -> None:
    snapshot = small_snapshot()
    first = write_snapshot(tmp_path / "a.jsonl", snapshot)
    draw = random.Random(3)
    shuffled = Snapshot(
        replies=tuple(draw.sample(snapshot.replies, len(snapshot.replies))),
        votes=tuple(draw.sample(snapshot.votes, len(snapshot.votes))),
        facts=dict(reversed(snapshot.facts.items())),
        gold=snapshot.gold,
        pairs=snapshot.pairs,
    )
    assert write_snapshot(tmp_path / "b.jsonl", shuffled) == first
    assert hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest() == first


@pytest.mark.parametrize("cut", [1, 40, 500])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "examples.jsonl"
    sha256 = write_snapshot(path, small_snapshot())
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ExamplesDamaged, match="sha256 differs"):
        read_snapshot(path, sha256=sha256)


@pytest.mark.parametrize(
    "line",
    [b"[]", b'{"kind":"vote"}', b'{"kind":"member","id":1}', b"nonsense", b'{"kind":"gold","reply_id":77,"good":true}'],
)
def test_a_line_that_is_none_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "examples.jsonl"
    write_snapshot(path, small_snapshot())
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ExamplesDamaged, match=r"examples\.jsonl"):
        read_snapshot(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ExamplesDamaged, match="missing"):
        read_snapshot(tmp_path / "examples.jsonl")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"votes": (Vote(99, 1, 1.0),)}, "99"),
        ({"votes": (Vote(1, 1, math.nan),)}, "finite"),
        ({"gold": {99: True}}, "99"),
        ({"replies": (reply(1), reply(1))}, "twice"),
        ({"replies": (*(reply(i) for i in (1, 2, 3)), reply(4, completion_token_ids=()))}, "reply 4"),
        ({"pairs": (CollectedPair(1, 99, 1.0, "click"),)}, "99"),
        ({"pairs": (CollectedPair(1, 1, 1.0, "click"),)}, "no pair"),
        ({"pairs": (CollectedPair(1, 2, 1.0, "guess"),)}, "no pair"),
        ({"pairs": (CollectedPair(1, 2, 1.0, "click", 0.0, (Opinion(5, 2),)),)}, "opinion"),
        ({"pairs": (CollectedPair(1, 2, 1.0, "click", 0.0, (Opinion(5, 1), Opinion(5, -1))),)}, "opinion"),
        ({"pairs": (CollectedPair(1, 2, 1.0, "click", 0.0, (Opinion(5, 1, False, float("nan")),)),)}, "finite"),
    ],
)
def test_what_is_not_whole_is_not_written(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_snapshot(tmp_path / "examples.jsonl", replace(small_snapshot(), **changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
