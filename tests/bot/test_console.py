"""Progress that ends work which was given up, and typed lines that end when asked."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from bot.console import ModelProgress, NightBar, Stopped, TypedLines
from bot.learning_records import NightProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_outside_a_terminal_each_stage_is_one_line() -> None:
    out = io.StringIO()
    with ModelProgress(out) as progress:
        for done in range(0, 98_000_001, 1_000_000):
            progress.report("Downloading the embedded model", done, 98_000_000)
        progress.report("Converting the tokenizer", 0, 1)
        progress.report("Converting the tokenizer", 1, 1)
    assert out.getvalue().splitlines() == [
        "Downloading the embedded model (98 MB) ...",
        "Converting the tokenizer (once for each model, 10 to 30 seconds) ...",
    ]


def test_a_terminal_gets_a_bar_with_sizes() -> None:
    out = Terminal()
    with ModelProgress(out) as progress:
        progress.report("Downloading the embedded model", 49_000_000, 98_000_000)
        progress.report("Downloading the embedded model", 98_000_000, 98_000_000)
    assert "98.0/98.0 MB" in out.getvalue()


def test_a_quick_check_is_not_worth_a_line() -> None:
    out = io.StringIO()
    with ModelProgress(out) as progress:
        progress.report("Checking the model", 1, 98_000_000)
        progress.report("Checking the model", 1, 1_100_000_000)
    assert out.getvalue() == "Checking the model (1100 MB) ...\n"


def test_work_that_was_given_up_is_stopped_at_its_next_report() -> None:
    with ModelProgress(io.StringIO()) as progress:
        progress.report("Downloading the model", 1, 10)
    with pytest.raises(Stopped):
        progress.report("Downloading the model", 2, 10)


def _night(step: str, done: int, total: int, sentence: str) -> NightProgress:
    return NightProgress("2026-11-24", step, done, total, sentence, 0.0)


def test_outside_a_terminal_each_step_of_a_night_is_one_line() -> None:
    out = io.StringIO()
    with NightBar(out) as bar:
        bar.report(_night("collect", 0, 0, "Collecting the ratings."))
        for done in range(5):
            bar.report(_night("train", done, 4, f"Training [kto], step {done}."))
    assert out.getvalue().splitlines() == ["Collecting the ratings.", "Training [kto], step 0."]


def test_a_terminal_gets_a_bar_for_each_step_of_a_night() -> None:
    out = Terminal()
    with NightBar(out) as bar:
        bar.report(_night("collect", 0, 0, "Collecting the ratings."))
        bar.report(_night("train", 3, 4, "Training [kto]."))
    shown = out.getvalue()
    assert "Collecting the ratings." in shown
    assert "Training [kto]." in shown
    assert "3/4" in shown


def _piped() -> tuple[io.TextIOWrapper, int]:
    read, write = os.pipe()
    return os.fdopen(read, encoding="utf-8"), write


def test_lines_come_whole_whatever_the_chunks() -> None:
    source, write = _piped()
    with source:
        lines = TypedLines(source)
        data = "你好\nsecond line\r\nlast".encode()
        for start in range(0, len(data), 4):
            os.write(write, data[start : start + 4])
        os.close(write)
        assert [lines.readline() for _ in range(4)] == ["你好\n", "second line\r\n", "last", ""]


def test_end_of_input_stays_the_end() -> None:
    source, write = _piped()
    with source:
        os.close(write)
        lines = TypedLines(source)
        assert lines.readline() == ""
        lines.close()
        assert lines.readline() == ""


def test_close_ends_a_read_that_waits() -> None:
    source, write = _piped()
    lines = TypedLines(source)
    read: list[str] = []
    waiting = threading.Thread(target=lambda: read.append(lines.readline()))
    waiting.start()
    lines.close()
    waiting.join(10)
    assert read == [""]
    os.close(write)
    for thread in threading.enumerate():
        if thread.name == "typed lines":
            thread.join(10)
    source.close()


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "script.txt").write_text("one\ntwo\n")
    with (tmp_path / "script.txt").open(encoding="utf-8") as source:
        lines = TypedLines(source)
        assert [lines.readline() for _ in range(3)] == ["one\n", "two\n", ""]
        assert not lines.isatty()
