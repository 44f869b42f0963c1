"""`/raters explain`: what the last night thought of a member's votes, from what that night really left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.learning_records import NightState
from models.learning.context import Context
from models.learning.examples import RaterFacts, Vote
from models.learning.job import RATERS, SNAPSHOT, Job
from models.learning.sides import judge_raters
from models.learning.snapshot import Snapshot, write_snapshot
from tests.bot.learning import ended_reply
from tests.cogs.commands import audit, embed_of, run
from tests.cogs.nights import FakeNightly, night
from tests.models.learning.nights import reply
from tests.world import World, live_world

_HONEST = tuple(range(2_001, 2_009))  # raters who agree with each other


@pytest.fixture
def nightly(tmp_path: Path) -> FakeNightly:
    return FakeNightly(tmp_path)


@pytest.fixture
async def world(tmp_path: Path, nightly: FakeNightly) -> AsyncIterator[World]:
    async with live_world(tmp_path, nightly=nightly) as world:
        yield world


async def replies_here(world: World, count: int = 40) -> list[int]:
    return [await ended_reply(world.store, guild_id=world.guild.id) for _ in range(count)]


def weighed(nightly: FakeNightly, snapshot: Snapshot, night_id: str = "2026-11-24") -> None:
    """Leave what a night leaves that weighed these votes."""
    folder = nightly.root / night_id
    write_snapshot(folder / SNAPSHOT, snapshot)
    job = Job(night_id, Path(), "", "tiny", Path(), Path(), "", 0.0)
    judge_raters(Context(folder, job, say=lambda progress: None), snapshot)
    nightly.nights.insert(0, night(night_id))


def snapshot(
    replies: list[int], *, votes: dict[int, list[Vote]], facts: dict[int, RaterFacts] | None = None, gold: int = 0
) -> Snapshot:
    """Return a night's data: every other reply is good, and the honest say so; `gold` of them are labelled."""
    honest = [vote for place, reply_id in enumerate(replies) for vote in _said(reply_id, place % 2 == 0)]
    said = [*honest, *(vote for own in votes.values() for vote in own)]
    known = {vote.rater_id: RaterFacts(vote.rater_id) for vote in said} | (facts or {})
    labels = {reply_id: place % 2 == 0 for place, reply_id in enumerate(replies[:gold])}
    return Snapshot(tuple(reply(reply_id) for reply_id in replies), tuple(said), known, labels)


def _said(reply_id: int, good: bool) -> list[Vote]:
    return [Vote(reply_id, rater, 1.0 if good else -1.0) for rater in _HONEST if (rater + reply_id) % 3]


def votes(rater: int, replies: list[int], *, right: bool = True, wrong: int = 0, own: int = 0) -> list[Vote]:
    """Vote on replies, every other of which is good: the first `wrong` of them wrongly, `own` on one's own prompts."""
    return [
        Vote(reply_id, rater, 1.0 if ((place % 2 == 0) == right) != (place < wrong) else -1.0, own_prompt=place < own)
        for place, reply_id in enumerate(replies)
    ]


async def explained(world: World, member: int | None = None) -> list[str]:
    answer = await run(world, "raters explain", member=world.bob if member is None else member)
    return str(embed_of(answer).description).splitlines()


async def test_without_a_night_it_says_so(world: World, nightly: FakeNightly) -> None:
    lines = await explained(world)
    assert lines[0] == f"<@{world.bob.id}> counts as any member now."
    assert lines[1].startswith("No night has weighed any votes yet")
    nightly.nights = [night("2026-11-23"), night("2026-11-24", state=NightState.RUNNING)]  # neither left anything
    assert (await explained(world))[1].startswith("No night has weighed any votes yet")


