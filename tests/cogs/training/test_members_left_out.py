"""Whom a night names, such as who took votes back until it did without them: a server's moderators read of its own
members, and nobody else reads a name."""

from __future__ import annotations

from tests.cogs.commands import embed_of, fields, run
from tests.cogs.nights import FakeNightly, begin, ended, night
from tests.world import World

MEI, SAM, LIN = (300_000_000_000_000_000 + number for number in (1, 2, 3))
_ALIKE = "Some raters vote as one and count as one rater: {}. Look whether they are one member."
_TOLD = (
    "The night 2026-11-24 learned without the ratings of {}: some were taken back during two nights in a row, so that "
    "neither could be kept. After 30 days they count again; /raters ban leaves them out for good."
)


async def test_moderators_read_who_was_left_out_and_what_they_can_do(world: World, nightly: FakeNightly) -> None:
    await world.store.note_rater(world.guild.id, MEI, trusted=False)
    of = night(figures={"members_left_out": [MEI]}, warnings=("Four raters always vote alike.",))
    card = await ended(world, nightly, of)
    told = _TOLD.format(f"<@{MEI}>")
    assert fields(card)["Look at this"] == f"- {told}\n- Four raters always vote alike."
    assert fields(await run(world, "training status"))["Warnings"] == f"- {told}"


async def test_card_where_members_read_too_names_nobody(world: World, nightly: FakeNightly) -> None:
    await begin(world, nightly, where="stage")
    nightly.end(night(figures={"members_left_out": [MEI]}))
    card = (await world.eventually(lambda: found if len(found := world.replies("stage")) == 2 else None))[-1]
    assert fields(card) == {"Look at this": f"- {_TOLD.format('1 member')}"}
    assert str(MEI) not in str(embed_of(card).to_dict())


async def test_warnings_name_nobody_where_members_read_too(world: World, nightly: FakeNightly) -> None:
    await world.store.note_rater(world.guild.id, MEI, trusted=False)
    await begin(world, nightly, where="stage")
    listed = f"{MEI}, {SAM}; {LIN}, 12"
    nightly.end(night(sentences=("Not better.", f"Because of {SAM}."), warnings=(_ALIKE.format(listed),)))
    card = (await world.eventually(lambda: found if len(found := world.replies("stage")) == 2 else None))[-1]
    assert fields(card) == {"Look at this": f"- {_ALIKE.format('2 members; 2 members')}"}
    assert "300000000000" not in str(embed_of(card).to_dict())


async def test_moderators_read_the_names_of_their_own_servers_members(world: World, nightly: FakeNightly) -> None:
    for member in (MEI, LIN):
        await world.store.note_rater(world.guild.id, member, trusted=False)
    await world.store.note_rater(world.guild.id + 1, SAM, trusted=False)
    of = night(figures={"members_left_out": [SAM, MEI]}, warnings=(_ALIKE.format(f"{MEI}, {SAM}, {LIN}"),))
    card = await ended(world, nightly, of)
    left_out, alike = _TOLD.format(f"<@{MEI}> and 1 more"), _ALIKE.format(f"<@{MEI}>, <@{LIN}> and 1 more")
    assert fields(card)["Look at this"] == f"- {left_out}\n- {alike}"
    assert fields(await run(world, "training status"))["Warnings"] == f"- {left_out}"


async def test_member_who_was_deleted_since_is_told_nowhere(world: World, nightly: FakeNightly) -> None:
    assert fields(await ended(world, nightly, night(figures={"members_left_out": [0]}))) == {}
