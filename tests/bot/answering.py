"""A responder on the echo engine, with the talk that it answers in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.records import Ask, Message, Provenance, ServerSettings
from bot.responder import Responder
from bot.settings import Settings
from bot.store import Store
from models.engines.echo import EchoEngine
from models.loading import LoadedModel, load_model
from tests.bot.screen import Screen
from tests.bot.stores import open_store

GUILD, CHANNEL, MEI = 1, 7, 11


@dataclass
class Room:
    store: Store
    model: LoadedModel
    responder: Responder
    history: list[Message] = field(default_factory=list)
    server: ServerSettings = field(default_factory=ServerSettings)

    @property
    def engine(self) -> EchoEngine:
        assert isinstance(self.model.engine, EchoEngine)
        return self.model.engine

    def ask(self, content: str, *, variant: int = 0) -> Ask:
        """Let Mei say something, and return the ask for an answer to it."""
        message = Message(1000 + len(self.history), CHANNEL, MEI, "Mei", content)
        self.history.append(message)
        return Ask(message.id, CHANNEL, GUILD, MEI, Provenance.DEMO, variant)

    async def respond(self, ask: Ask, screen: Screen):  # type: ignore[no-untyped-def]
        return await self.responder.respond(ask, self.history, screen, self.server)


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, *, context_tokens: int = 2048) -> AsyncIterator[Room]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(await open_store(tmp_path / "encore.sqlite3"))
        model = await load_model("echo", cache_dir=tmp_path, context_tokens=context_tokens, slots=2, queue_limit=2)
        stack.push_async_callback(model.aclose)
        settings = replace(Settings(), edit_interval_seconds=0.0)
        responder = Responder(store, model, settings=settings)
        stack.push_async_callback(responder.aclose)
        yield Room(store, model, responder)


async def until(predicate) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(5):
        while not predicate():
            await asyncio.sleep(0.002)
