"""After a deletion no file of the data folder holds a member's words, their tokens or the member's id, as bytes."""

from __future__ import annotations

import array
import ast
import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bot.database import connect
from bot.learning_records import Cause, NightOutcome
from bot.moderation.limits import Count, Scope
from bot.privacy.forget import Forget
from bot.privacy.journal import JOURNAL, Journal, Request
from bot.records import Ask, CaseSource, Correction, Outcome, Preference, Provenance, ReplyState
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.nights import House, house
from tests.bot.stores import GENERATION, PROMPT, opened

MEI, LIN, SAM = 300_000_000_000_000_001, 300_000_000_000_000_002, 300_000_000_000_000_003
SECRET = "heliotrope marmalade 薰衣草"
TOKENS = (2_054_000_001, 2_054_000_002)
NEEDLES = {
    "the text": SECRET.encode(),
    "the text in JSON": SECRET.encode("unicode_escape"),
    "the tokens": array.array("I", TOKENS).tobytes(),
    "the tokens in JSON": f"{TOKENS[0]}".encode(),
    "the id": str(MEI).encode(),
}
ROOT = Path(__file__).resolve().parents[3]
ID = MEI.to_bytes(8, "big")  # as SQLite keeps it


async def secret_reply(store: Store, author: int, *, read: tuple[int, ...]) -> int:
    """Make a reply that says the secret, to a prompt whose tokens are the secret's."""
    reply = await store.claim_reply(Ask(600_000 + author % 10, 70, 7, author, Provenance.DEMO))
    assert reply is not None
    prompt = replace(PROMPT, token_ids=TOKENS, member_ids=read, prompt_version=PROMPT_VERSION)
    await store.start_reply(reply, prompt, replace(GENERATION, model_sha256=MODEL_SHA))
    for words in ("begun: ", "begun, and said to its end: "):  # as it streams, the row is written again and again
        await store.finish_reply(reply, Outcome(ReplyState.STREAMING, words + SECRET * 20, TOKENS, ""))
    await store.finish_reply(reply, Outcome(ReplyState.DONE, SECRET * 40, TOKENS, "end"))
    return reply


async def live(store: Store) -> None:
    """Give Mei a past in every table that may hold a word or the name of a member."""
    own = await secret_reply(store, MEI, read=(MEI,))
    read = await secret_reply(store, LIN, read=(LIN, MEI))
    apart = await ended_reply(store, author_id=LIN, prompt=replace(PROMPT, member_ids=(LIN,)))
    for reply in (own, read, apart):
        await vote(store, reply, MEI)
        await vote(store, reply, SAM)
    await store.record_preference(read, apart, MEI, Preference.B)
    await store.add_correction(Correction(apart, MEI, ("wrong",), SECRET, SECRET))
    await store.label_gold(apart, True, MEI)
    await store.note_rater(7, MEI, trusted=True)
    await store.keep_usage([Count(7, Scope.MEMBER, MEI, 20_000, 3, 500)])
    await store.give_consent(MEI)
    await store.report_reply(apart, 2, MEI, SECRET)
    await store.open_case(7, CaseSource.AUTOMOD, 70, 9, MEI, SECRET)
    await store.add_audit(7, SAM, "raters ban", {"member": MEI})
    for number in range(200):  # enough for pages to be split and given back
        await vote(store, await ended_reply(store, author_id=MEI), MEI)
        await store.add_audit(7, SAM, "raters unban", {"member": MEI, "number": number})


def traces(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL]
    return [
        f"{name} is in {path.relative_to(folder)}"
        for path in files
        for name, needle in NEEDLES.items()
        if needle in path.read_bytes() or (name == "the id" and needle.decode() in path.name)
    ]


async def learned(h: House) -> Path:
    """Have a night learn of it, and leave what a real one leaves in its folder."""
    night = await h.nightly.run(Cause.COMMAND)
    assert night.outcome is NightOutcome.PROMOTED
    folder = h.folder / "nights" / night.id
    for name in ("night.log", "report.html", "loss.png", "evidence/answers.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"<@{MEI}> said {SECRET}", "utf-8")
    return folder


async def test_no_byte_of_a_member_is_left_in_the_data_folder(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await live(h.store)
        await learned(h)
        assert len({trace.partition(" is in ")[0] for trace in traces(tmp_path)}) >= 4, "the plants are there"
        forget = Forget(
            h.store, Journal(tmp_path / JOURNAL), h.nightly, h.promotion, nights=h.work.folder, clock=h.clock
        )
        receipt = await forget.delete(MEI)
        assert receipt.failures == () and len(receipt.nights) == len(receipt.adapters) == 1
        assert traces(tmp_path) == [], "while it runs"
    assert traces(tmp_path) == [], "after it was stopped"
    # What stays is said in the receipt: that a deletion was asked for, in its table and in the index of that.
    assert (tmp_path / "encore.sqlite3").read_bytes().count(ID) == 2
    assert (tmp_path / JOURNAL).read_text("utf-8").count(str(MEI)) == 1
    assert SAM.to_bytes(8, "big") in (tmp_path / "encore.sqlite3").read_bytes(), "others' data stays"


async def test_who_reads_the_database_meanwhile_delays_only_the_overwriting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, busy_timeout_seconds=0.05) as store:
        await live(store)
        with contextlib.closing(connect(tmp_path / "encore.sqlite3", read_only=True)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM replies").fetchone()
            assert await store.erase(Request("d", MEI, 1.0)) is not None
        assert "another program reads" in caplog.text
        assert not (await store.held(MEI))["replies"]
    assert traces(tmp_path) == [], "after it was stopped"


def test_log_names_no_member_and_quotes_nobody() -> None:
    """The log is the operator's system's to keep, so a deletion can't reach it."""
    sources = [path for folder in ("bot", "cogs", "models") for path in (ROOT / folder).rglob("*.py")]
    calls = [
        (path.name, call.lineno, ast.unparse(argument))
        for path in sources
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and re.match(r"_?log\.(?!getLogger)", ast.unparse(call.func))
        for argument in (*call.args[1:], *(keyword.value for keyword in call.keywords))
    ]
    assert len(calls) > 50
    personal = re.compile(
        r"(member|rater|author|user|subject|actor|asker|reporter)(?!\.guild)|content|completion|quote"
    )
    assert [call for call in calls if personal.search(call[2]) and call[2] != "bot.user"] == []
