"""The journal of what members asked for outlives a kill and a restored database."""

from __future__ import annotations

import json
from pathlib import Path

from bot.privacy.journal import Journal, RequestKind


def test_requests_are_read_back_in_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    assert journal.read() == []
    made = [journal.add(3, now=1.0), journal.add(4, now=2.0), journal.add(5, now=3.0)]
    assert Journal(journal.path).read() == made
    assert len({deletion.id for deletion in made}) == 3


def test_a_member_who_deletes_over_and_over_adds_no_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    other = journal.add(4, now=1.0)
    first = journal.add(3, now=2.0)
    size = journal.path.stat().st_size
    for _ in range(50):
        last = journal.add(3, now=3.0)
    assert journal.path.stat().st_size == size
    assert journal.read() == [other, last] and last.id != first.id


def test_lines_of_before_deletions_were_replaced_count_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    lines = [{"id": name, "member_id": 3, "requested_at": 1.0, "kind": "delete"} for name in ("first", "last")]
    journal.path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    assert [deletion.id for deletion in journal.read()] == ["last"]


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


def test_only_the_last_of_a_members_choices_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    other = journal.add(4, RequestKind.GIVE, now=1.0)
    journal.add(3, RequestKind.GIVE, now=2.0)
    journal.add(3, RequestKind.OPT_OUT, now=3.0)
    withdrawn = journal.add(3, RequestKind.WITHDRAW, now=4.0)
    back = journal.add(3, RequestKind.OPT_IN, now=5.0)
    assert journal.read() == [other, withdrawn, back]


def test_deletion_ends_a_consent_and_leaves_an_opt_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    out = journal.add(3, RequestKind.OPT_OUT, now=1.0)
    journal.add(3, RequestKind.WITHDRAW, now=2.0)
    deletion = journal.add(3, now=3.0)
    assert journal.read() == [out, deletion]


def test_lines_of_before_there_were_choices_are_deletions(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deletions.jsonl")
    line = {"id": "ab", "member_id": 3, "requested_at": 1.0}
    journal.path.write_text(f"\n{json.dumps(line)}\n\n{json.dumps({**line, 'kind': 'of a newer version'})}\n", "utf-8")
    [old] = journal.read()
    assert (old.id, old.member_id, old.kind) == ("ab", 3, RequestKind.DELETE)
    new = journal.add(4, now=2.0)
    assert journal.read() == [old, new]
    assert "of a newer version" in journal.path.read_text("utf-8")
