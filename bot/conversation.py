"""Messages -> turns: who said what, labelled so that nobody is mixed up or impersonated, within the context's budget.

Owns the window: from which message on a channel's history is shown to the model. It moves in steps, not at every
message, so that a follow-up's prompt starts with the last one's and the engine's prefix cache hits. Does not tokenise.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bot import text
from bot.moderation.normalise import fold
from bot.records import Message, PromptRecord
from models.prompt import PROMPT_VERSION, PromptBuilder
from models.types import Role, Sampling, Turn

_REFIT = 0.6  # share of the budget that stays filled when old turns go; the rest is room before the next cut
_WINDOWS_KEPT = 4096  # channels whose window is remembered
_TOLD_KEPT = 16_384  # (channel, member) pairs
_LABELLED = re.compile(r"^(\S[^\n:]{0,40}): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Composed:
    """A prompt and how it was made.

    `labels` are the members whose words it holds, the last speaker first: the character must not speak for them.
    `tells_cut` asks for a sentence to the member that older messages are left out. `reasoning` says that the prompt
    ends inside hidden reasoning that an earlier reply began.
    """

    prompt: PromptRecord
    labels: tuple[str, ...] = ()
    tells_cut: bool = False
    reasoning: bool = False

    @property
    def cut_note(self) -> str:
        """Return what the asker is told where older messages are left out."""
        kept = len(self.prompt.message_ids)
        if kept == 1:
            return "I go by your message alone; older ones are left out."
        return f"I go by {kept} messages here, up to yours; older ones are left out."


class Conversations:
    """Compose prompts; remembers each channel's window. `character` is the name that no member's label may have.

    A member is told that older messages are left out the first time in each channel, and when a cut falls into the
    chain of replies that they answer: they expect it to be remembered. More would stand below every answer.
    """

    def __init__(self, prompts: PromptBuilder, *, character: str, most_messages: int = 40) -> None:
        self._prompts = prompts
        self.character = character
        self._most_messages = most_messages
        self._starts: OrderedDict[int, int] = OrderedDict()
        self._told: OrderedDict[tuple[int, int], None] = OrderedDict()

    def compose(self, system: str, history: Sequence[Message], *, budget: int, labelled: bool) -> Composed:
        """Turn `history` (oldest first, newest last) into a prompt of at most `budget` tokens.

        The bot's own messages must carry their completions. Raises PromptTooLong when the newest message alone is too
        long.
        """
        channel_id, asker_id = history[-1].channel_id, history[-1].author_id
        before = self._left_out_before(channel_id, history)
        pinned = _pinned(history)
        messages = [m for place, m in enumerate(history) if place >= before or m.id in pinned]
        places = {message.id: place for place, message in enumerate(messages)}
        window = len(messages) - (len(history) - before)  # where it starts, behind pinned messages from before it
        labels = self._labels(messages) if labelled else {}
        prompt = self._prompts.build(
            system,
            [self._turn(message, labels) for message in messages],
            budget=budget,
            refit=int(budget * _REFIT),
            pinned=[places[message_id] for message_id in pinned],
            start=window,
            earlier_left_out=len(messages) < len(history),
        )
        kept = [messages[place] for place in prompt.kept]
        start = max(prompt.start, window)
        cut_off = {m.id for m in history if self._starts.get(channel_id, 0) <= m.id < messages[start].id}
        if before or start:
            self._remember(channel_id, messages[start].id)
        record = PromptRecord(
            token_ids=prompt.token_ids,
            prompt_version=PROMPT_VERSION,
            message_ids=tuple(message.id for message in kept),
            member_ids=tuple(dict.fromkeys(message.author_id for message in kept if not message.is_self)),
            dropped_messages=len(history) - len(kept),
            system_sha256=hashlib.sha256(system.encode()).hexdigest(),
        )
        speakers = dict.fromkeys(labels[m.author_id] for m in reversed(kept) if m.author_id in labels)
        cuts_chain = not cut_off.difference(record.message_ids).isdisjoint(pinned)
        tells_cut = len(kept) < len(history) and self._is_news(channel_id, asker_id, cuts_chain=cuts_chain)
        return Composed(record, tuple(speakers), tells_cut)

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

    def _is_news(self, channel_id: int, member_id: int, *, cuts_chain: bool) -> bool:
        """Return whether a member is to be told of a cut, and remember that they are."""
        known = (channel_id, member_id) in self._told
        self._told[channel_id, member_id] = None
        self._told.move_to_end((channel_id, member_id))
        if len(self._told) > _TOLD_KEPT:
            self._told.popitem(last=False)
        return cuts_chain or not known

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
        taken: dict[str, int] = {_look(self.character): 1}
        for name in names.values():
            taken[_look(name)] = taken.get(_look(name), 0) + 1
        return {
            author: name if taken[_look(name)] == 1 else f"{name}#{author % 10000:04d}"
            for author, name in names.items()
        }


def prompt_budget(context_tokens: int, sampling: Sampling) -> int:
    """Return how many tokens a prompt may have: a quarter of the context at least, however long replies may be."""
    return context_tokens - min(sampling.max_new_tokens, context_tokens * 3 // 4)


def with_completions(history: Sequence[Message], completions: Mapping[int, str]) -> list[Message]:
    """Put what the model said in place of what Discord shows: no footers, no cuts between messages."""
    chosen = _chosen_versions(history, completions)
    told: list[Message] = []
    first_part: dict[int, int] = {}  # of the reply that a further part belongs to
    for message in history:
        if message.reply_to_id in first_part:
            message = replace(message, reply_to_id=first_part[message.reply_to_id])
        if message.is_self:
            if message.reply_to_id is not None and chosen.get(message.reply_to_id) != completions.get(message.id):
                continue  # a version that talk did not go on from
            message = replace(message, content=completions.get(message.id, ""))  # notices are no turns
            if told and told[-1].is_self and told[-1].content == message.content:
                first_part[message.id] = told[-1].id
                continue
        if message.content.strip():
            told.append(message)
    return told


def _chosen_versions(history: Sequence[Message], completions: Mapping[int, str]) -> dict[int, str]:
    """Return which version of the answer to each message talk went on from: the one replied to, else the newest."""
    replied_to = {message.reply_to_id for message in history if not message.is_self}
    chosen: dict[int, str] = {}
    settled: set[int] = set()
    for message in history:
        asked = message.reply_to_id
        if message.is_self and asked is not None and message.id in completions and asked not in settled:
            chosen[asked] = completions[message.id]
            if message.id in replied_to:
                settled.add(asked)
    return chosen


def labels_in(prompt: str, own_words: Iterable[str]) -> tuple[str, ...]:
    """Return the labels of the lines in a prompt's text, the last speaker first.

    A line such as "Note: ..." looks labelled, too: `own_words` are the texts in it that no member wrote.
    """
    labels = [match[1] for match in _LABELLED.finditer(prompt)]
    others = Counter(labels)
    others.subtract(match[1] for words in own_words for match in _LABELLED.finditer(text.visible(words)))
    return tuple(label for label in dict.fromkeys(reversed(labels)) if others[label] > 0)


def _pinned(history: Sequence[Message]) -> list[int]:
    """Return the ids of the messages that stay when those around them go, the most important first.

    These are a thread's first message, what the newest message replies to, and the chain up from there, from its root
    on: so the list grows at its end while talk goes on.
    """
    earlier = {message.id: message for message in history[:-1]}
    chain: list[int] = []
    link = history[-1]
    while (parent := earlier.pop(link.reply_to_id or 0, None)) is not None:
        chain.append(parent.id)
        link = parent
    starter = [history[-1].channel_id]  # a thread has the id of the message that it began with
    wanted = dict.fromkeys([*starter, *chain[:1], *reversed(chain)])
    present = {message.id for message in history[:-1]}
    return [message_id for message_id in wanted if message_id in present]


def _look(name: str) -> str:
    """Return what a label looks like: the same for two that only differ in case, width, accents or homoglyphs."""
    return fold(name).text
