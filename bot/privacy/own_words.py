"""A member's own words in the prompts of replies: read back from token ids, and nobody else's.

A line of a server's talk begins with its member's label, `Mei: hello`, and further lines of theirs are indented; in
direct messages there is one member and no label. Where it can't be told whose a line is, it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bot.records import Provenance, Reply

if TYPE_CHECKING:
    from models.prompt import PromptBuilder

_LABELLED = re.compile(r"([^\s:][^\n:]{0,40}): (.*)")
_INDENT = "  "


class OwnWords:
    """Reads one member's words; `builder_of` knows the models that wrote prompts, by their sha256."""

    def __init__(self, member_id: int, builder_of: Callable[[str], PromptBuilder | None]) -> None:
        self._member_id = member_id
        self._builder_of = builder_of

    def of(self, reply: Reply) -> list[str] | None:
        """Return what the member says in a reply's prompt, oldest first; None: what is kept of it can't be read."""
        if reply.prompt is None or self._member_id not in reply.prompt.member_ids:
            return []
        if reply.ask.provenance in (Provenance.OPERATOR, Provenance.IMPORT):
            return []
        builder = self._builder_of(reply.generation.model_sha256) if reply.generation is not None else None
        if builder is None:
            return None
        turns = builder.user_turns(reply.prompt.token_ids, reply.prompt.system_sha256)
        if reply.ask.guild_id is None:
            return turns
        lines = list(_lines(turns))
        own = self._label(reply, [label for label, _ in lines])
        return [said for label, said in lines if label == own]

    def _label(self, reply: Reply, labels: list[str]) -> str | None:
        """Return the member's label: the newest line is the asker's, and members are listed as they come to speak."""
        assert reply.prompt is not None
        if not labels:
            return None
        if reply.ask.member_id == self._member_id:
            return labels[-1]
        by_member = dict(zip(reply.prompt.member_ids, dict.fromkeys(labels), strict=False))
        return by_member.get(self._member_id) if by_member.get(reply.ask.member_id) == labels[-1] else None


def _lines(turns: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield each message with its label."""
    for turn in turns:
        label, said = None, ""
        for line in turn.split("\n"):
            if line.startswith(_INDENT) and label is not None:
                said += "\n" + line.removeprefix(_INDENT)
                continue
            if label is not None:
                yield label, said
            found = _LABELLED.fullmatch(line)
            label, said = (found[1], found[2]) if found else (None, "")
        if label is not None:
            yield label, said
