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
    wrong_setting: bool = False  # an error that a setting alone is at fault for


def ready(findings: Iterable[Finding]) -> bool:
    """Return whether `encore run` would start."""
    return all(finding.level is not Level.ERROR for finding in findings)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return what `encore run` would end with: 0 when it would start, 2 where a setting is wrong, else 1."""
    told = list(findings)
    if ready(told):
        return 0
    return 2 if any(finding.wrong_setting for finding in told) else 1


def as_object(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return what `--json` prints."""
    told = list(findings)
    return {"ready": ready(told), "findings": [asdict(finding) for finding in told]}
