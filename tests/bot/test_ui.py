"""The buttons below a reply and their custom ids, which outlive every process."""

from __future__ import annotations

import re
from typing import Any

import discord
import pytest

from bot import ui
from bot.records import Preference
from bot.streaming import Controls


def rows(view: discord.ui.View | None) -> list[list[str]]:
    assert view is not None
    return [[button["custom_id"] for button in row["components"]] for row in view.to_components()]


@pytest.mark.parametrize("controls", [Controls.WAITING, Controls.STREAMING])
async def test_growing_reply_can_be_stopped(controls: Controls) -> None:
    assert rows(ui.reply_view(7, controls)) == [["encore:stop:7"]]


async def test_finished_reply_has_thumbs_regenerate_and_continue() -> None:
    ids = ["encore:up:7", "encore:down:7", "encore:regenerate:7", "encore:continue:7"]
    assert rows(ui.reply_view(7, Controls.FINISHED)) == [ids]


async def test_reply_without_controls_has_no_view() -> None:
    assert ui.reply_view(7, Controls.NONE) is None


async def test_finished_regeneration_asks_which_is_better() -> None:
    choices = [f"encore:better:5:7:{choice}" for choice in ("a", "b", "both", "neither")]
    assert rows(ui.reply_view(7, Controls.FINISHED, compare_with=5))[1] == choices


async def test_comparison_is_not_offered_before_the_end() -> None:
    assert rows(ui.reply_view(7, Controls.STREAMING, compare_with=5)) == [["encore:stop:7"]]


async def test_views_are_not_kept_by_discord_py() -> None:
    view = ui.reply_view(7, Controls.FINISHED)
    assert view is not None
    assert view.is_finished()
    assert view.timeout is None


async def test_custom_ids_match_their_templates_and_discords_limit_for_the_longest_ids() -> None:
    longest = 2**63 - 1
    buttons = {
        ui.STEER_TEMPLATE: [ui.stop_button(longest), ui.regenerate_button(longest), ui.continue_button(longest)],
        ui.UP_TEMPLATE: [ui.up_button(longest)],
        ui.DOWN_TEMPLATE: [ui.down_button(longest)],
        ui.BETTER_TEMPLATE: [ui.better_button(longest, longest, choice) for choice in Preference],
    }
    for template, made in buttons.items():
        for button in made:
            assert button.custom_id is not None
            assert re.fullmatch(template, button.custom_id)
            assert len(button.custom_id) <= 100


class _Shown:
    """A message as far as `reply_id_shown` looks."""

    def __init__(self, *custom_ids: str | None) -> None:
        buttons: list[Any] = []
        for custom_id in custom_ids:
            button = discord.Object(1)
            button.custom_id = custom_id  # type: ignore[attr-defined]
            buttons.append(button)
        row = discord.Object(2)
        row.children = buttons  # type: ignore[attr-defined]
        self.components = [row]


@pytest.mark.parametrize(
    ("custom_ids", "reply_id"),
    [
        (("encore:stop:12",), 12),
        (("encore:up:3", "encore:down:3"), 3),
        ((None, "encore:continue:4"), 4),  # a link button has no custom id
        (("encore:words:up:5:6",), None),
        (("encore:better:1:2:a",), None),
        (("other:stop:12",), None),
        ((), None),
    ],
)
def test_reply_of_a_message_is_read_from_its_buttons(custom_ids: tuple[str | None, ...], reply_id: int | None) -> None:
    assert ui.reply_id_shown(_Shown(*custom_ids)) == reply_id  # type: ignore[arg-type]
