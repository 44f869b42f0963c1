"""What of a night's folder goes when the night has ended: its bulk, and what tells of ratings that were taken back.

The files that a night's process writes are named in `models.learning.job` and its steps.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from models.learning import job as jobs

STANDING = "standing.json"
_BULK = ("train", "adapters")  # what was installed is elsewhere
_TOLD = {"train.json", "dropped.json"}  # of "train": what the report is drawn from, again when a canary has news
_OF_RATINGS = (
    *(jobs.SNAPSHOT, "labelled.jsonl", "pairs.jsonl", STANDING, "raters.json", "split.json", "scorecard.json"),
    *("phrases.json", "train", "evidence", "report.html", "*.png"),
)  # fmt: skip


def remove_bulk(folder: Path) -> None:
    """Remove what a night that ended needs no more; what can't be removed stays."""
    paths = (path for name in _BULK for path in (folder / name).rglob("*"))
    _remove(path for path in paths if path.name not in _TOLD and not path.is_dir())


def remove_ratings(folder: Path) -> None:
    """Remove what a night read and made of ratings; what can't be removed stays."""
    _remove([path for name in _OF_RATINGS for path in folder.glob(name)])


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
