"""The commands of learning as their user sees them: sentences, exit codes, and the file each line is about."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bot import composition, learning_commands
from bot.__main__ import main
from bot.learning_records import Night, NightOutcome, NightProgress
from bot.night_cards import Card
from bot.settings import Settings, variable
from bot.store import Store
from bot.untold import Untold
from models.adapters import Adapters
from models.arms import CanaryVerdict, Decision
from models.fetch import sha256_of
from tests.bot import fake_night
from tests.models.adapter_files import stage
from tests.models.tiny_gguf import cache_tiny_tokenizer, write_tiny_gguf


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, a tiny model and nothing else set; logging as it was before afterwards."""
    for field in fields(Settings):
        monkeypatch.delenv(variable(field.name), raising=False)
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    cache_tiny_tokenizer(model, tmp_path / "data" / "models")
    monkeypatch.setenv("MODEL", str(model))
    monkeypatch.setenv("CANARY_SHARE", "0")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights that a fake process does, which is told what to do by the file `mode`."""
    real = composition.NightWork

    def fake(*arguments: Any, **options: Any) -> Any:
        mode = Path("mode").read_text() if Path("mode").exists() else "promote"
        return real(*arguments, **{**options, "command": (sys.executable, fake_night.__file__, mode)})

    monkeypatch.setattr(composition, "NightWork", fake)


def _lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def _rated() -> list[dict[str, Any]]:
    return [
        {"prompt": "How long does tea last?", "completion": "Two years.", "label": True, "rater": "mei"},
        {"prompt": "How long does tea last?", "chosen": "Two years.", "rejected": "No.", "source": "forum"},
    ]


def _install(folder: Path, *names: str) -> Adapters:
    sha256 = sha256_of(folder / "tiny.gguf")
    adapters = Adapters(folder / "data" / "adapters", sha256)
    for name in names:
        adapters.promote(
            adapters.install(stage(folder / f"staged-{name}", name, base_sha256=sha256)), share=None, since=1.0
        )
    return adapters


def _left_untold(folder: Path) -> list[Night | CanaryVerdict | Card]:
    """Return what moderators will read when Encore runs again, and take it as told."""

    async def left() -> list[Night | CanaryVerdict | Card]:
        async with await Store.open(folder / "data" / "encore.sqlite3") as store:
            untold, found = Untold(store), []
            while (of := await untold.first()) is not None:
                found.append(of)
                await untold.told()
            return found

    return asyncio.run(left())


def test_imported_file_is_counted_and_taken_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lines(folder / "rated.jsonl", *_rated())
    assert main(["import", "rated.jsonl"]) == 0
    told = capsys.readouterr()
    assert told.out == "Imported rated.jsonl, 2 lines: 2 replies, 1 pair. The next night may learn from them.\n"
    assert "Ignored keys: source." in told.err
    assert main(["import", "rated.jsonl"]) == 0
    assert "imported before; nothing was added" in capsys.readouterr().out


def test_wrong_line_is_named_and_nothing_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lines(folder / "rated.jsonl", *_rated(), {"prompt": "?", "completion": "!", "label": "yes"})
    assert main(["import", "rated.jsonl"]) == 1
    assert "line 3" in capsys.readouterr().err
    _lines(folder / "rated.jsonl", *_rated())
    assert main(["import", "rated.jsonl"]) == 0
    assert "2 replies" in capsys.readouterr().out


def test_missing_file_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["import", "gone.jsonl"], ["prompts", "import", "gone.txt"]):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert "gone" in told
        assert "Traceback" not in told


def test_prompts_are_added_once_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prompts.txt").write_text("What is tea?\n你好吗？\n\nWhat is tea?\n", "utf-8")
    assert main(["prompts", "import", "prompts.txt"]) == 0
    assert capsys.readouterr().out.startswith("Added 2 prompts of prompts.txt; there are 2 now.")
    assert main(["prompts", "import", "prompts.txt"]) == 0
    assert capsys.readouterr().out.startswith("Added no new prompts of prompts.txt; there are 2 now.")


@pytest.mark.usefixtures("job")
def test_night_tells_its_steps_and_what_came_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lines(folder / "rated.jsonl", *_rated())
    assert main(["import", "rated.jsonl"]) == 0
    assert main(["night"]) == 0
    told = capsys.readouterr()
    assert "Collecting the ratings." in told.err
    assert "Training." in told.err
    assert ": promoted.\n- It ended: promoted.\n" in told.out
    (name,) = _install(folder).names()
    assert f"From the next start on, the adapter {name} answers." in told.out


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("mode", "code", "told"),
    [("insufficient", 0, "It takes at least 40 more ratings to begin."), ("die", 1, "killed by signal 9")],
)
def test_night_that_promotes_nothing_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], mode: str, code: int, told: str
) -> None:
    Path("mode").write_text(mode)
    assert main(["night"]) == code
    assert told in capsys.readouterr().out


@pytest.mark.usefixtures("job")
def test_canary_that_a_night_ends_is_told_here_and_left_for_the_moderators_with_the_night(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = _install(folder, "a")
    staged = stage(folder / "staged-b", "b", base_sha256=sha256_of(folder / "tiny.gguf"))
    adapters.promote(adapters.install(staged), share=0.5, since=1.0)
    Path("mode").write_text("reject")
    assert main(["night"]) == 0
    told = "The canary was rolled back. It was not heard enough to stay: members have rated 0 of its conversations"
    assert told in capsys.readouterr().out
    verdict, night = _left_untold(folder)
    assert isinstance(verdict, CanaryVerdict) and verdict.decision is Decision.ROLL_BACK
    assert isinstance(night, Night) and night.outcome is NightOutcome.REJECTED
    assert _left_untold(folder) == []


@pytest.mark.usefixtures("job")
def test_stopped_night_ends_in_order_and_goes_on_the_next_time(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mode").write_text("hang")
    real = learning_commands.NightBar.report

    def stopping(bar: learning_commands.NightBar, progress: NightProgress) -> None:
        real(bar, progress)
        if progress.step == "train":
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(learning_commands.NightBar, "report", stopping)
        assert main(["night"]) == 0
    assert "goes on with the next `encore night`" in capsys.readouterr().err
    Path("mode").write_text("promote")
    assert main(["night"]) == 0
    assert ": promoted." in capsys.readouterr().out


def test_model_that_cannot_learn_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL", "echo")
    assert main(["night"]) == 1
    assert "can't learn; set MODEL=embedded" in capsys.readouterr().err


def test_rollback_goes_back_to_names_and_to_base(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapters = _install(folder, "a", "b")
    assert main(["rollback"]) == 0
    assert capsys.readouterr().out == "From the next start on, the adapter a answers.\n"
    assert adapters.serving().adapter == "a"
    assert main(["rollback", "b"]) == 0
    assert adapters.serving().adapter == "b"
    capsys.readouterr()
    assert main(["rollback", "base"]) == 0
    assert capsys.readouterr().out == "From the next start on, the model without an adapter answers.\n"
    assert adapters.serving().adapter is None


def test_rollback_at_the_terminal_is_left_for_the_moderators(folder: Path) -> None:
    _install(folder, "a", "b")
    assert main(["rollback"]) == 0
    told = "The operator, at the terminal, had `a` answer everyone again, instead of `b`."
    assert _left_untold(folder) == [Card("Rolled back", told)]


def test_rollback_that_is_refused_leaves_nothing_to_tell(folder: Path) -> None:
    _install(folder, "a")
    assert main(["rollback", "gone"]) == 1
    assert _left_untold(folder) == []


def test_rollback_to_nothing_known_lists_what_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _install(folder, "a", "b")
    assert main(["rollback", "gone"]) == 1
    told = capsys.readouterr().err
    assert "no adapter gone" in told
    assert "b, a" in told


def test_rollback_without_anything_before_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback"]) == 1
    assert "Nothing was served before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "remedy"),
    [(["night"], "/training run"), (["rollback"], "/training rollback"), (["import", "x.jsonl"], "stop it")],
)
def test_where_encore_runs_the_command_says_what_does_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], remedy: str
) -> None:
    (folder / "x.jsonl").write_text("{}")

    opened, done = threading.Event(), threading.Event()

    async def occupy() -> None:
        async with await Store.open(Settings().database):
            opened.set()
            await asyncio.to_thread(done.wait)

    other = threading.Thread(target=lambda: asyncio.run(occupy()))
    other.start()
    try:
        assert opened.wait(30)
        assert main(command) == 1
    finally:
        done.set()
        other.join()
    told = capsys.readouterr().err
    assert "Encore runs on data" in told
    assert remedy in told


@pytest.mark.parametrize(
    ("command", "promises"),
    [
        (["night"], ["serve what is better"]),
        (["rollback"], ["`base` for none", "default: what was served before"]),
        (["import"], ["one wrong line, and nothing is imported", "docs/import.md"]),
        (["prompts", "import"], ["rating rooms", "a prompt a line"]),
    ],
)
def test_help_says_what_happens(command: list[str], promises: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    help = " ".join(capsys.readouterr().out.split())
    for promise in [*promises, "Exit codes: 0"]:
        assert promise in help
