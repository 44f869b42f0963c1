"""The journal of deletions: one line a request, in a file of its own, since a restored database has forgotten them.

Owns that a request which was acknowledged is never lost. What a deletion does is `bot.privacy.forget`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from models.learning.files import sync_folder

JOURNAL = "deletions.jsonl"  # beside the database


@dataclass(frozen=True, slots=True)
class Deletion:
    """A member's request; `id` is random, `requested_at` in seconds since the epoch."""

    id: str
    member_id: int
    requested_at: float


class Journal:
    """Blocks; one process writes it, which holds the data folder's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, member_id: int, *, now: float) -> Deletion:
        """Write a request down; on return it survives a loss of power. Raises OSError."""
        deletion = Deletion(secrets.token_hex(8), member_id, now)
        made = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # What a kill tore off ends here, and is a line of its own that says nothing.
            os.write(descriptor, f"\n{json.dumps(asdict(deletion))}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if made:
            sync_folder(self.path.parent)
        return deletion

    def read(self) -> list[Deletion]:
        """Return every request, the oldest first; a line that was torn off was never acknowledged. Raises OSError."""
        found = []
        try:
            lines = self.path.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                found.append(Deletion(**json.loads(line)))
        return found
