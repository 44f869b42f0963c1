"""The operator's terminal: progress of long work, and lines typed by a person, neither of which holds up a stop.

Says nothing of its own; `commands` decides what is shown.
"""

from __future__ import annotations

import queue
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bot.learning_records import NightProgress

# Stages without bytes to count, with how long they take.
_SLOW_STAGES = {"Converting the tokenizer": " (once for each model, 10 to 30 seconds)"}
_BRIEF_BYTES = 200_000_000  # checking less than this takes no time worth a line


class Stopped(Exception):
    """Raised into work whose progress is reported after it was given up."""


class ModelProgress:
    """Shows what the model's loading reports, from any thread: a bar in a terminal, a line a stage elsewhere.

    Work that reports after the end of the `with` block gets Stopped: that is how a download in a thread ends when the
    command is interrupted.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        console = Console(file=out or sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
            if self._bars.live.is_started:
                self._bars.stop()

    def report(self, stage: str, done: int, total: int) -> None:
        """Take note of `done` of `total` bytes of a stage; a total of 1 is work that can't be measured."""
        with self._lock:
            if self._over:
                raise Stopped
            if stage.startswith("Checking") and total < _BRIEF_BYTES:
                return
            if total <= 1 or not self._console.is_terminal:
                self._tell(stage, total)
                return
            if stage not in self._tasks:
                self._bars.start()
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)

    def _tell(self, stage: str, total: int) -> None:
        if stage in self._tasks:
            return
        self._tasks[stage] = TaskID(-1)
        size = f" ({total / 1_000_000:.0f} MB)" if total > 1 else _SLOW_STAGES.get(stage, "")
        self._console.print(f"{stage}{size} ...", highlight=False)


class NightBar:
    """Shows a night's progress: a bar for each step in a terminal, a line a step elsewhere."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._console = Console(file=out or sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._step = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_step()
        if self._bars.live.is_started:
            self._bars.stop()

    def report(self, progress: NightProgress) -> None:
        """Take note of where the night is."""
        if progress.step != self._step:
            self._end_step()
            self._step = progress.step
            if self._console.is_terminal:
                self._bars.start()
                self._task = self._bars.add_task("", total=None, count="")
            else:
                self._console.print(progress.sentence, highlight=False, markup=False)
        if self._task is not None:
            total = progress.total or None
            count = f"{progress.done}/{progress.total}" if total else ""
            told = escape(progress.sentence)
            self._bars.update(self._task, description=told, completed=progress.done, total=total, count=count)

    def _end_step(self) -> None:
        if self._task is not None:
            task = self._bars.tasks[self._bars.task_ids.index(self._task)]
            self._bars.update(self._task, total=task.total or 1, completed=task.total or 1)
            self._bars.stop_task(self._task)
            self._task = None


class TypedLines:
    """Lines of a stream, read by a thread of their own so that `close` can end a read that still waits for a person.

    The thread reads the raw stream: a buffered one would be locked by it when the interpreter ends.
    """

    def __init__(self, source: TextIO) -> None:
        self._source = source
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._read, daemon=True, name="typed lines").start()

    def isatty(self) -> bool:
        return self._source.isatty()

    def readline(self) -> str:
        """Return the next line, empty at the end of the input or after `close`; blocks."""
        return "" if self._closed else self._lines.get()

    def close(self) -> None:
        self._closed = True
        self._lines.put("")

    def _read(self) -> None:
        raw = getattr(self._source.buffer, "raw", self._source.buffer)
        encoding = self._source.encoding or "utf-8"
        rest = b""
        with suppress(OSError):  # the terminal went away: the input's end
            while chunk := raw.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._lines.put(line.decode(encoding, "replace") + "\n")
        if rest:
            self._lines.put(rest.decode(encoding, "replace"))
        self._lines.put("")
