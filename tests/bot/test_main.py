"""The command line as its user sees it: sentences, exit codes, what lands in which folder, and an orderly stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import aiohttp
import pytest

from bot import commands
from bot.__main__ import main
from bot.settings import Settings, variable
from bot.store import Store

_ROOT = Path(__file__).resolve().parents[2]
_TOKEN = "MTAwMDAwMDAwMDAwMDAwMDAw.Gabcde.abcdefghijklmnopqrstuvwxyz0123456789AB"
_COMMANDS = {
    "demo": (), "run": (), "chat": (), "doctor": (), "backup": ("to.sqlite3",), "restore": ("from.sqlite3",),
    "night": (), "rollback": (), "import": ("rated.jsonl",), "prompts": ("import", "prompts.txt"),
    "mydata": ("delete", "300000000000000001"),
}  # fmt: skip
_SECONDS = 60


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder with the echo model and nothing else set; logging as it was before afterwards."""
    for field in fields(Settings):
        monkeypatch.delenv(variable(field.name), raising=False)
    monkeypatch.setenv("MODEL", "echo")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    umask = os.umask(0o022)
    yield tmp_path
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@asynccontextmanager
async def encore(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command of its own process in this folder; it is killed when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *arguments,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    assert stream
    async with asyncio.timeout(_SECONDS):
        while line := (await stream.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"no line with {text!r}")


# ---------------------------------------------------------------------- help and wrong input


@pytest.mark.parametrize(
    ("command", "promises"),
    [
        ("demo", ["0 = any free one", "default: 127.0.0.1", "--no-browser", "default: DATA_DIR/demo"]),
        ("run", ["DISCORD_TOKEN"]),
        ("chat", ["default: You"]),
        ("doctor", ["--json"]),
        ("backup", ["FILE", "default: refuse"]),
        ("restore", ["FILE", "keeps the old one"]),
        ("night", ["NIGHT_LIMIT_HOURS", "default 3", "goes on where"]),
        ("rollback", ["ADAPTER", "default: what was served before"]),
        ("import", ["FILE", "one wrong line, and nothing is imported", "docs/import.md"]),
        ("prompts", ["import", "rating rooms"]),
        ("prompts import", ["FILE", "a prompt a line", "all or none"]),
        ("mydata", ["export", "delete", "as /mydata does"]),
        ("mydata export", ["MEMBER_ID", "Copy User ID", "default: encore-mydata-MEMBER_ID.json", "default: refuse"]),
        ("mydata delete", ["MEMBER_ID", "default: ask", "print the receipt"]),
    ],
)
def test_help_gives_options_with_defaults(
    command: str, promises: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    help = " ".join(capsys.readouterr().out.split())
    for promise in [*promises, "Exit codes: 0", "1 could not start or go on (", "2 a setting or an option is wrong ("]:
        assert promise in help


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"encore \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["demo", "--port", "65536"],
        ["demo", "--port", "x"],
        ["demo", "--host", ""],
        ["demo", "--host", " "],
        ["backup"],
        ["run", "--fast"],
        ["mydata"],
        ["mydata", "delete"],
        ["mydata", "delete", "mei"],
        ["mydata", "export", "9223372036854775808"],
    ],
)
def test_wrong_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", _COMMANDS)
def test_wrong_setting_is_one_sentence_and_exit_code_2(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    monkeypatch.setenv("QUEUE_LIMIT", "many")
    assert main([command, *_COMMANDS[command]]) == 2
    told = capsys.readouterr()
    assert told.err == "encore: QUEUE_LIMIT: 'many' can't be used; use a whole number from 1 to 10000.\n"
    assert told.out == ""
    assert list(folder.iterdir()) == []


def test_gateway_without_a_host_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISCORD_GATEWAY", "ws://")
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith("encore: DISCORD_GATEWAY: 'ws://' can't be used; use an address with a")


def test_doctor_reports_a_wrong_setting_as_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KV_CACHE", "q2")
    assert main(["doctor", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ready"] is False
    (finding,) = told["findings"]
    assert (finding["check"], finding["level"]) == ("settings", "error")
    assert "KV_CACHE" in finding["sentence"]
    assert finding["remedy"]


def test_run_without_a_token_says_what_to_do(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["run"]) == 2
    told = capsys.readouterr().err
    assert "DISCORD_TOKEN" in told and "encore demo" in told
    assert list(folder.iterdir()) == []


def test_settings_of_the_env_file_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".env").write_text("LOG_LEVEL=LOUD\n")
    assert main(["doctor"]) == 2
    assert "LOG_LEVEL" in capsys.readouterr().err


# ---------------------------------------------------------------------- errors at the start


@pytest.mark.parametrize(
    "model", ["no-such.gguf", "nonsense", "a/b/c.bin", "../../a.gguf", "~nosuch/x.gguf", "x" * 200, f"a/b/{'x' * 191}"]
)
def test_model_that_is_nowhere_is_a_wrong_setting(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL", model)
    assert main(["chat"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"encore: MODEL: there is no file '{model}'")
    monkeypatch.setenv("DISCORD_TOKEN", "")
    assert main(["doctor", "--json"]) == 2
    (finding,) = (f for f in json.loads(capsys.readouterr().out)["findings"] if f["check"] == "model")
    assert finding["wrong_setting"]


@pytest.mark.parametrize(
    ("safety_model", "why"),
    [
        ("toxic-bert", "there is no folder 'toxic-bert'"),
        ("https://hub.example/owner/repo", "there is no folder 'https://hub.example/owner/repo'"),
        ("empty", "the folder empty has no config.json"),
    ],
)
def test_safety_model_that_is_nowhere_is_a_wrong_setting(
    safety_model: str, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.setenv("SAFETY_MODEL", safety_model)
    assert main(["chat"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"encore: SAFETY_MODEL: {why}; use `embedded`, a transformers text classifier's folder, or its `owner/repo` on "
        "the Hugging Face hub."
    )


@pytest.mark.parametrize("command", ["chat", "doctor", "run", "night"])
def test_folder_below_a_file_is_a_wrong_setting(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("DATA_DIR", str(folder / "file" / "data"))
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("encore: DATA_DIR: ") and f"{folder / 'file'} is a file" in line


def test_data_folder_of_the_demo_below_a_file_is_a_wrong_option(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--data", str(folder / "file" / "data")])
    assert ended.value.code == 2
    assert "is a file" in capsys.readouterr().err


def test_unforeseen_error_shows_no_traceback_and_no_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError(f"at {_TOKEN}")

    monkeypatch.setattr(commands, "run", fail)
    monkeypatch.setenv("DISCORD_TOKEN", _TOKEN)
    assert main(["run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("encore: Encore broke (ZeroDivisionError: at ")
    assert _TOKEN not in line and "LOG_LEVEL=DEBUG" in line


def test_debug_log_has_the_traceback_without_the_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError(f"at {_TOKEN}")

    monkeypatch.setattr(commands, "run", fail)
    monkeypatch.setenv("DISCORD_TOKEN", _TOKEN)
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    assert main(["run"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert _TOKEN not in told


def test_taken_port_is_told_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--no-browser", "--port", str(port)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("encore: ")]
    assert f"port {port}" in line and "--port" in line


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1"])
def test_address_that_is_not_of_this_machine_is_a_wrong_option(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL", "echo")
    assert main(["demo", "--no-browser", "--host", host]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"encore: --host: {host} is no address of this machine") and "127.0.0.1" in line


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("mybox", False)]
)
def test_hosts_that_others_can_reach_are_known(host: str, here: bool) -> None:
    assert commands._is_this_machine(host) is here


@pytest.mark.parametrize(
    ("environment", "shown"), [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True)]
)
def test_browser_opens_only_where_there_is_a_display(
    environment: dict[str, str], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert commands._has_display() is shown


# ---------------------------------------------------------------------- the commands at work


async def test_chat_answers_and_keeps_the_rating(folder: Path) -> None:
    async with encore("chat") as process:
        out, errors = await process.communicate("今天天气怎么样？\n/up\n/quit\n".encode())
    assert process.returncode == 0, errors.decode()
    assert out.decode().splitlines() == ["今天天气怎么样？", "Kept: 👍"]
    async with await Store.open(folder / "data" / "encore.sqlite3") as store:
        counts = await store.counts(None)
        reply = await store.reply(1)
    assert (counts.replies, counts.votes_up) == (1, 1)
    assert reply and reply.ask.provenance.value == "operator"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_chat_stops_in_order_while_it_waits_for_a_person(number: signal.Signals) -> None:
    async with encore("chat") as process:
        assert process.stdin
        process.stdin.write(b"hello\n")
        await line_with(process.stdout, "hello")
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), _SECONDS) == 0
        assert process.stderr
        assert "Traceback" not in (await process.stderr.read()).decode()


async def test_demo_serves_its_page_and_keeps_its_ratings_apart(folder: Path) -> None:
    async with encore("demo", "--no-browser") as process:
        address = re.search(r"http://127\.0\.0\.1:\d+/\S+/", await line_with(process.stdout, "http://"))
        assert address
        async with aiohttp.ClientSession() as session, session.get(address[0]) as page:
            assert page.status == 200
            assert "<html" in await page.text()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), _SECONDS) == 0
    assert (folder / "data" / "demo" / "encore.sqlite3").exists()
    assert not (folder / "data" / "encore.sqlite3").exists()


async def test_demo_whose_output_nobody_reads_any_more_still_stops(folder: Path) -> None:
    async with encore("demo", "--no-browser") as process:
        await line_with(process.stdout, "http://")
        for output in (1, 2):
            process._transport.get_pipe_transport(output).close()  # type: ignore[attr-defined]
        process.terminate()
        # Not 0: the interpreter itself can't flush its output at the end.
        assert await asyncio.wait_for(process.wait(), _SECONDS) in (0, 1, 120)


async def test_second_encore_on_one_folder_is_refused(folder: Path) -> None:
    async with await Store.open(folder / "data" / "encore.sqlite3"), encore("chat") as process:
        _, errors = await process.communicate(b"hello\n")
    assert process.returncode == 1
    (line,) = errors.decode().splitlines()
    assert "Another Encore runs on" in line and "DATA_DIR" in line


async def test_backup_and_restore_bring_back_what_was_there(folder: Path) -> None:
    database, saved = folder / "data" / "encore.sqlite3", folder / "saved.sqlite3"
    async with await Store.open(database) as store:
        await store.set_meta("key", "before")
        # Online: the store is open while the command runs.
        assert await asyncio.to_thread(main, ["backup", "saved.sqlite3"]) == 0
        await store.set_meta("key", "after")
    assert await asyncio.to_thread(main, ["restore", str(saved)]) == 0
    async with await Store.open(database) as store:
        assert await store.meta("key") == "before"


def test_backup_replaces_a_file_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_empty_store(folder / "data" / "encore.sqlite3"))
    (folder / "saved.sqlite3").write_text("precious")
    assert main(["backup", "saved.sqlite3"]) == 1
    assert (folder / "saved.sqlite3").read_text() == "precious"
    assert main(["backup", "saved.sqlite3", "--overwrite"]) == 0
    assert "saved.sqlite3" in capsys.readouterr().out


async def _empty_store(path: Path) -> None:
    await (await Store.open(path)).aclose()
