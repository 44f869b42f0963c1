"""Adapters to install: sealed folders whose files are bytes, and kills at any write of what is done with them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from models.adapters import Adapters
from models.manifest import FILES, GGUF, Manifest, seal

BASE = "b" * 64
_WRITES = ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir")


def manifest_of(name: str, **changes: Any) -> Manifest:
    usual = Manifest(
        name=name,
        created_at=1_795_000_000.0,
        base_model="tiny",
        base_sha256=BASE,
        dataset_sha256="d" * 64,
        night=name.rpartition("-")[0] or name,
        objective="kto",
        training_cut=1_794_990_000.0,
        rank=16,
        alpha=32,
        scorecard={"win_rate": 0.6},
    )
    return replace(usual, **changes)


def stage(folder: Path, name: str, *, content: bytes = b"", **changes: Any) -> Path:
    """Make the folder that a night would hand over; its files hold `content` and their own names."""
    folder.mkdir(parents=True)
    for file_name in FILES:
        (folder / file_name).write_bytes(f"{name} {file_name} ".encode() + content)
    seal(folder, manifest_of(name, **changes))
    return folder


class Killed(BaseException):
    """Stands for kill -9: no handler of an Exception sees it, and no clean-up changes a file after it."""


@contextmanager
def killed_at(number: int) -> Iterator[Callable[[], int]]:
    """Die at the write of that number (from 0), and at every later one. A sync that dies leaves half of its file.

    Yields a function that says how many writes there were.
    """
    count = 0

    def dying(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count - 1 < number:
                return real(*args, **options)
            if count - 1 == number and name == "fsync":
                _halve(args[0])
            raise Killed

        return write

    with ExitStack() as patches:
        patches.enter_context(suppress(Killed))
        for name in _WRITES:
            patches.enter_context(mock.patch.object(os, name, dying(getattr(os, name), name)))
        yield lambda: count


@contextmanager
def full_at(number: int) -> Iterator[Callable[[], int]]:
    """Have the disk full from the write of that number (from 0) on; what only removes goes through.

    Yields a function that says how many writes there were.
    """
    count = 0

    def filling(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return write

    with ExitStack() as patches:
        for name in ("fsync", "replace", "mkdir"):
            patches.enter_context(mock.patch.object(os, name, filling(getattr(os, name))))
        yield lambda: count


def _halve(descriptor: int) -> None:
    """Lose what power can lose: bytes that no sync has kept."""
    try:
        os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
    except OSError:  # a folder, or a file that was opened to be read
        path = Path(f"/proc/self/fd/{descriptor}")
        if path.exists() and path.resolve().is_file():
            os.truncate(path.resolve(), path.stat().st_size // 2)


def three_adapters(folder: Path) -> Adapters:
    """Install three adapters, a day apart, from `folder`/nights; nothing is served."""
    found = Adapters(folder / "adapters", BASE)
    for day, name in enumerate(("monday", "tuesday", "wednesday")):
        found.install(stage(folder / "nights" / name, name, created_at=1000.0 + day))
    return found


def damage(adapters: Adapters, name: str, file_name: str = GGUF) -> None:
    """Change one byte and keep the size."""
    path = adapters.folder / name / file_name
    path.write_bytes(b"X" + path.read_bytes()[1:])
