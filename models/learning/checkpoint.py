"""What a training run keeps on disk: checkpoints to resume from, and reference log-probabilities that runs share.

Every write is whole or not there. Safetensors and JSON only: nothing here can run code when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from models.learning.batches import Tokens

_STATE = "state"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Replace `path` at once by tensors and a JSON-able state in one file. Raises DiskFull."""
    write_durably(path, save(dict(tensors), metadata={_STATE: json.dumps(state)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return what `write_checkpoint` wrote, or None if there is nothing readable."""
    try:
        with safe_open(str(path), framework="pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()[_STATE])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


class References:
    """Log-probabilities under the base, each computed once; with a `path`, kept for the night's other runs."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, float] = {}
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                self._known = json.loads(path.read_text("utf-8"))

    def missing(self, sequences: Sequence[Tokens]) -> list[Tokens]:
        """Return, once each, the sequences that aren't known yet."""
        return list({_key(sequence): sequence for sequence in sequences if sequence not in self}.values())

    def add(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        """Remember the values, durably where there is a path. Raises DiskFull."""
        self._known |= {_key(sequence): value for sequence, value in zip(sequences, values, strict=True)}
        if self._path is not None:
            write_durably(self._path, json.dumps(self._known).encode())

    def __contains__(self, sequence: Tokens) -> bool:
        return _key(sequence) in self._known

    def __getitem__(self, sequence: Tokens) -> float:
        return self._known[_key(sequence)]


def _key(sequence: Tokens) -> str:
    learned = bytes(sequence.learned)
    return hashlib.sha256(struct.pack(f"<{len(sequence.ids)}I", *sequence.ids) + learned).hexdigest()[:32]


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` at once. Raises DiskFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with told_if_full(path):
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


@contextlib.contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """Turn a full disk, as the system or safetensors reports it, into DiskFull; what was there before is whole."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "os error 28" in str(error) or "No space left" in str(error):
            raise DiskFull(
                f"The disk is full: {path.name} couldn't be written. Free 1 GB beside {path.parent}; the next night "
                "goes on from here."
            ) from error
        raise
