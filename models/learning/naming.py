"""The raters whose ids a night's sentences list: found, and called otherwise where nobody is to read the ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DISCORD_IDS = r"\d{15,}(?:, \d{15,})*"
# A list of ids is read as one even where they are short, as those of an imported file are; "; " parts several.
_LISTED = r"(?<=: )\d+(?:[,;] \d+)*(?=\.(?:\s|$))"
_GROUP = re.compile(r"\d+(?:, \d+)*")


def renamed(sentence: str, called: Callable[[list[int]], str]) -> str:
    """Return a sentence in which each list of ids is replaced by what these are `called`."""

    def group(found: re.Match[str]) -> str:
        return called([int(one) for one in found[0].split(", ")])

    return re.sub(_lists(sentence), lambda found: _GROUP.sub(group, found[0]), sentence)


def ids_in(sentence: str) -> set[int]:
    return {int(one) for found in re.finditer(_lists(sentence), sentence) for one in re.findall(r"\d+", found[0])}


def _lists(sentence: str) -> str:
    return f"{_LISTED}|{_DISCORD_IDS}" if "rater" in sentence.lower() else _DISCORD_IDS
