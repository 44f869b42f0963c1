"""A live Discord with the real bot, store and services around the echo engine: what cog tests act in.

async with live_world(tmp_path, seconds_per_token=0.01) as world:
    await world.say(world.alice, "general", f"{world.mention} hello")
    reply = await world.eventually(lambda: world.finished("general"))
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord

from bot.client import EncoreBot, build_bot
from bot.composition import Learning
from bot.demo.world import LiveWorld
from bot.records import Provenance, Reply
from bot.responder import Responder
from bot.screening import Screening
from bot.settings import Settings
from bot.store import Store
from bot.streaming import CURSOR
from models import spec as model_spec
from models import tokenizer as model_tokenizer
from models.engines.echo import EchoEngine
from models.loading import LoadedModel
from models.prompt import PromptBuilder
from models.scheduler import Scheduler
from tests.bot.stores import open_store
from tests.cogs.privacy import FakeForget


class SayingEngine(EchoEngine):
    """The echo engine, which answers with `says` where that is set."""

    says: str | None = None

    def _text(self, prompt_token_ids: tuple[int, ...]) -> str:
        return super()._text(prompt_token_ids) if self.says is None else self.says


class World(LiveWorld):
    """The demo's server with what tests look into. `alice` and `bob` are its two members by the names of tests."""

    bot: EncoreBot

    def __init__(
        self,
        settings: Settings,
        store: Store,
        model: LoadedModel,
        *,
        nightly: Any = None,
        forget: Any = None,
        screening: Screening | None = None,
        provenance: Provenance,
        draw: random.Random | None,
        **options: Any,
    ) -> None:
        self.settings = settings
        self.store = store
        self.model = model
        self.nightly = nightly
        self.forget = forget
        self.screening = screening
        self.provenance = provenance
        self._draw = draw
        super().__init__(self._build(), **options)
        self.alice, self.bob = self.mei, self.alex

    def _build(self) -> EncoreBot:
        return build_bot(
            self.settings,
            self.store,
            self.model,
            learning=self._learning(),
            screening=self.screening,
            provenance=self.provenance,
            draw=self._draw,
        )

    def _learning(self) -> Learning | None:
        if self.nightly is None:
            return None
        unused: Any = None
        forget: Any = (self.forget or FakeForget().on)(self.store)
        return Learning(self.nightly, unused, forget, unused)

    @property
    def responder(self) -> Responder:
        return self.bot.responder

    @property
    def engine(self) -> SayingEngine:
        engine = self.model.engine
        assert isinstance(engine, SayingEngine)
        return engine

    async def restart(self, **changes: Any) -> None:
        """Cut the bot's power and start a new one on the same store, with some settings changed."""
        self.settings = replace(self.settings, **changes)
        await self.restart_bot(self._build())

    async def ask(self, member: Any, where: Any, text: str, **options: Any) -> Any:
        """Say something that mentions the bot."""
        return await self.say(member, where, f"{self.mention} {text}", **options)

    def finished(self, where: Any, count: int = 1) -> list[Any]:
        """Return the bot's messages in a channel once there are `count` and no reply is under way."""
        shown = self.replies(where)
        done = len(shown) >= count and not self.responder.running
        return shown if done and not any(str(message.content).endswith(CURSOR) for message in shown) else []

    async def answered_in(self, where: Any, count: int = 1) -> list[Any]:
        """Wait until the bot has shown `count` finished messages in a channel; return them, oldest first."""
        shown: list[Any] = await self.eventually(lambda: self.finished(where, count))
        return shown

    async def reply_shown_by(self, message: Any) -> Reply:
        """Return the stored reply that a message of the bot shows; a message stands there a moment before its row."""
        reply: Reply = await self.eventually(lambda: self.store.reply_of_message(message.id))
        return reply

    async def allow_long_answers(self, max_new_tokens: int = 6000) -> None:
        await self.store.change_server_settings(self.guild.id, self.moderator.id, max_new_tokens=max_new_tokens)

    async def prompt_of(self, message: Any) -> str:
        """Return the text of the prompt to which a message of the bot is the answer, control tokens aside."""
        prompt = (await self.reply_shown_by(message)).prompt
        assert prompt is not None
        return self.model.tokenizer.decode(prompt.token_ids)

    def custom_ids(self, message: Any) -> list[str]:
        """List the custom ids of a stored message's buttons, in order."""
        return [button["custom_id"] for row in message.components for button in row["components"]]

    async def eventually(self, predicate: Callable[[], Any], seconds: float = 5.0) -> Any:
        """Wait until `predicate`, plain or async, returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while True:
            value = predicate()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            assert time.monotonic() < deadline, f"it never happened within {seconds} s; errors: {self.errors}"
            await asyncio.sleep(0.005)

    async def quiet(self, seconds: float = 0.15) -> None:
        """Give the bot time to do what it should not."""
        await asyncio.sleep(seconds)


def echo_model(
    data_dir: Path,
    *,
    context_tokens: int = 8192,
    slots: int = 4,
    queue_limit: int = 64,
    **engine_options: Any,
) -> LoadedModel:
    """Return the echo engine as a loaded model; `engine_options` go to EchoEngine."""
    spec = model_spec.resolve("echo", data_dir)
    tokenizer = model_tokenizer.prepare(spec, data_dir)
    engine = SayingEngine(tokenizer, slots=slots, context_tokens=context_tokens, **engine_options)
    return LoadedModel(spec, engine, Scheduler(engine, queue_limit=queue_limit), PromptBuilder(tokenizer), tokenizer)


@asynccontextmanager
async def live_world(
    tmp_path: Path,
    *,
    nightly: Any = None,
    forget: Callable[[Store], Any] | None = None,
    screening: Screening | None = None,
    clock: Callable[[], float] = time.time,
    provenance: Provenance = Provenance.DEMO,
    draw: random.Random | None = None,
    settings: Settings | None = None,
    approved_intents: discord.Intents | None = None,
    keep_messages: int = 1000,
    **model_options: Any,
) -> AsyncIterator[World]:
    """Open a store in `tmp_path`, an echo model and the bot in a live world; `model_options` go to `echo_model`.

    Fails when an event handler of the bot raised, unless the test has emptied `world.errors`.
    """
    settings = settings or Settings(data_dir=tmp_path, edit_interval_seconds=0.02, message_content_intent=True)
    async with await open_store(settings.database, clock=clock) as store:
        model = echo_model(tmp_path, **model_options)
        try:
            world = World(
                settings,
                store,
                model,
                nightly=nightly,
                forget=forget,
                screening=screening,
                provenance=provenance,
                draw=draw,
                approved_intents=approved_intents,
                keep_messages=keep_messages,
            )
            async with world:
                yield world
                assert world.errors == [], "the bot's handlers raised"
        finally:
            await model.aclose()
