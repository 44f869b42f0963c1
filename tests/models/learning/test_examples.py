from __future__ import annotations

import dataclasses
import hashlib
import random
from pathlib import Path

import pytest

from models.learning.examples import (
    Example,
    ExamplesDamaged,
    PairExample,
    read_examples,
    read_pairs,
    write_examples,
    write_pairs,
)


def _example(reply_id: int = 1, **changes: object) -> Example:
    example = Example(
        reply_id=reply_id,
        conversation_id="channel \u2028 频道\n",
        created_at=1_700_000_000.125,
        prompt_token_ids=(1, 2, 3),
        completion_token_ids=(4, 5),
        prompt_version=1,
        provenance="operator",
        p_good=0.1 + 0.2,
        weight=1 / 3,
    )
    return dataclasses.replace(example, **changes)  # type: ignore[arg-type]


def test_examples_survive_the_file_to_the_bit(tmp_path: Path) -> None:
    examples = (_example(1), _example(2, unsafe=True, completion_token_ids=()))
    write_examples(tmp_path / "examples.jsonl", examples)
    assert read_examples(tmp_path / "examples.jsonl") == examples


def test_pairs_survive_the_file_to_the_bit(tmp_path: Path) -> None:
    pairs = (PairExample(chosen=_example(1), rejected=_example(2), weight=0.5, source="click"),)
    sha256 = write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl", sha256=sha256) == pairs


def test_hash_is_that_of_the_file_and_the_same_in_any_order(tmp_path: Path) -> None:
    examples = [_example(reply_id) for reply_id in range(20)]
    first = write_examples(tmp_path / "a.jsonl", examples)
    random.Random(1).shuffle(examples)
    assert write_examples(tmp_path / "b.jsonl", examples) == first
    assert hashlib.sha256((tmp_path / "b.jsonl").read_bytes()).hexdigest() == first


def test_each_example_is_one_line(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.jsonl", [_example(1), _example(2)])
    assert (tmp_path / "examples.jsonl").read_bytes().count(b"\n") == 2


def test_no_examples_is_an_empty_file(tmp_path: Path) -> None:
    write_examples(tmp_path / "night" / "examples.jsonl", [])
    assert read_examples(tmp_path / "night" / "examples.jsonl") == ()


def test_changed_file_is_refused_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    sha256 = write_examples(path, [_example()])
    path.write_bytes(path.read_bytes().replace(b'"prompt_version":1', b'"prompt_version":2'))
    with pytest.raises(ExamplesDamaged, match="sha256"):
        read_examples(path, sha256=sha256)


@pytest.mark.parametrize("line", ["{", "[]", '{"reply_id":1}', "null"])
def test_line_that_is_no_example_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "examples.jsonl"
    write_examples(path, [_example()])
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(ExamplesDamaged, match="line 2"):
        read_examples(path)


def test_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "examples.jsonl"
    write_examples(path, [_example(1)])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.learning.examples.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_examples(path, [_example(2)])
    assert [example.reply_id for example in read_examples(path)] == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_examples(tmp_path / "examples.jsonl", [_example(weight=float("nan"))])
