"""The processes of learning: a night's job and the judge of a canary, at low priority and without secrets.

Owns how they are started, listened to and ended; what they do is `models.learning`'s. Nothing that they do, say or fail
at can hold up or end this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import models
from models.arms import CanaryRating, CanaryVerdict
from models.learning import watch
from models.learning.job import LOG, Progress, read_progress

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "models.learning.leash", "models.learning.night")
_JUDGE = (sys.executable, "-m", "models.learning.watch")
_JUDGE_SECONDS = 120.0
_REPORT = (sys.executable, "-m", "models.learning.report")
_REPORT_SECONDS = 120.0
_LINE_BYTES = 65_536  # a longer line is none of ours
_LOWEST_PRIORITY = 19
# What a Python process with torch may need. Tokens and keys have no business there: nothing is fetched at night.
_PASSED_ON = {
    "PATH", "HOME", "USERPROFILE", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV", "XDG_CACHE_HOME",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job's process ended; `code` is negative for a signal, None where it was ended at its limit."""

    code: int | None


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a job: the few variables that it needs, and no secret."""
    passed = {name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON}
    return passed | {
        "PYTHONPATH": str(Path(models.__file__).resolve().parent.parent),
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
    }


async def run_job(
    command: Sequence[str],
    folder: Path,
    *,
    limit_seconds: float,
    threads: int,
    on_progress: Callable[[Progress], None],
) -> JobEnd:
    """Run a night's job in its folder to its end, or until it has taken `limit_seconds`.

    Cancelled, it ends the job first. What the job writes on stderr goes to its log.
    """
    with await asyncio.to_thread((folder / LOG).open, "ab") as errors:
        async with _process((*command, str(folder)), environment(threads), stderr=errors) as process:
            try:
                async with asyncio.timeout(limit_seconds):
                    await _listen(process, on_progress)
                    return JobEnd(await process.wait())
            except TimeoutError:
                return JobEnd(None)


async def judge_canary(ratings: Iterable[CanaryRating], night: Path | None = None) -> CanaryVerdict | None:
    """Ask a process of its own what the canary's ratings say; None when it didn't answer, which the log explains.

    The report in the folder `night` then shows them.
    """
    errors = b""
    command = (*_JUDGE, *([str(night)] if night else []))
    async with _process(command, environment(1), stderr=PIPE) as process:
        try:
            async with asyncio.timeout(_JUDGE_SECONDS):
                said, errors = await process.communicate(watch.question(ratings).encode())
            return watch.answer(said.decode())
        except (TimeoutError, ValueError, KeyError, TypeError) as error:
            told = errors.decode(errors="replace")[-2000:] if process.returncode else ""
            log.warning("the canary could not be judged this time: %r %s", error, told)
            return None


async def draw_report(night: Path) -> None:
    """Have a process of its own write the report of a night that is over; trouble is only logged."""
    try:
        async with _process((*_REPORT, str(night)), environment(1), stderr=PIPE) as process:
            async with asyncio.timeout(_REPORT_SECONDS):
                _, errors = await process.communicate()
    except OSError as error:  # a TimeoutError is one too
        log.warning("the night %s has no report: %r", night.name, error)
    else:
        if process.returncode:
            log.warning("the night %s has no report: %s", night.name, errors.decode(errors="replace")[-2000:])


@asynccontextmanager
async def _process(command: Sequence[str], environment: Mapping[str, str], *, stderr: object) -> AsyncIterator[Process]:
    """Start a process in a group of its own; still running at the end of the block, the group is killed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE, stdout=PIPE, stderr=stderr or DEVNULL,  # type: ignore[arg-type]
        env=dict(environment), start_new_session=True, limit=_LINE_BYTES,
    )  # fmt: skip
    try:
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # it ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST_PRIORITY)
        yield process
    finally:
        _kill(process)
        await asyncio.shield(process.wait())


def _kill(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


async def _listen(process: Process, on_progress: Callable[[Progress], None]) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # a line longer than the limit, which asyncio has dropped
            continue
        if not line:
            return
        progress = read_progress(line.decode(errors="replace"))
        if progress is not None:
            on_progress(progress)
