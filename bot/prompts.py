"""What a reply is made from: the prompt of a channel's talk, of an answer that is carried on, or of one made again.

Owns which system prompt stands before it, and whose words it may hold. Generates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from bot import text
from bot.conversation import Composed, Conversations, labels_in, prompt_budget, with_completions
from bot.records import Ask, Message, PromptRecord, Provenance, Reply, ServerSettings
from models.errors import PromptTooLong
from models.types import FinishReason

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.store import Store
    from models.loading import LoadedModel


class Prompts:
    """Compose by the store's completions and the operator's settings; `character` is whom no member may look like."""

    def __init__(self, store: Store, model: LoadedModel, *, settings: Settings, character: str) -> None:
        self._store = store
        self._model = model
        self._system_prompt = settings.system_prompt
        self._conversations = Conversations(model.prompts, character=character, most_messages=settings.history_messages)

    @property
    def character(self) -> str:
        return self._conversations.character

    @character.setter
    def character(self, name: str) -> None:
        self._conversations.character = name

    def problem(self, server: ServerSettings) -> str | None:
        """Return a clause where a server's own system prompt leaves too little room for messages: half of a prompt."""
        tokens, fit = len(self._model.tokenizer.encode_text(server.system_prompt or "")), self._budget(server) // 2
        reserved = f"beside messages and answers of {server.sampling.max_new_tokens:,} tokens"
        return f"system_prompt takes {tokens:,} tokens and {fit:,} fit {reserved}" if tokens > fit else None

    def _budget(self, server: ServerSettings) -> int:
        return prompt_budget(self._model.engine.info.context_tokens, server.sampling)

    def system(self, ask: Ask, server: ServerSettings) -> str:
        """Return a server's own or the operator's.

        A server's came through Discord, and what answers the operator's prompts may be learned from.
        """
        own = None if ask.provenance is Provenance.OPERATOR else server.system_prompt
        return own or self._system_prompt

    def earlier_system(self, previous: Reply, system: str) -> str:
        """Return the system prompt that `previous` was made with, among what stands around it, if it isn't `system`."""
        if previous.prompt is None or previous.prompt.system_sha256 == sha256(system.encode()).hexdigest():
            return ""
        return self._model.prompts.system_text(previous.prompt.token_ids, previous.prompt.system_sha256)

    async def of_talk(self, ask: Ask, history: Sequence[Message], server: ServerSettings) -> Composed:
        """Compose the answer to the last message of `history`. Raises PromptTooLong, StoreError."""
        told = await self._with_completions(history)
        system, budget = self.system(ask, server), self._budget(server)
        try:
            composed = self._conversations.compose(system, told, budget=budget, labelled=ask.guild_id is not None)
        except PromptTooLong:
            if problem := self.problem(server):
                raise PromptTooLong(f"{problem}; a moderator has to shorten it.") from None
            raise
        return replace(composed, prompt=await inheriting(self._store, composed.prompt))

    async def carried_on(self, previous: Reply, server: ServerSettings) -> Composed:
        """Go on from the exact tokens at which `previous` ended. Raises PromptTooLong, StoreError."""
        if previous.prompt is None or previous.outcome is None:
            raise PromptTooLong("This reply never started, so there is nothing to continue; ask again instead.")
        ended = previous.outcome.finish_reason == FinishReason.END
        ids = self._model.prompts.continuation(previous.prompt.token_ids, previous.outcome.completion_token_ids, ended)
        reasoning = not ended and text.is_reasoning(previous.outcome.completion)
        prompt = replace(previous.prompt, token_ids=ids)
        return Composed(prompt, await self._labels_of(previous, server), reasoning=reasoning)

    async def again(self, previous: Reply, server: ServerSettings) -> Composed:
        """Take the exact prompt of `previous`. Raises PromptTooLong, StoreError."""
        if previous.prompt is None:
            raise PromptTooLong("This reply never started, so there is no other version of it to make.")
        return Composed(previous.prompt, await self._labels_of(previous, server))

    async def _labels_of(self, reply: Reply, server: ServerSettings) -> tuple[str, ...]:
        """Return the labels of the members in a reply's prompt: a line of the character's own words has none."""
        if reply.prompt is None or reply.ask.guild_id is None:
            return ()
        own = {self.system(reply.ask, server)}
        own |= set((await self._store.completions_of_messages(reply.prompt.message_ids)).values())
        part: Reply | None = reply
        while part and part.ask.continues_reply_id is not None:
            part = await self._store.reply(part.ask.continues_reply_id)
            own |= {part.outcome.completion} if part and part.outcome else set()
        return labels_in(self._model.tokenizer.decode(reply.prompt.token_ids), own)

    async def _with_completions(self, history: Sequence[Message]) -> list[Message]:
        own = [message.id for message in history if message.is_self]
        return with_completions(history, await self._store.completions_of_messages(own) if own else {})


async def inheriting(store: Store, prompt: PromptRecord) -> PromptRecord:
    """Name everybody whose words a prompt may hold: who wrote its messages, and whom its own answers had read."""
    behind = await store.members_behind_messages(prompt.message_ids)
    inherited = tuple(sorted(behind.difference(prompt.member_ids)))
    return replace(prompt, member_ids=(*prompt.member_ids, *inherited), inherited_ids=inherited)
