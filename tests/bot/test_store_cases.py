"""Cases, their decisions, mutes, bans and what is never learned, in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.collect import collect
from bot.privacy.journal import Request
from bot.privacy.retention import Retention
from bot.records import Case, CaseSource, Decision, Preference
from bot.settings import Settings
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.stores import Clock, new_reply, opened

GUILD, ASKER, BOB, LIN, MODERATOR = 7, 1, 2_000, 3_000, 9_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=clock) as store:
        yield store


async def a_case(store: Store, *, by: int = BOB, reason: str = "rude") -> Case:
    message_id = 500 + len(await store.recent_reply_messages(0.0, 10))
    reply_id = await new_reply(store, message_id)
    case_id, _ = await store.report_reply(reply_id, message_id, by, reason)
    case = await store.case(case_id)
    assert case is not None
    return case


async def actions(store: Store) -> list[tuple[int, str, dict[str, object]]]:
    return [(entry.actor_id, entry.action, entry.detail) for entry in await store.audit(GUILD, 10)]


# ---------------------------------------------------------------------- cases


async def test_reports_of_a_reply_are_one_case_that_counts_members(store: Store) -> None:
    case = await a_case(store)
    assert case.reply_id is not None
    assert (case.guild_id, case.channel_id, case.message_id, case.subject_id) == (GUILD, 70, 500, ASKER)
    assert await store.report_reply(case.reply_id, 500, LIN, "wrong") == (case.id, False)
    assert await store.report_reply(case.reply_id, 500, BOB, "very rude") == (case.id, False)
    again = await store.case(case.id)
    assert again is not None and again.report_count == 2
    assert [(report.member_id, report.reason) for report in again.reports] == [(BOB, "very rude"), (LIN, "wrong")]


async def test_report_after_a_decision_opens_another_case(store: Store) -> None:
    case = await a_case(store)
    assert case.reply_id is not None
    await store.decide(case, Decision.DISMISS, MODERATOR)
    second, is_new = await store.report_reply(case.reply_id, 500, BOB, "still rude")
    assert is_new and second != case.id
    found, count = await store.open_cases(GUILD, 10)
    assert ([case.id for case in found], count) == ([second], 1)


async def test_open_cases_come_newest_first_and_stay_in_their_server(store: Store) -> None:
    made = [await store.open_case(GUILD, CaseSource.AUTOMOD, 70, None, BOB, f"message {n}") for n in range(3)]
    await store.open_case(8, CaseSource.AUTOMOD, 80, None, BOB, "elsewhere")
    found, count = await store.open_cases(GUILD, 2)
    assert ([case.id for case in found], count) == ([made[2], made[1]], 3)
    assert (found[0].message_id, found[0].subject_id, found[0].quote) == (None, BOB, "message 2")


async def test_card_is_remembered(store: Store) -> None:
    case = await a_case(store)
    await store.place_card(case.id, 71, 600)
    placed = await store.case(case.id)
    assert placed is not None and placed.card == (71, 600)


@pytest.mark.parametrize("decision", list(Decision))
async def test_case_is_closed_once_and_audited(store: Store, decision: Decision) -> None:
    case = await a_case(store)
    assert await store.decide(case, decision, MODERATOR)
    assert not await store.decide(case, decision, LIN)
    assert not await store.decide(case, Decision.DISMISS, LIN)
    decided = await store.case(case.id)
    assert decided is not None and (decided.decision, decided.decided_by) == (decision, MODERATOR)
    [(actor, action, detail)] = await actions(store)
    assert (actor, action, detail["case"]) == (MODERATOR, f"case {decision}", case.id)
    assert await store.is_muted(GUILD, ASKER) is (decision is Decision.MUTE)
    rater = await store.rater(GUILD, ASKER)
    assert (rater is not None and rater.banned) is (decision is Decision.BAN)


async def test_more_may_be_done_about_a_closed_case_unless_it_was_dismissed(store: Store) -> None:
    case, dismissed = await a_case(store), await a_case(store)
    for decision in (Decision.DELETE, Decision.BAN, Decision.MUTE):
        assert await store.decide(case, decision, MODERATOR)
    assert not await store.decide(case, Decision.BAN, LIN)
    decided = await store.case(case.id)
    assert decided is not None and (decided.decision, decided.decided_by) == (Decision.DELETE, MODERATOR)
    assert decided.further == (Decision.BAN, Decision.MUTE)
    await store.decide(dismissed, Decision.DISMISS, MODERATOR)
    assert not await store.decide(dismissed, Decision.DELETE, MODERATOR)


async def test_old_cases_go(store: Store, clock: Clock) -> None:
    case = await a_case(store)
    await store.mute(GUILD, BOB, MODERATOR, 5)
    clock.now += 86_400
    assert await store.prune_cases(clock.now - 86_401) == 0
    assert await store.prune_cases(clock.now - 1) == 1
    assert await store.case(case.id) is None
    assert await store._database.read("SELECT * FROM mutes") == []


async def test_cases_are_kept_as_long_as_the_audit(store: Store, clock: Clock, tmp_path: Path) -> None:
    case = await a_case(store)
    retention = Retention(store, Settings(retention_days_audit=30), nights=tmp_path / "nights", clock=clock)
    clock.now += 30 * 86_400
    assert (await retention.prune()).cases == 0
    clock.now += 1
    assert (await retention.prune()).cases == 1
    assert await store.case(case.id) is None


# ---------------------------------------------------------------------- mutes and bans


async def test_mute_ends_by_itself_or_by_a_moderator(store: Store, clock: Clock) -> None:
    await store.mute(GUILD, BOB, MODERATOR, 10)
    await store.mute(GUILD, LIN, MODERATOR, None)
    assert await store.is_muted(GUILD, BOB) and not await store.is_muted(8, BOB)
    clock.now += 599
    assert await store.is_muted(GUILD, BOB)
    clock.now += 1
    assert not await store.is_muted(GUILD, BOB) and await store.is_muted(GUILD, LIN)
    assert not await store.unmute(GUILD, BOB, MODERATOR)
    assert await store.unmute(GUILD, LIN, MODERATOR)
    assert not await store.is_muted(GUILD, LIN)
    assert [action for _, action, _ in await actions(store)] == ["mod unmute", "mod mute", "mod mute"]


async def test_unmute_ends_no_ban_of_the_operators_and_claims_none(store: Store) -> None:
    store.ban(frozenset({BOB}))
    assert not await store.unmute(GUILD, BOB, MODERATOR)
    assert await actions(store) == []
    await store.mute(GUILD, BOB, MODERATOR, None)
    assert await store.unmute(GUILD, BOB, MODERATOR)
    assert await store.is_muted(GUILD, BOB)


async def test_ban_from_voting_is_audited_once(store: Store) -> None:
    await store.note_rater(GUILD, BOB, trusted=True)
    assert not await store.ban_rater(GUILD, BOB, MODERATOR, banned=False)
    assert await store.ban_rater(GUILD, BOB, MODERATOR)
    assert not await store.ban_rater(GUILD, BOB, MODERATOR)
    rater = await store.rater(GUILD, BOB)
    assert rater is not None and rater.banned and rater.trusted
    assert await store.ban_rater(GUILD, BOB, MODERATOR, banned=False)
    assert [action for _, action, _ in await actions(store)] == ["raters unban", "raters ban"]


async def test_locked_servers_are_known(store: Store) -> None:
    await store.change_server_settings(GUILD, MODERATOR, locked=True, paused=True)
    await store.change_server_settings(8, MODERATOR, locked=True)
    await store.change_server_settings(8, MODERATOR, locked=False)
    assert await store.locked_servers() == [GUILD]


# ---------------------------------------------------------------------- members' data


async def test_report_of_who_opted_out_counts_and_nothing_of_it_is_kept(store: Store) -> None:
    await store.opt_out(BOB, True)
    case = await a_case(store, by=BOB, reason="SECRET")
    assert (case.report_count, case.reports) == (1, ())


async def test_message_of_who_opted_out_is_a_case_without_name_and_words(store: Store) -> None:
    await store.opt_out(BOB, True)
    case = await store.case(await store.open_case(GUILD, CaseSource.AUTOMOD, 70, None, BOB, "SECRET"))
    assert case is not None and (case.subject_id, case.quote) == (None, "")


async def test_forgotten_member_leaves_no_case_of_theirs_and_stays_muted(store: Store) -> None:
    case = await a_case(store, by=BOB)
    about_bob = await store.open_case(GUILD, CaseSource.AUTOMOD, 70, None, BOB, "SECRET")
    decided = await a_case(store, by=LIN)
    await store.decide(decided, Decision.DISMISS, BOB)
    await store.mute(GUILD, BOB, MODERATOR, None)
    await store.erase(Request("d1", BOB, 1.0))
    assert await store.case(about_bob) is None
    left = await store.case(case.id)
    assert left is not None and (left.report_count, left.reports) == (1, ())
    closed = await store.case(decided.id)
    assert closed is not None and closed.decision is Decision.DISMISS and closed.decided_by == 0
    assert await store.is_muted(GUILD, BOB)
    await store.erase(Request("d2", ASKER, 2.0))
    assert await store.case(case.id) is None, "what is said of a reply goes with the reply"


# ---------------------------------------------------------------------- what is never learned


async def test_reply_that_must_never_be_learned_is_in_no_nights_data(store: Store, clock: Clock) -> None:
    async def learned() -> set[int]:
        found = await collect(
            store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION, now=clock.now, discord_permitted=False
        )
        return {reply.reply_id for reply in found.snapshot.replies}

    kept, never = await ended_reply(store), await ended_reply(store)
    for reply_id in (kept, never):
        await vote(store, reply_id, BOB)
    await store.record_preference(never, kept, BOB, Preference.A)
    assert await learned() == {kept, never}
    case_id, _ = await store.report_reply(never, 500, BOB, "made up")
    case = await store.case(case_id)
    assert case is not None
    await store.decide(case, Decision.UNLEARN, MODERATOR)
    assert await learned() == {kept}
