"""What `encore doctor` finds: how bad it is, one sentence, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    OK = "ok"
    NOTICE = "notice"  # good to know
    WARNING = "warning"  # runs, but should be mended
    ERROR = "error"  # `encore run` would not start


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Level
    sentence: str
    remedy: str = ""


def ready(findings: Iterable[Finding]) -> bool:
    """Return whether `encore run` would start."""
    return all(finding.level is not Level.ERROR for finding in findings)


def as_object(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return what `--json` prints."""
    told = list(findings)
    return {"ready": ready(told), "findings": [asdict(finding) for finding in told]}
