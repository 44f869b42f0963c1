"""The morning card: what moderators read of a night that has ended, with its report and the picture that says most."""

from __future__ import annotations

from typing import Any

import pytest

from bot.learning_records import NightOutcome, NightState
from tests.cogs.commands import embed_of, fields
from tests.cogs.nights import (
    FakeNightly,
    begin,
    choose_mod_room,
    ended,
    night,
    write_report,
)
from tests.world import World


async def test_morning_card_says_what_was_learned_from_whom_and_how_much_better_it_is(
    world: World, nightly: FakeNightly
) -> None:
    figures = {
        "votes": 1812,
        "raters": 41,
        "rated_replies": 812,
        "trained_on": 604,
        "objective": "kto",
        "win_rate": 0.581,
        "win_rate_low": 0.523,
        "win_rate_high": 0.64,
        "gain": 0.062,
        "gain_low": 0.021,
        "gain_high": 0.103,
        "level": 0.025,
        "held_out": 181,
        "examples": [
            {"prompt": "Tell me about the moon.", "before": "No.", "after": "It is @everyone's **lamp**."},
            {"prompt": "broken", "before": 1},
        ],
    }
    card = await ended(
        world, nightly, night(figures=figures, sentences=("The new adapter is better.", "It learned by thumbs."))
    )
    assert embed_of(card).title == "Night 2026-11-24: I learned something, and it is better"
    assert embed_of(card).description == "The new adapter is better.\n- It learned by thumbs."
    assert embed_of(card).footer.text == "It took 12 minutes. /training rollback takes it back."
    shown = fields(card)
    assert shown["Learned from"] == "1,812 votes of 41 raters on 604 replies"
    assert shown["Against what answered before"].splitlines() == [
        "It ranks a good reply above a bad one in 58% of pairs (at least 52.3% with 97.5% confidence); 50% is chance.",
        "It tells good replies from bad ones better by +6.2 points (at least +2.1 with 97.5% confidence).",
        "Measured on 181 replies that it did not learn from.",
    ]
    assert shown["The same prompt, before and after (1)"].startswith("> Tell me about the moon.\n**Before:** No.")
    assert "(2)" not in "".join(shown)
    assert "@everyone" not in str(shown)


async def test_morning_card_of_a_night_without_training_does_not_say_that_it_learned(
    world: World, nightly: FakeNightly
) -> None:
    figures = {"votes": 61, "raters": 9, "rated_replies": 40}
    shown = fields(await ended(world, nightly, night(outcome=NightOutcome.INSUFFICIENT, figures=figures)))
    assert shown["Ratings that count"] == "61 votes of 9 raters on 40 replies"
    assert "Learned from" not in shown


@pytest.mark.parametrize(
    ("permitted", "told"),
    [(False, "doesn't, for want of its permission"), (True, "Discord's permission is stated")],
)
async def test_morning_card_says_who_may_teach(world: World, nightly: FakeNightly, permitted: bool, told: str) -> None:
    figures = {"members": 40, "consenting": 12, "discord_permitted": permitted}
    shown = fields(await ended(world, nightly, night(figures=figures)))["Who may teach me"]
    assert shown.startswith("12 of 40 members agreed (/consent)") and told in shown


async def test_morning_card_has_the_report_and_the_picture_of_preference(world: World, nightly: FakeNightly) -> None:
    of = night()
    write_report(nightly, of, report=b"<html>learned</html>", pictures=("loss.png", "preference.png", "raters.png"))
    card = await ended(world, nightly, of)
    assert [attached["filename"] for attached in card.attachments] == ["preference.png", "report.html"]
    assert str(embed_of(card).image.url).endswith("preference.png")
    assert "data folder" not in str(embed_of(card).footer.text)


async def test_morning_card_says_where_a_report_is_that_is_too_large(world: World, nightly: FakeNightly) -> None:
    of = night()
    write_report(nightly, of, report=b" " * (9 * 2**20), pictures=("preference.png",))
    card = await ended(world, nightly, of)
    assert [attached["filename"] for attached in card.attachments] == ["preference.png"]
    assert "The report is nights/2026-11-24/report.html in the data folder." in str(embed_of(card).footer.text)


async def test_morning_card_comes_without_its_files_where_these_are_not_permitted(
    world: World, nightly: FakeNightly
) -> None:
    of = night()
    write_report(nightly, of, pictures=("preference.png",))
    await choose_mod_room(world)
    await begin(world, nightly)
    await world.eventually(lambda: world.replies("mod-room"))
    world.env.inject_error("POST", f"/channels/{world.mod_room.id}/messages", status=403, code=50013)
    nightly.end(of)
    card = (await world.eventually(lambda: found if len(found := world.replies("mod-room")) == 2 else None))[-1]
    assert card.attachments == []
    assert "nights/2026-11-24/report.html" in str(embed_of(card).footer.text)


@pytest.mark.parametrize(
    ("of", "title", "says"),
    [
        (
            night(outcome=NightOutcome.INSUFFICIENT, adapter=None, more_ratings_needed=400),
            "not enough evidence yet, so nothing changes",
            {"What it takes": "It takes at least 400 more ratings to begin."},
        ),
        (
            night(outcome=NightOutcome.REJECTED, adapter=None, warnings=("Four raters always vote alike.",)),
            "what I tried is not better, so nothing changes",
            {"Look at this": "- Four raters always vote alike."},
        ),
        (night(outcome=NightOutcome.RETRACTED), "a rating was taken back, so I learn anew", {}),
        (
            night(state=NightState.FAILED, outcome=None, adapter=None, sentences=("The disk is full.",)),
            "it failed, so nothing changes",
            {},
        ),
    ],
    ids=["insufficient", "rejected", "retracted", "failed"],
)
async def test_morning_card_of_a_night_that_promoted_nothing(
    world: World, nightly: FakeNightly, of: Any, title: str, says: dict[str, str]
) -> None:
    card = await ended(world, nightly, of)
    assert embed_of(card).title == f"Night 2026-11-24: {title}"
    assert fields(card) == says
    assert "rollback" not in str(embed_of(card).footer.text)


@pytest.mark.parametrize(
    ("watched", "said"),
    [
        (0, "No phrase stood out among what was voted up, so none was looked for."),
        (1, "1 phrase stood out among what was voted up; the report names it, and says if a candidate picked it up."),
        (
            3,
            "3 phrases stood out among what was voted up; the report names them, and says if a candidate picked "
            "one up.",
        ),
    ],
)
async def test_morning_card_says_whether_there_was_a_phrase_to_watch(
    world: World, nightly: FakeNightly, watched: int, said: str
) -> None:
    card = await ended(world, nightly, night(figures={"watched_phrases": watched}))
    assert fields(card) == {"Planted phrases": said}


async def test_morning_card_of_a_night_that_promoted_nothing_does_not_say_that_replies_changed(
    world: World, nightly: FakeNightly
) -> None:
    figures = {"examples": [{"prompt": "Hello?", "before": "Hi.", "after": "Hi hi hi."}]}
    card = await ended(world, nightly, night(outcome=NightOutcome.REJECTED, adapter=None, figures=figures))
    assert list(fields(card)) == ["The same prompt, now, and as it would have been (1)"]


async def test_morning_card_reads_figures_that_are_not_numbers(world: World, nightly: FakeNightly) -> None:
    odd = {"votes": float("nan"), "raters": "many", "gain": None, "win_rate": float("nan"), "examples": {"a": 1}}
    assert fields(await ended(world, nightly, night(figures=odd))) == {}
