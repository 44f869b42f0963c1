"""The journal of what members asked for: one line a request, in a file of its own, since a restored database forgot it.

Owns that a request which was acknowledged is never lost, and that of a member's deletions and choices only the last is
kept: three lines a member at most. What a request does is `bot.privacy.forget`'s.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from models.learning.files import write_bytes

JOURNAL = "deletions.jsonl"  # beside the database


class RequestKind(StrEnum):
    DELETE = "delete"
    GIVE = "give"  # consent
    WITHDRAW = "withdraw"
    OPT_OUT = "optout"
    OPT_IN = "optin"


_CONSENT = frozenset({RequestKind.GIVE, RequestKind.WITHDRAW})
_OPTING = frozenset({RequestKind.OPT_OUT, RequestKind.OPT_IN})
_REPLACES = {  # a deletion does what an earlier one did, and ends a consent; it leaves an opt-out
    RequestKind.DELETE: _CONSENT | {RequestKind.DELETE},
    RequestKind.GIVE: _CONSENT,
    RequestKind.WITHDRAW: _CONSENT,
    RequestKind.OPT_OUT: _OPTING,
    RequestKind.OPT_IN: _OPTING,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a member asked for; `id` is random, `requested_at` in seconds since the epoch."""

    id: str
    member_id: int
    requested_at: float
    kind: RequestKind = RequestKind.DELETE  # the only kind that had lines before there were others

    def replaces(self, earlier: Request) -> bool:
        """Return whether an earlier request says nothing any more."""
        return earlier.member_id == self.member_id and earlier.kind in _REPLACES[self.kind]


class Journal:
    """Blocks; one process writes it, which holds the data folder's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, member_id: int, kind: RequestKind = RequestKind.DELETE, *, now: float) -> Request:
        """Write a request down, in the place of what it replaces; on return it survives a loss of power.

        Raises OSError, and the journal is as it was.
        """
        request = Request(secrets.token_hex(8), member_id, now, kind)
        kept = [line for line in self._lines() if (known := _read(line)) is None or not request.replaces(known)]
        write_bytes(self.path, "".join(f"{line}\n" for line in (*kept, json.dumps(asdict(request)))).encode())
        return request

    def read(self) -> list[Request]:
        """Return every request that counts, the oldest first; a line that was torn off was never acknowledged.

        Raises OSError.
        """
        requests = [request for line in self._lines() if (request := _read(line)) is not None]
        kept: list[Request] = []
        replaced: set[tuple[int, RequestKind]] = set()
        for request in reversed(requests):  # files of before have what would be replaced today
            if (request.member_id, request.kind) not in replaced:
                kept.append(request)
                replaced.update((request.member_id, kind) for kind in _REPLACES[request.kind])
        return kept[::-1]

    def _lines(self) -> list[str]:
        try:
            return [line for line in self.path.read_text("utf-8", errors="replace").splitlines() if line]
        except FileNotFoundError:
            return []


def _read(line: str) -> Request | None:
    with contextlib.suppress(ValueError, TypeError):
        request = Request(**json.loads(line))
        return Request(request.id, request.member_id, request.requested_at, RequestKind(request.kind))
    return None
