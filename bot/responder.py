"""One message -> one reply: claims it, composes the prompt, streams the answer to a surface and writes the row.

The same code serves Discord, the demo and the terminal; only the Surface differs. Owns the replies that are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from bot import text
from bot.answer import Answer, Labels
from bot.conversation import Composed
from bot.errors import StoreError
from bot.moderation.findings import Audience
from bot.prompts import Prompts
from bot.records import Ask, Generation, Message, Reply, ReplyState, ServerSettings
from bot.reply_end import keep_end
from bot.screening import AnswerScreen, Review, Screening, nobody_reviews, to_review
from bot.streaming import Controls, Pacers, StreamingMessage, Surface, SurfaceBusy, SurfaceGone
from models.errors import AdapterGone, EngineFailed, ModelError, PromptTooLong
from models.types import Request

if TYPE_CHECKING:
    from bot.arms import Arms
    from bot.settings import Settings
    from bot.store import Store
    from models.loading import LoadedModel

log = logging.getLogger(__name__)

_NO_NOTES = "I can't keep notes right now, so I don't answer; please try again later."
_NO_WORDS = "I found no words; ask me for another version."
_TAKEN_BACK = "Somebody took back the words that this would be made from; ask me again instead."
_TRIES = 3  # at an answer that does not begin as another member's
_VARIANTS = 1_000_003  # seeds apart: no regeneration gets to the seed of an earlier try
_SMALLEST_ROOM = 16  # tokens; less than this is not worth starting an answer for


@dataclass(slots=True)
class _Running:
    """A reply under way. `stopped_by_member` tells a stop from a failure."""

    ask: Ask
    answer: Answer
    screen: AnswerScreen
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by_member: bool = False
    silenced: bool = False  # posts nothing that isn't there yet


class Responder:
    """Answer asks, one row each; nothing is answered twice."""

    def __init__(
        self,
        store: Store,
        model: LoadedModel,
        *,
        settings: Settings,
        character: str = "Encore",
        arms: Arms | None = None,
        screening: Screening | None = None,
    ) -> None:
        self._store = store
        self._model = model
        self._arms = arms  # None: the base answers everywhere
        self._screening = screening or Screening()
        self.audience_of: Callable[[int, ServerSettings], Audience] = lambda *_: Audience.GENERAL  # by channel
        self.review: Review = nobody_reviews
        self.prompts = Prompts(store, model, settings=settings, character=character)
        self._pacers = Pacers(settings.edit_interval_seconds)
        self._running: dict[int, _Running] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def name_character(self, name: str) -> None:
        """Say by which name members know the character, so that no member's label reads like it."""
        self.prompts.character = name

    @property
    def running(self) -> int:
        """Return how many replies are waiting or streaming."""
        return len(self._running)

    async def respond(
        self,
        ask: Ask,
        history: Sequence[Message],
        surface: Surface,
        server: ServerSettings,
        *,
        notes: Sequence[str] = (),
    ) -> Reply | None:
        """Answer the last message of `history`, with `notes` below; return None when someone already has (or does).

        A failure is told on the surface in one sentence and kept in the row; raises StoreError alone.
        """
        reply_id = await self._store.claim_reply(ask)
        if reply_id is None:
            return None
        return await self.resume(reply_id, ask, history, surface, server, notes=notes)

    async def resume(
        self,
        reply_id: int,
        ask: Ask,
        history: Sequence[Message],
        surface: Surface,
        server: ServerSettings,
        *,
        notes: Sequence[str] = (),
    ) -> Reply | None:
        """Answer a reply that is claimed but shows nothing yet: the last process died before it could."""
        compose = partial(self.prompts.of_talk, ask, history, server)
        asked = history[-1].content if history else ""
        return await self._run(reply_id, ask, compose, surface, server, question=asked, notes=notes)

    async def carry_on(self, ask: Ask, previous: Reply, surface: Surface, server: ServerSettings) -> Reply | None:
        """Continue where `previous` ended, from its exact tokens, as a reply of its own; None when already done.

        It stops where it would speak for a member, as `previous` did.
        """
        reply_id = await self._store.claim_reply(ask)
        if reply_id is None:
            return None

        before = previous.outcome.completion if previous.outcome else ""
        compose = partial(self.prompts.carried_on, previous, server)
        return await self._run(reply_id, ask, compose, surface, server, previous=previous, before=before)

    async def again(self, ask: Ask, previous: Reply, surface: Surface, server: ServerSettings) -> Reply | None:
        """Answer the exact prompt of `previous` once more, as a reply of its own; None when already done.

        Nothing that was said since comes into it: replies to the operator's prompts stay free of members' words.
        """
        reply_id = await self._store.claim_reply(ask)
        if reply_id is None:
            return None

        compose = partial(self.prompts.again, previous, server)
        return await self._run(reply_id, ask, compose, surface, server, previous=previous)

    def stop(self, reply_id: int) -> bool:
        """Stop a reply on a member's wish; return whether it was under way."""
        running = self._running.get(reply_id)
        if running is None:
            return False
        running.stopped_by_member = True
        running.cancel.set()
        return True

    def stop_for_message(self, asked_message_id: int) -> bool:
        """Stop every reply to a message, as when that message is deleted."""
        asked = [reply_id for reply_id, r in self._running.items() if r.ask.asked_message_id == asked_message_id]
        for reply_id in asked:
            self.stop(reply_id)
        return bool(asked)

    def silence(self, guild_id: int | None, member_id: int | None = None) -> None:
        """Stop every reply in a server, or those to one member there; what shows nothing yet won't."""
        for running in self._running.values():
            if running.ask.guild_id == guild_id and member_id in (None, running.ask.member_id):
                running.stopped_by_member = running.silenced = True
                running.cancel.set()

    def askers(self, guild_id: int) -> set[int]:
        """Return who asked for the replies under way in a server."""
        return {running.ask.member_id for running in self._running.values() if running.ask.guild_id == guild_id}

    def asker_of(self, reply_id: int) -> int | None:
        """Return who asked for a reply under way."""
        running = self._running.get(reply_id)
        return running.ask.member_id if running else None

    async def aclose(self, grace_seconds: float = 8.0) -> None:
        """Refuse new replies, stop those under way and wait until each is shown as stopped."""
        self._closing = True
        for running in self._running.values():
            running.cancel.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_seconds)

    async def _run(
        self,
        reply_id: int,
        ask: Ask,
        compose: Callable[[], Awaitable[Composed]],
        surface: Surface,
        server: ServerSettings,
        *,
        previous: Reply | None = None,
        question: str = "",
        before: str = "",
        notes: Sequence[str] = (),
    ) -> Reply | None:
        answer = Answer(self._model.tokenizer.encode_text)
        system = self.prompts.system(ask, server)
        audience = self.audience_of(ask.channel_id, server)
        policy = await self._screening.policy(server, audience, member_id=ask.member_id)
        # Its prompt may be from before the system prompt was changed, and neither is anyone's to read.
        earlier = self.prompts.earlier_system(previous, system) if previous else ""
        screen = self._screening.answer(policy, system, earlier_prompt=earlier, question=question, before=before)
        running = self._running[reply_id] = _Running(ask, answer, screen)
        self._idle.clear()

        async def attach(message_id: int, part: int) -> None:
            try:
                await self._store.attach_message(reply_id, message_id, part)
            except StoreError as error:  # the member's text goes on; the end notes the message again
                log.warning("reply %s: message %s is not noted yet: %s", reply_id, message_id, error)

        shown = StreamingMessage(
            surface,
            self._pacers.of(ask.channel_id),
            reply_id=reply_id,
            on_sent=attach,
            lost=running.cancel,
            present=screen.feed,
        )
        told = [*notes]
        try:
            try:
                if (await self._store.server_settings(ask.guild_id)).locked:  # while this was claimed
                    self.silence(ask.guild_id)
                composed = await compose()
                if composed.tells_cut:
                    told.append(composed.cut_note)
                await self._generate(reply_id, composed, running, shown, server)
            except EngineFailed:
                log.exception("reply %s: the engine failed", reply_id)
                answer.failure = _broken(reply_id)
            except ModelError as error:
                log.warning("reply %s: %s", reply_id, error)
                answer.failure = str(error)
            except StoreError as error:  # its sentence is the operator's: it names the file
                log.warning("reply %s: %s", reply_id, error)
                answer.failure = _NO_NOTES
            except Exception:
                log.exception("reply %s: unexpected failure", reply_id)
                answer.failure = _broken(reply_id)
            await self._conclude(reply_id, running, shown, told)
            return await self._store.reply(reply_id)
        finally:
            await shown.stop_edits()
            del self._running[reply_id]
            if not self._running:
                self._idle.set()

    async def _generate(
        self, reply_id: int, composed: Composed, running: _Running, shown: StreamingMessage, server: ServerSettings
    ) -> None:
        """Generate; again with another seed where the answer begins as another member's, or its adapter is gone."""
        labels = Labels(self.prompts.character, composed.labels)
        # The template writes the tag itself, or an earlier reply did, so the model will not.
        reasoning = composed.reasoning or self._model.prompts.opens_reasoning(composed.prompt.token_ids)
        for again in range(_TRIES):
            choice = await self._arms.place(running.ask) if self._arms else None
            placement, adapter = (choice.placement, choice.adapter) if choice else (None, None)
            request = self._request(composed, running.ask, server, adapter, again)
            if not await self._store.start_reply(reply_id, composed.prompt, self._generation(request), placement):
                running.answer.failure = _TAKEN_BACK
                return
            running.answer.begin(labels, reasoning=reasoning)
            try:
                await self._stream(request, running, shown)
            except AdapterGone:  # it was retired while this waited for its turn: what serves now answers
                if again + 1 == _TRIES:
                    raise
                continue
            if not running.answer.impersonates:
                return

    def _request(
        self, composed: Composed, ask: Ask, server: ServerSettings, adapter: str | None, again: int
    ) -> Request:
        room = self._model.engine.info.context_tokens - len(composed.prompt.token_ids)
        if room < _SMALLEST_ROOM:
            raise PromptTooLong("There is no room left to go on with this; start a new message instead.")
        sampling = replace(server.sampling, max_new_tokens=min(server.sampling.max_new_tokens, room))
        # A server's seed makes the same prompt give the same answer; each regeneration still differs from the last.
        fixed = None if server.seed is None else server.seed + ask.variant + again * _VARIANTS
        seed = secrets.randbelow(2**31) if fixed is None else fixed % 2**31
        lane = str(ask.channel_id)
        return Request(composed.prompt.token_ids, sampling, seed, lane=lane, adapter=adapter)

    def _generation(self, request: Request) -> Generation:
        info = self._model.engine.info
        return Generation(info.model, info.model_sha256, request.adapter, request.sampling, request.seed)

    async def _stream(self, request: Request, running: _Running, shown: StreamingMessage) -> None:
        answer = running.answer
        if self._closing:
            running.cancel.set()
        pieces = self._model.scheduler.stream(request, cancel=running.cancel, on_place=shown.wait_in_queue)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                answer.add(piece)
                if answer.is_over or running.screen.hidden:
                    return
                if piece.text:
                    shown.update(answer.presentable)

    async def _conclude(self, reply_id: int, running: _Running, shown: StreamingMessage, notes: list[str]) -> None:
        """Keep the completion, show the final text, then call the reply done: a kill between loses nothing."""
        answer = running.answer
        answer.end()
        said = answer.completion
        verdict = await running.screen.finish(said)
        if verdict.hidden:
            answer.hide(verdict.text, running.screen.why(verdict))
        state, ending = answer.ending(stopped_by_member=running.stopped_by_member, closing=self._closing)
        try:
            await self._store.finish_reply(reply_id, answer.outcome(ReplyState.STREAMING))
        except StoreError as error:  # the member's text comes first
            log.warning("reply %s: its text is shown before it is kept: %s", reply_id, error)
        body = text.close_fence(text.visible(answer.completion))
        if not body and state is ReplyState.DONE and not answer.impersonates:
            ending.insert(0, _NO_WORDS)
        final = "\n".join([body, *map(text.subtext, [*notes, *verdict.notes, *ending])]).strip()
        controls = Controls.NONE if state is ReplyState.FAILED and not body else Controls.FINISHED
        try:
            if running.silenced:
                await shown.stop_edits()
                if not shown.message_ids:
                    raise SurfaceGone("silenced before anything of it showed")
            await shown.finish(final, controls)
        except SurfaceGone:
            state = ReplyState.STOPPED
        except SurfaceBusy:
            log.warning("reply %s: Discord stayed busy; what it shows is not the final text", reply_id)
            # A message that shows a part stays unfinished: the next start completes it.
            state = ReplyState.STREAMING if shown.message_ids else ReplyState.FAILED
        await keep_end(self._store, reply_id, shown.message_ids, answer.outcome(state), closing=lambda: self._closing)
        if found := to_review(verdict.findings, running.screen.policy.answers):
            await self.review(running.ask, reply_id, said, found)


def _broken(reply_id: int) -> str:
    return f"I lost my thread; please ask me again (reference {reply_id})."
