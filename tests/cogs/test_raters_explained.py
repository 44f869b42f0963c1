"""`/raters explain`: what the last night thought of a member's votes, from what that night really left."""

from __future__ import annotations

import json
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
from tests.cogs.commands import audit, embed_of, fields, run
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
    """Return the lines of the answer, its fields' names and values included."""
    answer = await run(world, "raters explain", member=world.bob if member is None else member)
    told = [str(embed_of(answer).description), *(text for field in fields(answer).items() for text in field)]
    return "\n".join(told).splitlines()


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
    assert lines[:7] == [
        f"<@{world.bob.id}> counts as any member now.",
        "This is what the night 2026-11-24, the last that weighed votes, made of theirs.",
        "Votes on replies here: 10",
        "4 up, 6 down.",
        "9 of 10 agree with the night's own judgement, made from all votes and labels.",
        "Where the reply has a gold label, 3 were right and 1 wrong.",
        "2 of 10 are on answers to their own prompts; such a vote counts half at most.",
    ]
    assert lines[7] == "What a vote of theirs counted"
    assert lines[8].startswith("It was taken to be right ") and lines[8].endswith("% of the time.")
    assert lines[9:] == ["It counted in full; no cap was reached."]
    assert await audit(world) == []


async def test_member_against_all_others_is_read_the_other_way_round(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    weighed(nightly, snapshot(replies, votes={world.bob.id: votes(world.bob.id, replies, right=False)}))
    lines = await explained(world)
    assert "0 of 40 agree with the night's own judgement, made from all votes and labels." in lines
    assert any(line.endswith("that is below half, so it was read the other way round.") for line in lines)


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
    assert lines[-2].startswith("It counted ") and lines[-2].endswith("% of a full one:")


async def test_who_votes_as_one_is_named_if_of_this_server(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world, 60)
    bloc = (world.bob.id, world.alice.id, 3_001)
    await world.store.note_rater(world.guild.id, world.alice.id, trusted=False)
    await world.store.note_rater(8, 3_001, trusted=False)  # of another server
    weighed(nightly, snapshot(replies, votes={rater: votes(rater, replies, right=False) for rater in bloc}))
    told = "\n".join(await explained(world))
    named = (
        f"- They vote as one with <@{world.alice.id}> and 1 who is not named here; together they count as one rater."
    )
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
    assert "2026-11-25" in lines[1]
    assert lines[-1] == "Nothing, as they were banned from voting."


async def test_votes_in_other_servers_are_a_number_alone(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    there = [await ended_reply(world.store, guild_id=8) for _ in range(2)]
    weighed(nightly, snapshot([*replies, *there], votes={world.bob.id: votes(world.bob.id, [*replies[:4], *there])}))
    lines = await explained(world)
    assert lines[2:4] == ["Votes on replies here: 4", "2 up, 2 down."]
    assert any(line.startswith("2 more votes are on replies of other servers") for line in lines)


async def test_who_rates_in_other_servers_alone_has_no_votes_here(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    there = [await ended_reply(world.store, guild_id=8) for _ in range(2)]
    weighed(nightly, snapshot([*replies, *there], votes={world.bob.id: votes(world.bob.id, there)}))
    lines = await explained(world)
    assert lines[2:4] == ["Votes on replies here: 0", "It knew none."]
    assert lines[4].startswith("2 more votes are on replies of other servers") and "gold label" not in str(lines)


@pytest.mark.parametrize(("influence", "told"), [(0.002, "less than 1%"), (0.42, "42%"), (0.999, "99%")])
async def test_share_of_a_vote_is_neither_none_nor_all(
    world: World, nightly: FakeNightly, influence: float, told: str
) -> None:
    replies = await replies_here(world)
    weighed(nightly, snapshot(replies, votes={world.bob.id: votes(world.bob.id, replies)}))
    path = nightly.root / "2026-11-24" / RATERS
    said = json.loads(path.read_text())
    said["influence"][str(world.bob.id)] = influence
    path.write_text(json.dumps(said))
    assert f"It counted {told} of a full one:" in await explained(world)


async def test_unknown_member_and_damaged_night_are_told_plainly(world: World, nightly: FakeNightly) -> None:
    replies = await replies_here(world)
    weighed(nightly, snapshot(replies, votes={}))
    assert (await explained(world))[-1].startswith(
        "The night 2026-11-24, the last that weighed votes, knew no vote of theirs: they hadn't rated by then"
    )
    (nightly.root / "2026-11-24" / RATERS).write_text("{")
    assert (await explained(world))[-1].startswith("No night has weighed any votes yet")
