"""`encore mydata` as the operator sees it: a file that only they can read, a receipt, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import backups
from bot.__main__ import main
from bot.privacy.journal import JOURNAL, Journal, RequestKind
from bot.privacy.members import note_members
from bot.settings import Settings
from bot.store import Store
from models.learning.job import LOG, RESULT
from tests.bot.learning import ended_reply, vote
from tests.bot.test_learning_commands import _install, folder, job

__all__ = ["folder", "job"]  # fixtures: an empty working folder with a tiny model, and nights by a fake process

MEI, LIN = 300_000_000_000_000_001, 300_000_000_000_000_002


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """What most systems begin with; a command's own ends with the test."""
    before = os.umask(0o022)
    yield
    os.umask(before)


async def _talk() -> None:
    async with await Store.open(Settings().database) as store:
        await vote(store, await ended_reply(store, author_id=MEI), MEI)
        await vote(store, await ended_reply(store, author_id=LIN), LIN)


async def _held(member: int) -> set[str]:
    async with await Store.open(Settings().database) as store:
        return {table for table, rows in (await store.held(member)).items() if rows}


def test_export_is_a_file_that_only_the_operator_can_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_talk())
    assert main(["mydata", "export", str(MEI)]) == 0
    told = capsys.readouterr().out
    path = folder / f"encore-mydata-{MEI}.json"
    assert f"to {path.name}: 2 entries, by kind." in told and "nobody but the member" in told
    held = json.loads(path.read_text("utf-8"))
    assert len(held["ratings"]) == len(held["replies"]) == 1
    assert str(LIN) not in path.read_text("utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_export_replaces_a_file_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mei.json").write_text("precious")
    assert main(["mydata", "export", str(MEI), "mei.json"]) == 1
    assert "mei.json exists: choose another name, or add --overwrite." in capsys.readouterr().err
    assert (folder / "mei.json").read_text() == "precious"
    assert main(["mydata", "export", str(MEI), "mei.json", "--overwrite"]) == 0
    assert json.loads((folder / "mei.json").read_text("utf-8"))["replies"] == []


def test_export_to_where_nothing_can_be_written_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").touch()
    assert main(["mydata", "export", str(MEI), "file/mei.json"]) == 1
    assert "let this account read and write the file and its folder" in capsys.readouterr().err


def test_deletion_asks_first(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_talk())
    asked = []

    def answer(question: str) -> str:
        asked.append(question)
        return "no"

    monkeypatch.setattr("builtins.input", answer)
    assert main(["mydata", "delete", str(MEI)]) == 1
    assert capsys.readouterr().out == "Nothing was changed.\n"
    assert asked == [f"Delete all that is held of member {MEI}, from what was learned too, for good? [y/N] "]
    assert asyncio.run(_held(MEI)) == {"ratings", "replies"}
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["mydata", "delete", str(MEI)]) == 0
    assert asyncio.run(_held(MEI)) == {"deletions"}


def test_deletion_that_nobody_can_confirm_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert main(["mydata", "delete", str(MEI)]) == 1
    assert "Nothing was changed." in capsys.readouterr().out


def test_deletion_reaches_the_adapter_and_prints_the_receipt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_talk())
    adapters = _install(folder, "monday-kto", "tuesday-kto")
    note_members(folder / "data" / "nights" / "monday", {LIN})
    note_members(folder / "data" / "nights" / "tuesday", {LIN, MEI})
    assert main(["mydata", "delete", str(MEI), "--yes"]) == 0
    told = capsys.readouterr().out
    assert "Deleted: 1 reply to you, 1 rating." in told
    assert "1 version of me that had learned from you is removed; version monday-kto answers now" in told
    assert "Backups that you made may still hold their data" in told
    assert adapters.names() == ("monday-kto",) and adapters.serving().adapter == "monday-kto"
    assert not (folder / "data" / "nights" / "tuesday").exists()
    assert asyncio.run(_held(MEI)) == {"deletions"} and asyncio.run(_held(LIN)) == {"ratings", "replies"}


