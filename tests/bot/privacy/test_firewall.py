"""What reaches a night's data: by provenance, the operator's word, and the consent of all whose it is."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.collect import Collected, collect
from bot.privacy.journal import Request
from bot.records import CaseSource, Correction, Decision, Preference, Provenance
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.stores import PROMPT, Clock, opened

NOW = 1_780_000_000.0
MEI, LIN, SAM, MODERATOR = 301, 302, 303, 304
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=Clock(NOW)) as store:
        yield store


async def collected(store: Store, *, permitted: bool = False) -> Collected:
    return await collect(
        store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION, now=NOW, discord_permitted=permitted
    )


async def talk(store: Store, provenance: Provenance = Provenance.DISCORD) -> int:
    """Make a reply to Mei that read Lin as well, which Sam rated."""
    prompt = replace(PROMPT, member_ids=(LIN, MEI))
    reply = await ended_reply(store, provenance=provenance, author_id=MEI, prompt=prompt)
    await vote(store, reply, SAM)
    return reply


async def consent(store: Store, *members: int) -> None:
    for member in members:
        await store.give_consent(member)


# ---------------------------------------------------------------------- Discord's text


async def test_message_that_moderators_bar_teaches_nothing_whoever_reads_it_later(store: Store) -> None:
    await consent(store, MEI, LIN, SAM)
    await talk(store)  # read the messages of PROMPT before
    case_id = await store.open_case(1, CaseSource.AUTOMOD, 5, PROMPT.message_ids[0], LIN, "fool")
    case = await store.case(case_id)
    assert case is not None and await store.decide(case, Decision.UNLEARN, MODERATOR)
    await talk(store)
    assert (await collected(store, permitted=True)).snapshot.replies == ()


async def test_a_servers_system_prompt_is_the_words_of_who_wrote_it(store: Store) -> None:
    """It stands before every prompt of the server, and came through Discord as its members' words did."""
    told = "You are Captain Mia."
    await store.change_server_settings(1, MODERATOR, system_prompt=told)
    prompt = replace(PROMPT, member_ids=(MEI,), system_sha256=hashlib.sha256(told.encode()).hexdigest())
    reply = await ended_reply(store, provenance=Provenance.DISCORD, author_id=MEI, prompt=prompt)
    await vote(store, reply, SAM)
    await consent(store, MEI, SAM)
    assert (await collected(store, permitted=True)).snapshot.replies == ()
    await consent(store, MODERATOR)
    assert len((await collected(store, permitted=True)).snapshot.replies) == 1
    assert (await store.held(MODERATOR))["system_prompts_you_wrote"] == [{"sha256": prompt.system_sha256}]
    await store.erase(Request("d1", MODERATOR, NOW))
    await consent(store, MODERATOR)
    assert (await collected(store, permitted=True)).snapshot.replies == (), "nobody is left who could agree"


async def test_consent_of_all_replaces_no_permission_of_discord(store: Store) -> None:
    await talk(store)
    await consent(store, MEI, LIN, SAM)
    assert (await collected(store)).snapshot.replies == ()
    assert len((await collected(store, permitted=True)).snapshot.replies) == 1


@pytest.mark.parametrize("missing", [MEI, LIN, SAM], ids=["who asked", "whose turn was read", "who rated"])
async def test_permission_of_discord_replaces_nobodys_consent(store: Store, missing: int) -> None:
    await talk(store)
    await consent(store, *({MEI, LIN, SAM} - {missing}))
    found = await collected(store, permitted=True)
    assert (found.snapshot.replies, found.snapshot.votes, found.members) == ((), (), frozenset())
    await consent(store, missing)
    found = await collected(store, permitted=True)
    assert len(found.snapshot.replies) == 1 and len(found.snapshot.votes) == 1
    assert found.members == {MEI, LIN, SAM}


@pytest.mark.parametrize("member", [MEI, LIN, SAM])
@pytest.mark.parametrize("how", ["withdraws", "opts out"])
async def test_who_refuses_later_takes_the_example_back(store: Store, member: int, how: str) -> None:
    await talk(store)
    await consent(store, MEI, LIN, SAM)
    if how == "withdraws":
        await store.withdraw_consent(member)
    else:
        await store.opt_out(member, True)
    assert (await collected(store, permitted=True)).snapshot.replies == ()


