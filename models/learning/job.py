"""What a night is asked to do, what it answers and how it ended: job.json, lines of progress, result.json, end.json.

Owns the words between the night's subprocess and who started it; both sides import this and nothing heavier.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.learning.files import read_json, write_json

JOB, RESULT, END, SNAPSHOT, RATERS, LOG = (
    "job.json",
    "result.json",
    "end.json",
    "examples.jsonl",
    "raters.json",
    "log.txt",
)


class JobDamaged(ModelError):
    """job.json, result.json or end.json isn't what was written."""


class Outcome(StrEnum):
    """How a night ended. Only PROMOTED has an adapter, which is installed and not yet pointed to."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    INSUFFICIENT = "insufficient"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One night to run in its folder, whose examples.jsonl has the hash `dataset_sha256`.

    `now` is when the snapshot was frozen: a night that is resumed weighs by the same clock. `incumbent` names the
    adapter that serves (None: the base). `train_rules` and `gate_rules` replace single fields of TrainRules and of the
    gate's Rules. `limit_seconds` is of wall time, over all starts; `spent_seconds` is what those before this one took.
    `system_prompt` is the operator's.
    """

    night_id: str
    model_path: Path
    model_sha256: str
    model_name: str
    models_dir: Path
    adapters_dir: Path
    dataset_sha256: str
    now: float  # seconds since the epoch
    incumbent: str | None = None
    seed: int = 0
    threads: int = 1
    limit_seconds: float = 3 * 3600.0
    spent_seconds: float = 0.0
    system_prompt: str = ""
    train_rules: dict[str, Any] = field(default_factory=dict)
    gate_rules: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """One line on the night's standard output: of `step`, `done` of `total` (0: unknown)."""

    step: str
    done: int
    total: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a night came to, in sentences for moderators and in figures for the store.

    `adapter` names what was installed. `more_ratings_needed` is of votes; None where nobody can say. `files` has the
    sha256 of the night's files that its result rests on. `resumable` says of a failed night that it may go on from its
    finished steps: what ended it (a full disk, its limit) may be gone.
    """

    outcome: Outcome
    sentences: tuple[str, ...]
    adapter: str | None = None
    more_ratings_needed: int | None = None
    warnings: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How the bot ended a night, which its job couldn't know; `outcome` may be "retracted" too.

    It names no member but raters in lists, as a Result does.
    """

    outcome: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def write_job(folder: Path, job: Job) -> None:
    """Write job.json; the night may start once it is there, so write it after the snapshot."""
    paths = {name: str(getattr(job, name).absolute()) for name in _PATHS}
    write_json(folder / JOB, asdict(job) | paths)


def read_job(folder: Path) -> Job:
    """Raises JobDamaged."""
    fields = _read(folder / JOB)
    try:
        paths = {name: Path(fields[name]) for name in _PATHS}
        return Job(**{**fields, **paths})
    except (TypeError, KeyError) as error:
        raise JobDamaged(f"{JOB} doesn't describe a night ({error}); run the night again.") from error


def write_result(folder: Path, result: Result) -> None:
    """Write result.json, the last file of a night."""
    write_json(folder / RESULT, asdict(result))


def read_result(folder: Path) -> Result | None:
    """Return the night's result, None while it has none. Raises JobDamaged."""
    if not (folder / RESULT).exists():
        return None
    fields = _read(folder / RESULT)
    try:
        result = Result(**fields)
        return replace(
            result,
            outcome=Outcome(result.outcome),
            sentences=tuple(result.sentences),
            warnings=tuple(result.warnings),
        )
    except (TypeError, ValueError) as error:
        raise JobDamaged(f"{RESULT} holds no result ({error}); run the night again.") from error


def write_end(folder: Path, end: End) -> None:
    write_json(folder / END, asdict(end))


def read_end(folder: Path) -> End | None:
    """Return how the night ended, None while nobody said so. Raises JobDamaged."""
    if not (folder / END).exists():
        return None
    fields = _read(folder / END)
    try:
        return End(fields["outcome"], tuple(fields["sentences"]), tuple(fields["warnings"]))
    except (TypeError, KeyError) as error:
        raise JobDamaged(f"{END} doesn't say how the night ended ({error}); run the night again.") from error


def progress_line(progress: Progress) -> str:
    return json.dumps(asdict(progress), ensure_ascii=False) + "\n"


def read_progress(line: str) -> Progress | None:
    """Return what a line of the night's output says, None for one that isn't progress (a library's own words)."""
    try:
        return Progress(**json.loads(line))
    except (ValueError, TypeError):
        return None


_PATHS = ("model_path", "models_dir", "adapters_dir")


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = read_json(path)
    except (OSError, ValueError) as error:
        raise JobDamaged(f"{path.name} can't be read ({error}); run the night again.") from error
    if not isinstance(fields, dict):
        raise JobDamaged(f"{path.name} holds no object; run the night again.")
    return fields