def test_deletion_names_the_copies_that_it_does_not_reach(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_talk())
    assert main(["backup", "saved.sqlite3"]) == 0
    assert main(["restore", "saved.sqlite3"]) == 0
    capsys.readouterr()
    assert main(["mydata", "delete", str(MEI), "--yes"]) == 0
    [copy] = (folder / "data").glob("*.before-restore-*")
    told = capsys.readouterr().out
    assert f"for you to remove: {copy.relative_to(folder)}, and your backups." in told
    assert "A copy of my database from before a restore or a damage may still hold it" in told
    assert f"I read nothing there, and remove it by {backups.gone_by([copy])}." in told


@pytest.mark.parametrize("command", ["export", "delete"])
async def test_where_encore_runs_the_slash_command_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    async with await Store.open(Settings().database):
        options = ["--yes"] if command == "delete" else []
        assert await asyncio.to_thread(main, ["mydata", command, str(MEI), *options]) == 1
    told = capsys.readouterr().err
    assert f"use /mydata {command} there, or stop it" in told
    assert not list(folder.glob("*.json"))


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.usefixtures("job")
def test_files_of_nights_and_adapters_are_for_the_operators_eyes(folder: Path) -> None:
    asyncio.run(_talk())
    assert main(["night"]) == 0
    assert main(["backup", "saved.sqlite3"]) == 0
    made = [
        path for name in ("encore.sqlite3", "nights", "adapters") for path in (folder / "data").glob(f"{name}/**/*")
    ]
    made += [folder / "saved.sqlite3", folder / "data" / "encore.sqlite3"]
    names = {path.name for path in made}
    assert names >= {"examples.jsonl", "members.json", "manifest.json", "adapter.gguf", LOG, RESULT}, names
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


# ---------------------------------------------------------------------- restoring


def _back_up_then_delete(folder: Path) -> None:
    asyncio.run(_talk())
    assert main(["backup", "saved.sqlite3"]) == 0
    assert main(["mydata", "delete", str(MEI), "--yes"]) == 0


def test_restore_deletes_again_at_once_what_was_deleted_since(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _back_up_then_delete(folder)
    capsys.readouterr()
    assert main(["restore", "saved.sqlite3"]) == 0
    told = capsys.readouterr().out
    assert told.endswith("Deleted from it again what members had deleted since the backup (1 request).\n")
    assert asyncio.run(_held(MEI)) == {"deletions"} and asyncio.run(_held(LIN)) == {"ratings", "replies"}
    assert main(["rollback", "base"]) == 0  # the next start has nothing left to do
    assert main(["backup", "later.sqlite3"]) == 0
    assert main(["restore", "later.sqlite3"]) == 0
    assert "again" not in capsys.readouterr().out, "that backup never had it"


def test_restore_brings_back_no_consent_that_was_withdrawn_since(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def consent(*, given: bool = False) -> bool:
        async with await Store.open(Settings().database) as store:
            if given:
                await store.give_consent(MEI)
            return (await store.consent(MEI)).given

    assert asyncio.run(consent(given=True))
    assert main(["backup", "saved.sqlite3"]) == 0
    Journal(folder / "data" / JOURNAL).add(MEI, RequestKind.WITHDRAW, now=1.0)
    assert main(["restore", "saved.sqlite3"]) == 0
    assert "whether members agreed, refused or opted out (1 changed)." in capsys.readouterr().out
    assert not asyncio.run(consent())


def test_restore_into_another_folder_asks_for_the_list_of_deletions(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _back_up_then_delete(folder)
    monkeypatch.setenv("DATA_DIR", "other")
    capsys.readouterr()
    assert main(["restore", "saved.sqlite3"]) == 0
    assert "There is no deletions.jsonl in other." in capsys.readouterr().out
    (folder / "data" / JOURNAL).rename(folder / "other" / JOURNAL)
    assert main(["restore", "saved.sqlite3"]) == 0
    told = capsys.readouterr().out
    assert "(1 request)" in told and "There is no" not in told


@pytest.mark.usefixtures("job")
def test_night_after_a_restore_does_not_read_what_was_deleted_since(folder: Path) -> None:
    _back_up_then_delete(folder)
    asyncio.run(backups.restore(folder / "saved.sqlite3", Settings().database))  # killed before it deleted again
    assert main(["night"]) == 0
    assert asyncio.run(_held(MEI)) == {"deletions"}


def test_list_of_deletions_that_cannot_be_read_stops_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data" / JOURNAL).mkdir(parents=True)
    assert main(["rollback", "base"]) == 1
    assert "deletions.jsonl: Is a directory; let this account read" in capsys.readouterr().err
