"""A channel whose every word is known by its sayer, and answers that repeat of what they read as much as they are told.

A word is a number and its own token id, `message * 100 + place`: what a row or a file holds of whom can be read off it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from bot.prompts import inheriting
from bot.records import Ask, Outcome, Provenance, ReplyState
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA
from tests.bot.stores import GENERATION, PROMPT

CHARACTER = 0
_PLACES = 100
_LENGTH = 8  # words of a message
_RUN = slice(1, 7)  # of them are repeated: the six that are followed


@dataclass(frozen=True, slots=True)
class Said:
    """A message. What of it may be repeated are `runs`: of an answer those that it repeats itself, if it does."""

    id: int
    author: int
    at: float
    words: tuple[int, ...]
    runs: tuple[tuple[int, ...], ...]


class Channel:
    def __init__(self) -> None:
        self.said: list[Said] = []
        self._ids = itertools.count(70_000)

    def authors(self, words: Iterable[int]) -> dict[int, float]:
        """Return which members' words these are, and when they said the first of them."""
        asked = {message.id: message for message in self.said if message.author != CHARACTER}
        found = [asked[word // _PLACES] for word in words if word // _PLACES in asked]
        return {message.author: message.at for message in sorted(found, key=lambda m: m.at, reverse=True)}

    async def exchange(
        self,
        store: Store,
        author: int,
        *,
        at: float = 0.0,
        provenance: Provenance = Provenance.DISCORD,
        window: int = 1,
        repeats: int = 0,
        unread: Set[int] = frozenset(),
        deleted_at: Mapping[int, float] | None = None,
    ) -> int:
        """Let a member ask, and return the reply, which read `window` messages more and says `repeats` of their runs.

        Not read is what `unread` members say, and what was said before its sayer's data was deleted.
        """
        deleted_at = deleted_at or {}
        asked = self._new(author, at)
        known = await store.completions_of_messages([message.id for message in self.said])
        read = [
            *(
                message
                for message in self.said[len(self.said) - min(window, len(self.said)) :]
                if (message.id in known or message.author != CHARACTER)
                and message.author not in unread
                and message.at >= deleted_at.get(message.author, 0.0)
            ),
            asked,
        ]
        runs = tuple(dict.fromkeys(run for message in read for run in message.runs))[:repeats]
        answer = self._new(CHARACTER, at, runs)
        reply = await store.claim_reply(Ask(asked.id, 70, 7, author, provenance))
        assert reply is not None
        prompt = replace(
            PROMPT,
            token_ids=tuple(word for message in read for word in message.words),
            prompt_version=PROMPT_VERSION,
            message_ids=tuple(message.id for message in read),
            member_ids=tuple(dict.fromkeys(message.author for message in read if message.author != CHARACTER)),
        )
        assert await store.start_reply(
            reply, await inheriting(store, prompt), replace(GENERATION, model_sha256=MODEL_SHA)
        )
        await store.attach_message(reply, answer.id, 0)
        await store.finish_reply(reply, Outcome(ReplyState.DONE, " ".join(map(str, answer.words)), answer.words, "end"))
        self.said += [asked, answer]
        return reply

    def _new(self, author: int, at: float, repeated: tuple[tuple[int, ...], ...] = ()) -> Said:
        message_id = next(self._ids)
        words = tuple(message_id * _PLACES + place for place in range(_LENGTH))
        return Said(message_id, author, at, words + sum(repeated, ()), repeated or (words[_RUN],))