# ---------------------------------------------------------------------- rating rooms, the demo, imports


async def test_rating_room_needs_the_raters_consent_alone(store: Store) -> None:
    reply = await talk(store, Provenance.OPERATOR)
    assert (await collected(store)).snapshot.replies == ()
    await consent(store, SAM)
    found = await collected(store)
    assert [r.reply_id for r in found.snapshot.replies] == [reply]
    assert found.members == {SAM}, "the operator's words are no member's"


@pytest.mark.parametrize("kind", ["correction", "comparison", "label"])
async def test_no_opinion_of_a_room_counts_without_consent(store: Store, kind: str) -> None:
    first = await ended_reply(store, provenance=Provenance.OPERATOR, asked=5, author_id=MEI)
    second = await ended_reply(store, provenance=Provenance.OPERATOR, asked=5, variant=1, author_id=MEI)
    if kind == "correction":
        await store.add_correction(Correction(first, SAM, ("wrong",), "", ""))
    elif kind == "comparison":
        await store.record_preference(first, second, SAM, Preference.B)
    else:
        await store.label_gold(first, True, SAM)
    found = await collected(store)
    assert (found.snapshot.replies, found.snapshot.gold, found.snapshot.pairs) == ((), {}, ())
    await consent(store, SAM)
    found = await collected(store)
    assert found.snapshot.replies and found.members == {SAM}
    assert len(found.snapshot.pairs) == (kind == "comparison")


async def test_one_consenting_rater_does_not_bring_in_the_others(store: Store) -> None:
    reply = await talk(store, Provenance.OPERATOR)
    await vote(store, reply, LIN, -1.0)
    await consent(store, SAM)
    assert [v.rater_id for v in (await collected(store)).snapshot.votes] == [SAM]


@pytest.mark.parametrize("provenance", [Provenance.DEMO, Provenance.IMPORT])
async def test_what_never_came_from_discord_needs_no_consent_but_a_refusal_counts(
    store: Store, provenance: Provenance
) -> None:
    await talk(store, provenance)
    assert len((await collected(store)).snapshot.votes) == 1
    await store.withdraw_consent(SAM)
    assert (await collected(store)).snapshot.replies == ()


async def test_operator_in_the_terminal_teaches_without_agreeing_to_it(store: Store) -> None:
    """A terminal has no /consent; it is in no server, which a rating room always is."""
    operator = 1
    reply = await ended_reply(store, provenance=Provenance.OPERATOR, guild_id=None, author_id=operator)
    await vote(store, reply, operator)
    await store.label_gold(reply, True, operator)
    snapshot = (await collected(store)).snapshot
    assert [vote.rater_id for vote in snapshot.votes] == [operator]
    assert snapshot.gold == {reply: True}
    assert (await store.coverage()).members == 0, "of Discord's members"


async def test_discords_direct_messages_are_no_terminal(store: Store) -> None:
    reply = await ended_reply(store, provenance=Provenance.DISCORD, guild_id=None, author_id=MEI)
    await vote(store, reply, MEI)
    assert (await collected(store, permitted=True)).snapshot.replies == ()


# ---------------------------------------------------------------------- no other way


def test_only_the_collector_asks_what_may_be_learned_and_only_a_night_freezes_it() -> None:
    """Whoever calls one of the three steps is known: what is gathered is frozen, compared or waited for by nights."""
    callers: dict[str, set[str]] = {"learnable": set(), "collect": set(), "write_snapshot": set()}
    for room in ("bot", "cogs", "models"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if name in callers:
                        callers[name].add(path.relative_to(ROOT).as_posix())
    assert callers == {
        "learnable": {"bot/collect.py"},
        "collect": {"bot/night_ground.py", "bot/night_ratings.py", "bot/night_work.py"},
        "write_snapshot": {"bot/night_work.py"},
    }


def test_no_other_module_reads_what_was_written_or_generated_in_bulk() -> None:
    """Token ids, what a trainer needs, are selected by the store's own modules alone."""
    readers = {
        path.name
        for path in (ROOT / "bot").rglob("*.py")
        if "prompt_token_ids" in path.read_text("utf-8") and "SELECT" in path.read_text("utf-8")
    }
    assert readers == {"rows.py", "store.py", "store_nights.py", "store_imports.py", "store_privacy.py"}
