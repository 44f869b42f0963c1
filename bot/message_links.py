"""Which message a moderator or member means: by its link, or by its id."""

from __future__ import annotations

import re

NOT_A_MESSAGE = "That is no message; copy its link (right-click it, Copy Message Link) or its id."

_LINK = re.compile(r"<?https://(?:\w+\.)?discord(?:app)?\.com/channels/(?P<guild>\d{1,20}|@me)/\d{1,20}/(\d{15,20})>?")
_ID = re.compile(r"(?:\d{15,20}-)?(\d{15,20})")  # CHANNEL-MESSAGE is what Discord copies with shift held


def message_id(given: str, guild_id: int | None) -> int | None:
    """Read a message's id from its link or its id; None for anything else, and for a link into another server."""
    if found := _LINK.fullmatch(given.strip()):
        return int(found[2]) if found["guild"] == str(guild_id) else None
    found = _ID.fullmatch(given.strip())
    return int(found[1]) if found else None
