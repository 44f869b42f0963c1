"""`encore demo` as it is composed: what is said there is kept as the demo's, and the terminal tells of languages."""

from __future__ import annotations

import argparse
import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot import commands
from bot.demo import server
from bot.demo.world import LiveWorld
from bot.records import Provenance
from bot.settings import Settings
from bot.store import Store
from models.spec import EMBEDDED_NOTE


def options(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(data=folder, host="127.0.0.1", port=0, browser=False)


async def eventually(predicate: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until `predicate`, plain or async, returns something true, and return that."""
    async with asyncio.timeout(seconds):
        while True:
            value = predicate()
            if value := await value if inspect.isawaitable(value) else value:
                return value
            await asyncio.sleep(0.01)


async def test_replies_and_their_ratings_are_kept_as_the_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def visit(bot: Any, **_: Any) -> None:
        """Ask and rate as the page's visitor would, in place of the page."""
        async with LiveWorld(bot) as world:
            await world.say(world.mei, "general", f"{world.mention} hello")
            shown = await eventually(lambda: world.replies("general"))
            reply = await eventually(lambda: bot.store.reply_of_message(shown[0].id))
            await eventually(lambda: not bot.responder.running)
            await world.react(world.mei, shown[0], "👍")
            await eventually(lambda: bot.store.votes(reply.id))

    monkeypatch.setattr(server, "serve", visit)
    await commands._demo(options(tmp_path / "demo"), Settings(data_dir=tmp_path, model="echo"))
    async with await Store.open(tmp_path / "demo" / "encore.sqlite3") as store:
        reply = await store.reply(1)
        assert reply and reply.ask.provenance is Provenance.DEMO
        assert [vote.source for vote in await store.votes(reply.id)] == ["reaction:👍"]


async def test_terminal_says_that_the_embedded_model_speaks_english_only(
    tmp_path: Path, embedded_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def visit(bot: Any, **_: Any) -> None:
        await bot.close()

    monkeypatch.setattr(server, "serve", visit)
    (tmp_path / "models").symlink_to(embedded_cache)
    settings = Settings(data_dir=tmp_path, context_tokens=256, parallel_streams=1)
    await commands._demo(options(tmp_path / "demo"), settings)
    assert EMBEDDED_NOTE in capsys.readouterr().err
