"""Messages -> turns: who said what, labelled so that nobody is mixed up or impersonated, within the context's budget.

Owns the window: from which message on a channel's history is shown to the model. It moves in steps, not at every
message, so that a follow-up's prompt starts with the last one's and the engine's prefix cache hits. Does not tokenise.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from bot import text
from bot.records import Message, PromptRecord
from models.prompt import PROMPT_VERSION, PromptBuilder
from models.types import Role, Turn

_REFIT = 0.6  # share of the budget that stays filled when old turns go; the rest is room before the next cut
_WINDOWS_KEPT = 4096  # channels whose window is remembered
_STOP_LABELS = 8
_LABELLED = re.compile(r"^(\S[^\n:]{0,40}): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Composed:
    """A prompt, how it was made, and the strings at which the character would start to speak for others.

    `newly_dropped` counts the messages that this prompt cut off; a cut that was made before is not counted again.
    """

    prompt: PromptRecord
    stop: tuple[str, ...] = ()
    newly_dropped: int = 0


class Conversations:
    """Compose prompts; remembers each channel's window. `character` is the name that no member's label may have."""

    def __init__(self, prompts: PromptBuilder, *, character: str, most_messages: int = 40) -> None:
        self._prompts = prompts
        self.character = character
        self._most_messages = most_messages
        self._starts: OrderedDict[int, int] = OrderedDict()

    def compose(self, system: str, history: Sequence[Message], *, budget: int, labelled: bool) -> Composed:
        """Turn `history` (oldest first, newest last) into a prompt of at most `budget` tokens.

        The bot's own messages must carry their completions. Raises PromptTooLong when the newest message alone is too
        long.
        """
        channel_id = history[-1].channel_id
        before = self._left_out_before(channel_id, history)
        roots = _roots(history, before)
        messages = [*roots, *history[before:]]
        labels = self._labels(messages) if labelled else {}
        turns = [self._turn(message, labels) for message in messages]
        refit = int(budget * _REFIT)
        prompt = self._prompts.build(system, turns, budget=budget, refit=refit, earlier_left_out=before > len(roots))
        kept = messages[prompt.dropped :]
        if before or prompt.dropped:
            self._remember(channel_id, messages[max(prompt.dropped, len(roots))].id)
        record = PromptRecord(
            token_ids=prompt.token_ids,
            prompt_version=PROMPT_VERSION,
            message_ids=tuple(message.id for message in kept),
            member_ids=tuple(dict.fromkeys(message.author_id for message in kept if not message.is_self)),
            dropped_messages=len(history) - len(kept),
            system_sha256=hashlib.sha256(system.encode()).hexdigest(),
        )
        recent = [labels[message.author_id] for message in reversed(kept) if message.author_id in labels]
        return Composed(record, stop_strings(recent), newly_dropped=prompt.dropped)

    def _left_out_before(self, channel_id: int, history: Sequence[Message]) -> int:
        """Return how many of the oldest messages stay out: those cut before, or half when there are too many."""
        start = self._starts.get(channel_id, 0)
        before = next((index for index, message in enumerate(history) if message.id >= start), 0)
        if len(history) - before > self._most_messages:
            before = len(history) - max(1, self._most_messages // 2)
        return before

    def _remember(self, channel_id: int, message_id: int) -> None:
        self._starts[channel_id] = max(message_id, self._starts.get(channel_id, 0))
        self._starts.move_to_end(channel_id)
        while len(self._starts) > _WINDOWS_KEPT:
            self._starts.popitem(last=False)

    def _turn(self, message: Message, labels: dict[int, str]) -> Turn:
        if message.is_self:
            return Turn(Role.ASSISTANT, text.visible(message.content))
        content = text.normalise(message.content)
        name = labels.get(message.author_id)
        # A continuation line is indented, so that no line of a member's text can pose as another member's.
        return Turn(Role.USER, f"{name}: {content}".replace("\n", "\n  ") if name else content)

    def _labels(self, messages: Sequence[Message]) -> dict[int, str]:
        """Name each author; two who would look alike, or like the character, get the end of their id."""
        names = {m.author_id: text.label(m.author_name) for m in messages if not m.is_self}
        taken: dict[str, int] = {_fold(self.character): 1}
        for name in names.values():
            taken[_fold(name)] = taken.get(_fold(name), 0) + 1
        return {
            author: name if taken[_fold(name)] == 1 else f"{name}#{author % 10000:04d}"
            for author, name in names.items()
        }


def labels_in(prompt: str) -> list[str]:
    """Return the labels of the lines in a prompt's text, the last speaker first."""
    return [match[1] for match in reversed(list(_LABELLED.finditer(prompt)))]


def stop_strings(labels: Sequence[str]) -> tuple[str, ...]:
    """Return where the character would begin to speak for one of the latest speakers."""
    return tuple(f"\n{name}:" for name in list(dict.fromkeys(labels))[:_STOP_LABELS])


def _roots(history: Sequence[Message], before: int) -> list[Message]:
    """Return what of the left out part the newest message answers, link by link, and a thread's first message."""
    earlier = {message.id: message for message in history[:before]}
    by_id = {message.id: message for message in history}
    wanted = {history[-1].channel_id}  # a thread has the id of the message that it began with
    link: Message | None = history[-1]
    while link is not None and link.reply_to_id is not None and link.reply_to_id not in wanted:
        wanted.add(link.reply_to_id)
        link = by_id.get(link.reply_to_id)
    return [message for message_id, message in earlier.items() if message_id in wanted]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
