"""The frozen values of a night, and the files that hold them.

Owns what the steps of a night hand to each other, and a canonical form of it on disk whose hash names the data. Doesn't
decide what may be learned from: that is the collector's, and how much a vote counts is the raters'.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

PAIR_SOURCES = ("regeneration", "click", "correction", "import")


class ExamplesDamaged(ModelError):
    """A file of examples doesn't hold what was frozen into it."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One member's say on one reply: the sign of `value` is the verdict, its size (1 = a thumb) the strength."""

    reply_id: int
    rater_id: int
    value: float
    weight: float = 1.0
    own_prompt: bool = False
    rated_at: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class RaterFacts:
    """What is known of a rater beside the votes; an age of None is unknown and held against nobody.

    Who `stands_in` is no one: they hold the labels that a file gives to one prompt without saying whose they are.
    """

    rater_id: int
    trusted: bool = False
    account_age_days: float | None = None
    membership_days: float | None = None
    banned: bool = False
    stands_in: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """One rated reply as the trainer sees it; `unsafe` means that it is never a positive, whatever `p_good` says."""

    reply_id: int
    conversation_id: str
    created_at: float  # seconds since the epoch
    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    prompt_version: int
    provenance: str
    p_good: float
    weight: float
    unsafe: bool = False
    cut: bool = False  # it broke off at the limit of its length: no end to learn


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two replies to one prompt, one preferred; `source` is one of PAIR_SOURCES."""

    chosen: Example
    rejected: Example
    weight: float
    source: str


def write_examples(path: Path, examples: Iterable[Example]) -> str:
    """Write one JSON object a line, replacing `path` at once, and return the sha256 of its bytes.

    The bytes are canonical (ordered by reply, keys sorted): the same examples in any order have the same hash. Raises
    ValueError for a number that isn't finite.
    """
    return _write(path, sorted((example.reply_id, _line(example)) for example in examples))


def read_examples(path: Path, *, sha256: str | None = None) -> tuple[Example, ...]:
    """Read what `write_examples` wrote, ordered by reply.

    Raises ExamplesDamaged, also when `sha256` is given and isn't the file's.
    """
    return tuple(_read(path, sha256, _example))


def write_pairs(path: Path, pairs: Iterable[PairExample]) -> str:
    """Write pairs as `write_examples` does examples."""
    return _write(path, sorted((pair.chosen.reply_id, _line(pair)) for pair in pairs))


def read_pairs(path: Path, *, sha256: str | None = None) -> tuple[PairExample, ...]:
    """Read what `write_pairs` wrote. Raises ExamplesDamaged."""
    return tuple(_read(path, sha256, _pair))


def _line(value: Example | PairExample) -> str:
    return json.dumps(asdict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _write(path: Path, lines: list[tuple[int, str]]) -> str:
    data = "".join(line + "\n" for _, line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, sha256: str | None, build: Any) -> Iterable[Any]:
    data = path.read_bytes()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ExamplesDamaged(f"{path.name} isn't the file that was frozen (its sha256 differs); run the night again.")
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            yield build(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            message = f"{path.name}, line {number} isn't an example ({error!r}); run the night again."
            raise ExamplesDamaged(message) from error


def _example(fields: dict[str, Any]) -> Example:
    prompt, completion = tuple(fields["prompt_token_ids"]), tuple(fields["completion_token_ids"])
    return Example(**{**fields, "prompt_token_ids": prompt, "completion_token_ids": completion})


def _pair(fields: dict[str, Any]) -> PairExample:
    chosen, rejected = _example(fields["chosen"]), _example(fields["rejected"])
    return PairExample(chosen=chosen, rejected=rejected, weight=fields["weight"], source=fields["source"])
