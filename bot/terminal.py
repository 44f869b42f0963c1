"""`encore chat`: one person and the character in a terminal, through the same responder as Discord.

Owns the terminal's screen and its commands; ratings land in the same store with provenance `operator`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from bot import text
from bot.records import Ask, Message, Provenance, Reply
from bot.streaming import CURSOR, Controls

if TYPE_CHECKING:
    from bot.responder import Responder
    from bot.store import Store

_ME, _CHARACTER, _CHANNEL = 1, 2, 1
HELP = (
    "Commands: /up and /down rate the last answer, /again asks for another, /more continues, /new starts over, /quit."
)


class Lines(Protocol):
    """Where typed lines come from; `readline` blocks, and returns an empty string at the end."""

    def isatty(self) -> bool: ...

    def readline(self) -> str: ...


@dataclass(slots=True)
class _Screen:
    """A Surface over a terminal: text only grows, so an edit prints what is new."""

    out: TextIO
    ids: _Ids
    shown: str = ""
    last_id: int = 0

    async def send(self, content: str, *, part: int, reply_id: int, controls: Controls) -> int:
        self.shown = ""
        if part:
            self._print("\n")
        self.last_id = self.ids.next()
        self._show(content, controls)
        return self.last_id

    async def edit(self, message_id: int, content: str, *, reply_id: int, controls: Controls) -> None:
        if message_id == self.last_id:
            self._show(content, controls)

    async def typing(self) -> None:
        """A terminal shows its cursor anyway."""

    def _show(self, content: str, controls: Controls) -> None:
        if controls is Controls.WAITING:
            return
        content = content.removesuffix(CURSOR)
        # What was printed can't be taken back; text that changed (a cut fence reopened, say) starts on a new line.
        new = content[len(self.shown) :] if content.startswith(self.shown) else f"\n{content}"
        self._print(new)
        self.shown = content

    def _print(self, characters: str) -> None:
        self.out.write(characters)
        self.out.flush()


class _Ids:
    """Message ids that grow over all sessions, as Discord's do."""

    def __init__(self) -> None:
        self._last = time.time_ns() // 1000

    def next(self) -> int:
        self._last += 1
        return self._last


class Terminal:
    """A conversation by lines: `read` returns the next one, or None at the end of input."""

    def __init__(self, store: Store, responder: Responder, *, out: TextIO, name: str = "You") -> None:
        self._store = store
        self._responder = responder
        self._out = out
        self._name = name
        self._ids = _Ids()
        self._history: list[Message] = []
        self._last: Reply | None = None

    async def line(self, line: str) -> bool:
        """Handle one line that was typed; return False when the person is done."""
        line = line.strip()
        match line:
            case "":
                return True
            case "/quit" | "/exit":
                return False
            case "/help":
                self._say(HELP)
            case "/up" | "/down":
                await self._rate(1.0 if line == "/up" else -1.0)
            case "/again":
                await self._again()
            case "/more":
                await self._more()
            case "/new":
                self._history.clear()
                self._last = None
                self._say("A new conversation.")
            case _ if line.startswith("/"):
                self._say(f"There is no command {line.split()[0]}. {HELP}")
            case _:
                await self._ask(line)
        return True

    async def _ask(self, content: str) -> None:
        message = Message(self._ids.next(), _CHANNEL, _ME, self._name, content)
        self._history.append(message)
        await self._answer(Ask(message.id, _CHANNEL, None, _ME, Provenance.OPERATOR))

    async def _again(self) -> None:
        asked = [index for index, message in enumerate(self._history) if not message.is_self]
        if not asked:
            self._say("Say something first.")
            return
        del self._history[asked[-1] + 1 :]
        message_id = self._history[-1].id
        variant = await self._store.next_variant(message_id)
        await self._answer(Ask(message_id, _CHANNEL, None, _ME, Provenance.OPERATOR, variant=variant))

    async def _more(self) -> None:
        if self._last is None:
            self._say("There is nothing to continue yet.")
            return
        ask = Ask(
            self._last.ask.asked_message_id,
            _CHANNEL,
            None,
            _ME,
            Provenance.OPERATOR,
            variant=await self._store.next_variant(self._last.ask.asked_message_id),
            continues_reply_id=self._last.id,
        )
        screen = _Screen(self._out, self._ids)
        server = await self._store.server_settings(None)
        self._keep(await self._responder.carry_on(ask, self._last, screen, server), screen)

    async def _answer(self, ask: Ask) -> None:
        screen = _Screen(self._out, self._ids)
        server = await self._store.server_settings(None)
        self._keep(await self._responder.respond(ask, list(self._history), screen, server), screen)

    def _keep(self, reply: Reply | None, screen: _Screen) -> None:
        self._out.write("\n")
        if reply is None or reply.outcome is None:
            return
        self._last = reply
        for message_id in reply.message_ids:
            spoken = text.visible(reply.outcome.completion)
            self._history.append(Message(message_id, _CHANNEL, _CHARACTER, "", spoken, is_self=True, is_bot=True))

    async def _rate(self, value: float) -> None:
        if self._last is None:
            self._say("There is nothing to rate yet.")
            return
        await self._store.cast_vote(self._last.id, _ME, "button", value)
        self._say("Kept: 👍" if value > 0 else "Kept: 👎")

    def _say(self, sentence: str) -> None:
        self._out.write(f"{sentence}\n")
        self._out.flush()


async def converse(terminal: Terminal, source: Lines, out: TextIO) -> None:
    """Read lines from `source` until its end or /quit, with a prompt where a person sits in front of it."""
    interactive = source.isatty()
    while True:
        if interactive:
            out.write("\n> ")
            out.flush()
        line = await asyncio.to_thread(source.readline)
        if not line or not await terminal.line(line):
            return
