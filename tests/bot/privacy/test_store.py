"""Consent, opting out, what is held of a member, and its deletion, in the database."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot import store_privacy
from bot.database import connect
from bot.learning_records import MEMBERS_LEFT_OUT, TAKEN_BACK_BY, Cause, Night, NightOutcome, NightState
from bot.moderation.limits import Count, Scope
from bot.privacy.journal import Request
from bot.records import CaseSource, Correction, Decision, Preference, Provenance
from bot.store import Store
from tests.bot.learning import ended_reply, vote
from tests.bot.stores import PROMPT, Clock, new_ask, new_reply, opened

MEI, LIN, SAM = 300_000_000_000_000_001, 300_000_000_000_000_002, 300_000_000_000_000_003


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=Clock()) as store:
        yield store


def deletion(member: int, name: str = "d1") -> Request:
    return Request(name, member, 1_780_000_000.0)


async def count(store: Store, sql: str) -> int:
    return int((await store._database.read(sql))[0][0])


# ---------------------------------------------------------------------- the list of what names members


def test_every_column_that_names_a_member_is_exported_or_emptied(tmp_path: Path) -> None:
    import asyncio

    async def make() -> None:
        async with opened(tmp_path):
            pass

    asyncio.run(make())
    listed = {*store_privacy.OWNED.items(), *store_privacy.KEPT, *store_privacy.NAMED}
    with contextlib.closing(connect(tmp_path / "encore.sqlite3", read_only=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        named = {
            (table, column[1])
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})")
            if re.search(r"(member|actor|author|user|subject|moderator|reporter)_id$|_by$", column[1])
        }
    assert named == listed
    assert len(named) >= 11


# ---------------------------------------------------------------------- consent


async def test_consent_is_given_withdrawn_and_given_again(store: Store) -> None:
    assert not (await store.consent(MEI)).given
    assert await store.give_consent(MEI)
    assert not await store.give_consent(MEI)
    assert (await store.consent(MEI)).given
    assert await store.withdraw_consent(MEI)
    assert not await store.withdraw_consent(MEI)
    assert not (await store.consent(MEI)).given
    assert await store.give_consent(MEI)
    assert (await store.consent(MEI)).given


async def test_who_never_agreed_can_refuse(store: Store) -> None:
    assert await store.withdraw_consent(LIN)
    assert (await store.consent(LIN)).given_at is None
    assert not (await store.consent(LIN)).given


async def test_coverage_counts_members_who_were_answered_or_rated(store: Store) -> None:
    reply = await ended_reply(store, author_id=MEI, provenance=Provenance.DISCORD)
    await vote(store, reply, LIN)
    await vote(store, await ended_reply(store, author_id=SAM), SAM)  # in the demo nobody is asked
    await store.give_consent(LIN)
    await store.give_consent(SAM)
    assert await store.coverage() == store_privacy.Coverage(members=2, consenting=1, opted_out=0)
    await store.opt_out(LIN, True)
    assert await store.coverage() == store_privacy.Coverage(members=2, consenting=0, opted_out=1)


# ---------------------------------------------------------------------- opting out


async def test_nothing_of_who_opted_out_is_written(store: Store) -> None:
    reply, other = await ended_reply(store, author_id=LIN), await ended_reply(store, author_id=LIN)
    assert await store.opt_out(MEI, True)
    assert not await store.opt_out(MEI, True)
    assert await store.opted_out() == {MEI}
    assert await store.claim_reply(replace(new_ask(), member_id=MEI)) is None
    assert not await store.cast_vote(reply, MEI, "button", 1.0)
    await store.record_preference(reply, other, MEI, Preference.A)
    await store.add_correction(Correction(reply, MEI, ("wrong",), "no", "yes"))
    await store.note_rater(7, MEI, trusted=True)
    assert not await store.label_gold(reply, True, MEI)
    for table in ("ratings", "comparisons", "corrections", "raters", "gold"):
        assert await count(store, f"SELECT count(*) FROM {table}") == 0
    await vote(store, reply, SAM)
    assert [found.member_id for found in await store.votes(reply)] == [SAM]
    assert await store.label_gold(reply, False, SAM)
    assert not await store.label_gold(reply, True, MEI)
    label = await store.gold(reply)
    assert label is not None and label.actor_id == SAM, "another moderator's label stays"


async def test_opting_in_again_counts_from_then_on(store: Store) -> None:
    reply = await ended_reply(store)
    await store.opt_out(MEI, True)
    assert await store.opt_out(MEI, False)
    assert not await store.opt_out(MEI, False)
    assert await store.opted_out() == frozenset()
    await vote(store, reply, MEI)
    assert len(await store.votes(reply)) == 1


async def test_a_banned_rater_who_opts_out_can_still_be_banned(store: Store) -> None:
    await store.opt_out(MEI, True)
    await store.note_rater(7, MEI, banned=True)
    assert [row.banned for row in await store.raters()] == [True]


# ---------------------------------------------------------------------- export and deletion


async def lived(store: Store) -> dict[str, int]:
    """Give Mei a past: answered, read in a reply to Lin, and heard on both."""
    own = await ended_reply(store, author_id=MEI)
    read = await ended_reply(store, author_id=LIN, prompt=replace(PROMPT, member_ids=(LIN, MEI)))
    apart = await ended_reply(store, author_id=LIN, prompt=replace(PROMPT, member_ids=(LIN,)))
    for reply in (own, read, apart):
        await vote(store, reply, MEI)
        await vote(store, reply, SAM)
    await store.record_preference(read, apart, MEI, Preference.B)
    await store.add_correction(Correction(apart, MEI, ("wrong",), "我的话", "她该说的话"))
    await store.label_gold(apart, True, MEI)
    await store.note_rater(7, MEI, trusted=True)
    await store.keep_usage([Count(7, Scope.MEMBER, MEI, 20_000, 3, 500), Count(7, Scope.CHANNEL, 70, 20_000, 3, 500)])
    await store.add_audit(7, MEI, "settings", {})
    await store.add_audit(7, SAM, "raters ban", {"member": MEI})
    await store.give_consent(MEI)
    await store.report_reply(own, 1, SAM, "SAM was here")
    await store.report_reply(read, 2, MEI, "rude")
    await store.mute(7, MEI, SAM, None)
    night = Night("2026-06-01", Cause.MODERATOR, NightState.RUNNING, 1.0, actor_id=MEI)
    await store.begin_night(night)
    told = (f"<@{MEI}> votes as one with <@{SAM}>.",)
    await store.end_night(replace(night, state=NightState.FAILED, finished_at=2.0, warnings=told))
    return {"own": own, "read": read, "apart": apart}


async def test_export_holds_every_row_of_the_member_and_no_word_of_others(store: Store) -> None:
    replies = await lived(store)
    held = await store.held(MEI)
    assert {table: len(rows) for table, rows in held.items()} == {
        "ratings": 3,
        "comparisons": 1,
        "corrections": 1,
        "gold": 1,
        "reports": 1,
        "member_usage": 1,
        "cases": 1,
        "mutes": 1,
        "raters": 1,
        "consents": 1,
        "replies": 1,
        "audit": 1,
        "optins": 0,
        "optouts": 0,
        "deletions": 0,
        "replies_to_others_that_read_you": 1,
        "nights_you_asked_for": 1,
        "rooms_you_started": 0,
        "cases_you_decided": 0,
        "system_prompts_you_wrote": 0,
        "audit_of_others_that_names_you": 2,
        "nights_that_name_you": 1,
    }
    assert held["corrections"][0]["comment"] == "我的话"
    assert held["replies"][0]["id"] == replies["own"]
    assert not any("token_ids" in name for rows in held.values() for row in rows for name in row)
    assert str(SAM) not in str(held) and str(LIN) not in str(held)


def test_every_row_that_only_names_a_member_is_exported() -> None:
    assert store_privacy._NAMED_EXPORTED.keys() == store_privacy.NAMED.keys()


async def test_export_says_what_the_member_decided_and_what_others_did_to_them_without_others(store: Store) -> None:
    replies = await lived(store)
    await store.start_room(7, 70, 3600.0, MEI)
    case = await store.case((await store.report_reply(replies["apart"], 3, SAM, "LIN is rude"))[0])
    assert case is not None
    await store.decide(case, Decision.DISMISS, MEI)
    await store.add_audit(7, SAM, "settings", {"system_prompt": ["", f"<@{MEI}> and <@{LIN}> are friends"]})
    held = await store.held(MEI)
    assert [row["guild_id"] for row in held["rooms_you_started"]] == [7]
    assert [(row["id"], row["decision"]) for row in held["cases_you_decided"]] == [(case.id, "dismiss")]
    told = {row["action"]: row["detail"] for row in held["audit_of_others_that_names_you"]}
    assert told == {"raters ban": {"member": MEI}, "mod mute": {"member_id": MEI}, "settings": {}}
    assert not any(other in str(held) for other in (str(SAM), str(LIN), "rude is", "LIN", "friends"))


async def test_export_says_which_nights_name_the_member_in_their_figures(store: Store) -> None:
    night = Night("2026-11-24", Cause.SCHEDULE, NightState.RUNNING, 1.0)
    await store.begin_night(night)
    figures = {"members": 3, MEMBERS_LEFT_OUT: [SAM, MEI], TAKEN_BACK_BY: [SAM]}
    ended = replace(night, state=NightState.FINISHED, outcome=NightOutcome.RETRACTED, finished_at=2.0, figures=figures)
    await store.end_night(ended)
    assert (await store.held(MEI))["nights_that_name_you"] == [
        {"id": night.id, "started_at": 1.0, "figures": [MEMBERS_LEFT_OUT]}
    ]
    assert (await store.held(LIN))["nights_that_name_you"] == []


async def test_deletion_leaves_no_trace_of_the_member_but_what_must_stay(store: Store) -> None:
    replies = await lived(store)
    gone = await store.erase(deletion(MEI))
    assert gone is not None
    assert (gone["replies"], gone["prompts"], gone["ratings"], gone["corrections"]) == (1, 1, 3, 1)
    held = await store.held(MEI)
    assert {table for table, rows in held.items() if rows} == {"audit", "deletions", "mutes"}
    assert await store.reply(replies["own"]) is None
    read = await store.reply(replies["read"])
    assert read is not None and read.prompt is None and read.outcome is None
    apart = await store.reply(replies["apart"])
    assert apart is not None and apart.prompt is not None
    assert [vote.member_id for vote in await store.votes(replies["apart"])] == [SAM]
    ended = await store.night("2026-06-01")
    assert ended is not None and ended.actor_id is None
    assert str(MEI) not in str(ended.warnings) and str(SAM) in str(ended.warnings)
    assert str(MEI) not in str([entry.detail for entry in await store.audit(7, 10)])


async def test_deletion_empties_what_cases_quote_of_answers_that_had_read_the_member(store: Store) -> None:
    async def quoted(reply: int | None, message: int) -> int:
        words = "my answer to them: Mei lives here"
        return await store.open_case(7, CaseSource.FILTER, 70, message, LIN, words, reply)

    read = await ended_reply(store, author_id=LIN, prompt=replace(PROMPT, member_ids=(LIN, MEI)))
    apart = await ended_reply(store, author_id=LIN, prompt=replace(PROMPT, member_ids=(LIN,)))
    await store.attach_message(read, 501, 0)
    cases = [await quoted(read, 501), await quoted(read, 501), await quoted(apart, 502), await quoted(None, 503)]
    await store.erase(deletion(MEI))
    found = [case.quote for number in cases if (case := await store.case(number))]
    assert len(found) == 4 and found[:2] == ["", ""], "the second names no reply, as the first is open"
    assert all("Mei lives here" in quote for quote in found[2:])


async def test_deletion_is_done_once_and_remembered_until_it_is_finished(store: Store) -> None:
    await lived(store)
    first, second = deletion(MEI), deletion(LIN, "d2")
    assert await store.erase(first) is not None
    assert await store.erase(first) is None
    assert await store.unfinished_deletions([first, second]) == [first, second]
    await store.finish_deletion(first.id)
    assert await store.unfinished_deletions([first, second]) == [second]


async def test_deletion_takes_the_note_of_an_earlier_one_with_it(store: Store) -> None:
    for name in ("d1", "d2"):
        await store.erase(deletion(MEI, name))
        await store.finish_deletion(name)
    await store.erase(deletion(LIN, "d3"))
    assert [row["id"] for row in (await store.held(MEI))["deletions"]] == ["d2"]
    assert [row["id"] for row in (await store.held(LIN))["deletions"]] == ["d3"]


async def test_deletion_ends_no_ban(store: Store) -> None:
    await store.note_rater(7, MEI, banned=True)
    await store.erase(deletion(MEI))
    assert [(row.member_id, row.banned) for row in await store.raters()] == [(MEI, True)]


async def test_deletion_ends_no_distrust(store: Store) -> None:
    await store.note_rater(7, MEI, trusted=True)
    await store.trust_rater(7, MEI, 9_000, False)
    await store.note_rater(7, SAM, trusted=True)
    for member in (MEI, SAM):
        await store.erase(deletion(member, str(member)))
    assert [(row.member_id, row.trusted) for row in await store.raters()] == [(MEI, False)]


async def test_a_small_id_changes_no_number_in_texts(store: Store) -> None:
    await store.add_audit(7, 9, "settings", {"temperature": 1.5})
    await store.erase(deletion(1))
    assert (await store.audit(7, 1))[0].detail == {"temperature": 1.5}


async def test_replies_and_audit_older_than_their_limit_go(store: Store) -> None:
    clock = store._clock
    assert isinstance(clock, Clock)
    old = await ended_reply(store)
    await vote(store, old, MEI)
    await store.add_audit(7, 9, "settings", {})
    clock.now += 100
    new = await ended_reply(store)
    assert await store.prune_replies(float("-inf")) == 0
    assert await store.prune_replies(clock.now - 50) == 1
    assert await store.prune_audit(clock.now - 50) == 1
    assert await store.reply(old) is None and await store.reply(new) is not None
    assert await count(store, "SELECT count(*) FROM ratings") == 0


async def test_deleted_reactions_do_not_come_back_from_discord(store: Store) -> None:
    clock = store._clock
    assert isinstance(clock, Clock)
    old = await new_reply(store, 50)
    present: dict[tuple[int, str], float | None] = {(MEI, "👍"): 1.0, (SAM, "👍"): 1.0}
    await store.reconcile_reactions(50, present)
    await store.erase(replace(deletion(MEI), requested_at=clock.now + 1))
    await store.reconcile_reactions(50, present)
    assert [found.member_id for found in await store.votes(old)] == [SAM]
    clock.now += 100
    new = await new_reply(store, 51)
    await store.reconcile_reactions(51, present)
    assert {found.member_id for found in await store.votes(new)} == {MEI, SAM}, "rated after the deletion"


async def test_reactions_of_while_a_member_had_opted_out_never_count(store: Store) -> None:
    clock = store._clock
    assert isinstance(clock, Clock)
    old = await new_reply(store, 50)
    present: dict[tuple[int, str], float | None] = {(MEI, "👍"): 1.0, (SAM, "👍"): 1.0}
    await store.opt_out(MEI, True)
    await store.reconcile_reactions(50, present)
    clock.now += 100
    await store.opt_out(MEI, False)
    await store.reconcile_reactions(50, present)
    assert [found.member_id for found in await store.votes(old)] == [SAM]
    clock.now += 100
    new = await new_reply(store, 51)
    await store.reconcile_reactions(51, present)
    assert {found.member_id for found in await store.votes(new)} == {MEI, SAM}, "rated since they came back"
    assert len((await store.held(MEI))["optins"]) == 1
    await store.erase(replace(deletion(MEI), requested_at=clock.now))
    assert (await store.held(MEI))["optins"] == []
