"""Who took votes back until a night did without them: moderators are told, and nobody else is told the name."""

from __future__ import annotations

from tests.cogs.commands import embed_of, fields, run
from tests.cogs.nights import FakeNightly, begin, ended, night
from tests.world import World

MEI = 300_000_000_000_000_001
_TOLD = (
    "The night 2026-11-24 learned without the ratings of {}, who took some back during two nights before it so that "
    "neither could be kept; /raters ban leaves them out for good."
)


async def test_moderators_read_who_was_left_out_and_what_they_can_do(world: World, nightly: FakeNightly) -> None:
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


async def test_member_who_was_deleted_since_is_told_nowhere(world: World, nightly: FakeNightly) -> None:
    assert fields(await ended(world, nightly, night(figures={"members_left_out": [0]}))) == {}
