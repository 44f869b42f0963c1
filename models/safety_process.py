"""What scores messages: Encore's own classifier, or the operator's in a process so that serving never imports torch.

Owns the process of SAFETY_MODEL: started with the first text, asked in batches over pipes, ended with the bot. While it
starts, fails, or waits to be started again, Encore's own classifier stands in; the log says so once each time.
models/safety_worker.py is the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from models.safety import Category, SafetyClassifier, Scores
from models.safety_embedded import load_classifier
from models.safety_spec import resolve

log = logging.getLogger(__name__)

_START_SECONDS = 900.0  # a repository is fetched the first time
_ANSWER_SECONDS = 10.0
_BATCH = 16
_WAITING = 256  # texts; further ones are the stand-in's
_LINE_BYTES = 1_048_576
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 300.0
_LONGEST_TEXT = 4000
# The bot's token has no business there; the hub's is for repositories that ask for one.
_NEEDED = ("PATH", "HOME", "USERPROFILE", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH")
_NEEDED_BY_HUB = ("HF_", "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "REQUESTS_CA_BUNDLE")


class TextClassifier(Protocol):
    """Anything that scores texts for a bot that goes on meanwhile; it never fails."""

    async def scores(self, text: str) -> Scores: ...


@asynccontextmanager
async def open_classifier(model: str) -> AsyncIterator[TextClassifier]:
    """Open what SAFETY_MODEL names: `embedded`, or a transformers classifier's folder or repository.

    Raises WrongModel where it names neither.
    """
    spec = await asyncio.to_thread(resolve, model)
    embedded = await asyncio.to_thread(load_classifier)
    named = spec.folder or spec.repository
    if named is None:
        yield _InProcess(embedded)
        return
    async with ProcessClassifier(str(named), embedded) as classifier:
        yield classifier


class _InProcess:
    def __init__(self, classifier: SafetyClassifier) -> None:
        self._classifier = classifier

    async def scores(self, text: str) -> Scores:
        return self._classifier.scores(text)


class _Failed(Exception):
    """The process ended, or said something else than an answer."""


class ProcessClassifier:
    """Scores texts by the classifier of `model`, a folder or a repository; an async context manager.

    `command` starts the process, `first_pause` is the seconds before it is started again; it doubles up to 5 minutes.
    """

    def __init__(
        self,
        model: str,
        stand_in: SafetyClassifier,
        *,
        command: Sequence[str] = (sys.executable, "-m", "models.safety_worker"),
        first_pause: float = _FIRST_PAUSE_SECONDS,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        self._model, self._stand_in, self._command = model, stand_in, command
        self._first_pause, self._answer_seconds = first_pause, answer_seconds
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future[Scores]]] = asyncio.Queue(_WAITING)
        self._ready = asyncio.Event()
        self._served: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def scores(self, text: str) -> Scores:
        """Score a text: by the process if it is ready, else by the stand-in. Never fails."""
        self._start()
        if not self._ready.is_set() or self._waiting.full():
            return self._stand_in.scores(text)
        asked: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((text[:_LONGEST_TEXT], asked))
        try:
            return await asked
        except _Failed:
            return self._stand_in.scores(text)

    async def ready(self) -> None:
        """Start the process, and wait until it answers. Waits for ever if it never does."""
        self._start()
        await self._ready.wait()

    async def close(self) -> None:
        """End the process; texts that wait, and later ones, are the stand-in's."""
        self._closed = True
        if self._served is not None:
            self._served.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._served

    def _start(self) -> None:
        if self._served is None and not self._closed:
            self._served = asyncio.create_task(self._serve(), name="safety classifier")

    async def _serve(self) -> None:
        pause = self._first_pause
        while True:
            answered = 0
            try:
                async with _Process(self._command, self._model) as process:
                    said = await process.read(_START_SECONDS)
                    if "ready" not in said:
                        raise _Failed(said.get("error", "it said nothing of being ready"))
                    log.info("SAFETY_MODEL %s scores %s from now on", self._model, ", ".join(said["ready"]))
                    self._ready.set()
                    while True:
                        await self._answer(process)
                        answered += 1
            except (_Failed, OSError) as error:
                pause = self._first_pause if answered else pause
                log.warning(
                    "SAFETY_MODEL %s doesn't answer (%s); Encore's own classifier stands in, the next try is in %g s",
                    self._model, error, pause,
                )  # fmt: skip
            finally:
                self._ready.clear()
                self._fail_waiting()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _answer(self, process: _Process) -> None:
        batch = [await self._waiting.get()]
        while len(batch) < _BATCH and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        try:
            await process.write({"texts": [text for text, _ in batch]})
            found = (await process.read(self._answer_seconds)).get("scores")
            scores = _read_scores(found, len(batch))
        except BaseException:
            self._ready.clear()  # before anyone hears of it, and asks again
            for _, asked in batch:
                _fail(asked)
            raise
        for (_, asked), score in zip(batch, scores, strict=True):
            if not asked.done():
                asked.set_result(score)

    def _fail_waiting(self) -> None:
        while not self._waiting.empty():
            _fail(self._waiting.get_nowait()[1])


class _Process:
    """The process with its pipes; killed at the end of the block."""

    def __init__(self, command: Sequence[str], model: str) -> None:
        self._line = (*command, model)
        self._process: Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._line, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=_environment(), limit=_LINE_BYTES
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._process.wait())

    async def write(self, said: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        await self._process.stdin.drain()

    async def read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
            said = json.loads(line) if line else None
        except TimeoutError:
            raise _Failed(f"no answer within {seconds:g} s") from None
        except ValueError:
            raise _Failed("its answer is no JSON line") from None
        if not isinstance(said, dict):
            raise _Failed("its process ended")
        return said


def _environment() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _NEEDED or name.upper().startswith(_NEEDED_BY_HUB)
    }
    source = str(Path(__file__).resolve().parent.parent)
    return passed | {"PYTHONPATH": source, "PYTHONUTF8": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def _read_scores(found: Any, count: int) -> list[Scores]:
    try:
        scores = [{Category(kind): float(score) for kind, score in one.items()} for one in found]
    except (ValueError, TypeError, AttributeError):
        raise _Failed("its scores can't be read") from None
    if len(scores) != count:
        raise _Failed(f"it scored {len(scores)} of {count} texts")
    return list(scores)


def _fail(asked: asyncio.Future[Scores]) -> None:
    if not asked.done():
        asked.set_exception(_Failed("it ended"))
