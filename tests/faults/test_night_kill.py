"""kill -9 of a night's process at each of its steps: the next run comes to the same end, byte for byte.

The process is a real one, forked from a server that has imported torch once, and kills itself with SIGKILL where its
progress says that it is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from models.learning import job as jobs
from models.learning.job import Outcome, Progress, Result
from models.learning.night import night
from tests.models.learning.nights import PROMOTING, SMALL_CHECKS, make_night, tasteful_snapshot, tiny_model

if not hasattr(signal, "SIGKILL"):  # pragma: no cover
    pytest.skip("there is no SIGKILL here", allow_module_level=True)

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["models.learning.proof", "tests.faults.test_night_kill"])


def _night_in_a_process(folder: Path, step: str, done: int) -> None:
    def say(told: Progress) -> None:
        if told.step == step and told.done >= done:
            os.kill(os.getpid(), signal.SIGKILL)

    for module, name, value in SMALL_CHECKS:
        setattr(import_module(module), name, value)
    night(folder, say=say)


def _run(folder: Path, *, kill_at: tuple[str, int] = ("", 0)) -> int | None:
    process = _PROCESSES.Process(target=_night_in_a_process, args=(folder, *kill_at))
    process.start()
    process.join()
    return process.exitcode


@dataclass(frozen=True, slots=True)
class _End:
    result: Result
    result_bytes: bytes
    adapters: dict[str, bytes]


def _end(folder: Path) -> _End:
    result = jobs.read_result(folder)
    assert result is not None
    root = folder.parent / "adapters"
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    files.pop(".lock", None)
    return _End(result, (folder / jobs.RESULT).read_bytes(), files)


@pytest.fixture(scope="module", autouse=True)
def _small_checks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module, name, value in SMALL_CHECKS:
            patched.setattr(f"{module}.{name}", value)
        yield


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models"))


def _made(root: Path, gguf: Path) -> Path:
    folder = root / "2026-11-24"
    make_night(folder, gguf, tasteful_snapshot(pairs=30), gate_rules=PROMOTING)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, gguf: Path) -> _End:
    folder = _made(tmp_path_factory.mktemp("whole"), gguf)
    assert _run(folder) == 0
    end = _end(folder)
    assert end.result.outcome is Outcome.PROMOTED, end.result.sentences
    return end


@pytest.mark.parametrize(
    "kill_at",
    [
        ("raters", 0),
        ("split", 0),
        ("train", 6),
        ("convert", 0),
        ("convert", 1),
        ("evaluate", 1),
        ("gate", 0),
        ("install", 0),
    ],
)
def test_a_killed_night_comes_to_the_same_end(
    tmp_path: Path, gguf: Path, whole: _End, kill_at: tuple[str, int]
) -> None:
    folder = _made(tmp_path, gguf)
    assert _run(folder, kill_at=kill_at) == -signal.SIGKILL
    assert jobs.read_result(folder) is None
    assert _run(folder) == 0
    assert _end(folder) == whole


def test_a_night_killed_at_every_step_comes_to_the_same_end(tmp_path: Path, gguf: Path, whole: _End) -> None:
    folder = _made(tmp_path, gguf)
    for step in ("train", "convert", "evaluate", "install"):
        assert _run(folder, kill_at=(step, 1 if step != "install" else 0)) == -signal.SIGKILL
    assert _run(folder) == 0
    assert _end(folder) == whole
