"""Whose data a night's folder holds: members.json in it, written before anything of theirs, and kept the longest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from models.learning.files import read_json, write_json

MEMBERS = "members.json"


def note_members(folder: Path, members: Collection[int]) -> None:
    """Say whose data a night's folder will hold."""
    write_json(folder / MEMBERS, sorted(members))


def members_of(folder: Path) -> frozenset[int] | None:
    """Return whose data a night's folder holds; None when it doesn't say."""
    try:
        return frozenset(map(int, read_json(folder / MEMBERS)))
    except (OSError, ValueError, TypeError):
        return None


def members_by_night(nights: Path) -> dict[str, frozenset[int] | None]:
    """Return whose data each night's folder in `nights` holds; None for one that doesn't say."""
    found = nights.iterdir() if nights.is_dir() else ()
    return {path.name: members_of(path) for path in found if path.is_dir() and not path.name.startswith(".")}
