"""The journal of deletions outlives a kill and a restored database."""

from __future__ import annotations

from pathlib import Path

from bot.privacy.journal import Journal


def test_requests_are_read_back_in_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    assert journal.read() == []
    made = [journal.add(3, now=1.0), journal.add(4, now=2.0), journal.add(3, now=3.0)]
    assert Journal(journal.path).read() == made
    assert len({deletion.id for deletion in made}) == 3


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    journal.add(3, now=1.0)
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_line_torn_off_by_a_kill_costs_neither_the_one_before_nor_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    first, torn = journal.add(3, now=1.0), journal.add(4, now=2.0)
    journal.path.write_bytes(journal.path.read_bytes()[:-20])
    assert journal.read() == [first]
    last = journal.add(5, now=3.0)
    assert journal.read() == [first, last]
    assert torn.id not in {deletion.id for deletion in journal.read()}
