"""Write a file of a night so that a kill leaves the old one, the new one or none, never half of one.

Owns durability alone: what the files hold is their writers'.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> str:
    """Replace `path` at once and return the sha256 of its bytes; on return the file survives a loss of power."""
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
    sync_folder(path.parent)
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, value: Any) -> str:
    """Write `value` as `write_bytes` does, in a canonical form: the same value has the same hash.

    Raises ValueError for a number that isn't finite.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return write_bytes(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises FileNotFoundError, ValueError."""
    return json.loads(path.read_bytes())


def replace_folder(made: Path, folder: Path) -> None:
    """Put the complete folder `made` in the place of `folder`; what was there before is gone."""
    for path in sorted(made.rglob("*")):
        if path.is_file():
            sync_file(path)
    sync_folder(made)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made.replace(folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    # Not every system can open a folder (Windows); there the rename is as durable as it gets.
    with contextlib.suppress(OSError):
        sync_file(folder)


def sync_file(path: Path) -> None:
    """Return when the file's bytes survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