async def test_votes_are_told_as_the_night_weighed_them(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    bob = votes(world.bob.id, replies[:10], wrong=1, own=2)
    weighed(nightly, snapshot(replies, votes={world.bob.id: bob}, gold=4))
    lines = await explained(world)
    assert lines[:6] == [
        f"<@{world.bob.id}> counts as any member now.",
        "The night 2026-11-24 is the last that weighed votes.",
        "It knew 10 votes of theirs on replies here: 4 up, 6 down.",
        "9 of 10 agree with what the night made of the reply, by all votes and labels.",
        "On replies with a gold label 3 were right and 1 wrong.",
        "2 of 10 are on answers to their own prompts; such a vote counts half at most.",
    ]
    assert lines[6].startswith("It took a vote of theirs to be right with ") and "the other way round" not in lines[6]
    assert lines[7:] == ["One vote of theirs counted in full; no cap was reached."]
    assert await audit(world) == []


async def test_member_against_all_others_is_read_the_other_way_round(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    weighed(nightly, snapshot(replies, votes={world.bob.id: votes(world.bob.id, replies, right=False)}))
    lines = await explained(world)
    assert "0 of 40 agree with what the night made of the reply, by all votes and labels." in lines
    assert any(line.endswith("below half, so their votes were read the other way round.") for line in lines)


async def test_new_member_hears_of_the_age_and_who_votes_much_of_the_cap(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world, 120)
    new = RaterFacts(world.bob.id, account_age_days=3.2, membership_days=1.0)
    cast = {world.bob.id: votes(world.bob.id, replies[:5]), world.alice.id: votes(world.alice.id, replies)}
    few = snapshot(replies[:20], votes={}).votes  # the others vote much less
    full = snapshot(replies, votes=cast, facts={world.bob.id: new})
    weighed(nightly, Snapshot(full.replies, (*few, *cast[world.bob.id], *cast[world.alice.id]), full.facts, {}))
    assert (await explained(world))[-1] == (
        "- They were new (the account 3 days and the membership 1 day old); a new rater's vote counts half, and all "
        "new ones share a small part."
    )
    lines = await explained(world, world.alice)
    assert lines[-1].startswith("- They reached the cap on influence")
    assert "of a full one, for these reasons:" in lines[-2]


async def test_who_votes_as_one_is_named_if_of_this_server(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world, 60)
    bloc = (world.bob.id, world.alice.id, 3_001)
    await world.store.note_rater(world.guild.id, world.alice.id, trusted=False)
    await world.store.note_rater(8, 3_001, trusted=False)  # of another server
    weighed(nightly, snapshot(replies, votes={rater: votes(rater, replies, right=False) for rater in bloc}))
    told = "\n".join(await explained(world))
    named = f"- <@{world.alice.id}>, 1 who is not named here and they vote as one, and count as one rater."
    assert named in told
    assert "3001" not in told


async def test_trust_and_bans_of_then_and_now_are_told_apart(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    facts = {world.bob.id: RaterFacts(world.bob.id, trusted=True)}
    weighed(nightly, snapshot(replies, votes={world.bob.id: votes(world.bob.id, replies)}, facts=facts))
    await run(world, "raters ban", member=world.bob)
    lines = await explained(world)
    assert lines[0] == f"<@{world.bob.id}> is now banned."
    assert "They counted as trusted: taken to be honest unless their votes say otherwise." in lines
    facts = {world.bob.id: RaterFacts(world.bob.id, banned=True)}
    weighed(nightly, snapshot(replies, votes={world.bob.id: votes(world.bob.id, replies)}, facts=facts), "2026-11-25")
    lines = await explained(world)
    assert lines[1] == "The night 2026-11-25 is the last that weighed votes."
    assert lines[-1] == "They were banned from voting, so none of it counted."


async def test_votes_in_other_servers_are_a_number_alone(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    there = [await ended_reply(world.store, guild_id=8) for _ in range(2)]
    weighed(nightly, snapshot([*replies, *there], votes={world.bob.id: votes(world.bob.id, [*replies[:4], *there])}))
    lines = await explained(world)
    assert "It knew 4 votes of theirs on replies here: 2 up, 2 down." in lines
    assert any(line.startswith("2 more votes are on replies of other servers") for line in lines)


async def test_unknown_member_and_damaged_night_are_told_plainly(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    weighed(nightly, snapshot(replies, votes={}))
    assert (await explained(world))[-1].startswith("It knew no vote of theirs")
    (nightly.root / "2026-11-24" / RATERS).write_text("{")
    assert (await explained(world))[-1].startswith("No night has weighed any votes yet")
