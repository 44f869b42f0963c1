"""An engine without a model: repeats the last message, character by character. For tests and for trying out Discord."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

from models.errors import AdapterGone, AdapterRefused, EngineFailed, PromptTooLong
from models.spec import ECHO
from models.tokenizer import ModelTokenizer, prepare
from models.types import EngineInfo, Finish, FinishReason, Piece, Request, Role

_ASKED_KEPT = 1000
_LABEL = re.compile(r"[^\n:]{1,100}: ")


def echo_tokenizer() -> ModelTokenizer:
    """Return a tokenizer of bytes with a ChatML template, made in memory."""
    return prepare(ECHO, Path())


class EchoEngine:
    """Answers every prompt with the text of its last user turn, without the `Name: ` that labels it.

    A prompt that ends inside the answer is carried on from there. `seconds_per_token` slows it down; `fail_after`
    breaks every stream after that many pieces. The seed changes nothing: one request always gives the same tokens.
    Neither does the adapter, but one that isn't loaded is refused; `asked` has the adapters of the last streams.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        *,
        seconds_per_token: float = 0.0,
        slots: int = 4,
        context_tokens: int = 2048,
        fail_after: int | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self.seconds_per_token = seconds_per_token
        self.fail_after = fail_after
        self.asked: deque[str | None] = deque(maxlen=_ASKED_KEPT)
        self._adapters = tuple(adapters or ())
        self._tokenizer = tokenizer
        self._closed = asyncio.Event()
        self._info = EngineInfo(
            engine="echo",
            model=ECHO.name,
            model_sha256=ECHO.sha256,
            quantization=ECHO.quantization,
            device="CPU",
            context_tokens=context_tokens,
            slots=slots,
            reason=ECHO.reason,
            languages=ECHO.languages,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._adapters

    async def swap(self, adapters: Mapping[str, Path]) -> None:
        """Know these adapters from now on; their files must be there. Raises AdapterRefused."""
        found = await asyncio.to_thread(lambda: {name for name, path in adapters.items() if path.is_file()})
        if missing := adapters.keys() - found:
            raise AdapterRefused(f"The adapter {min(missing)} has no file to load; serve another one, or none.")
        self._adapters = tuple(adapters)

    async def stream(self, request: Request, *, cancel: asyncio.Event) -> AsyncGenerator[Piece, None]:
        """Repeat the last user turn. Raises PromptTooLong, and EngineFailed after `fail_after` pieces."""
        if request.adapter is not None and request.adapter not in self._adapters:
            raise AdapterGone(f"The adapter {request.adapter!r} is not loaded; answer without one.")
        self.asked.append(request.adapter)
        room = self._info.context_tokens - len(request.prompt_token_ids)
        if room < 1:
            raise PromptTooLong("The prompt fills the context and leaves no room for an answer; shorten it.")
        budget = min(request.sampling.max_new_tokens, room)
        reason = FinishReason.END
        used = 0
        for sent, piece in enumerate(self._answer(request.prompt_token_ids)):
            if self.fail_after is not None and sent >= self.fail_after:
                raise EngineFailed(f"The echo engine failed after {sent} pieces, as it was told to; ask again.")
            if used + len(piece.token_ids) > budget:
                reason = FinishReason.LENGTH
                break
            if await self._cancelled(cancel, self.seconds_per_token * len(piece.token_ids)):
                reason = FinishReason.CANCELLED
                break
            used += len(piece.token_ids)
            yield piece
        finish = Finish(
            reason=reason,
            prompt_tokens=len(request.prompt_token_ids),
            cached_tokens=0,
            completion_tokens=used,
            prompt_milliseconds=0.0,
            completion_milliseconds=used * self.seconds_per_token * 1000,
        )
        yield Piece("", finish=finish)

    async def aclose(self) -> None:
        """End every stream as cancelled."""
        self._closed.set()

    async def _cancelled(self, cancel: asyncio.Event, seconds: float) -> bool:
        """Let time pass; return at once when the stream is cancelled or the engine closed, and whether it was."""
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            waits = [asyncio.ensure_future(event.wait()) for event in (cancel, self._closed)]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return cancel.is_set() or self._closed.is_set()

    def _answer(self, prompt_token_ids: tuple[int, ...]) -> Iterator[Piece]:
        """Yield the answer's characters, then the token that ends a turn."""
        pending: list[int] = []
        for token_id in self._tokenizer.encode_text(self._text(prompt_token_ids)):
            pending.append(token_id)
            text = self._tokenizer.decode(pending)
            if not text.endswith("\ufffd"):  # else the bytes of a character are not all there
                yield Piece(text, tuple(pending), (0.0,) * len(pending))
                pending.clear()
        if pending:
            yield Piece(self._tokenizer.decode(pending), tuple(pending), (0.0,) * len(pending))
        yield Piece("", self._tokenizer.end_ids[:1], (0.0,))

    def _text(self, prompt_token_ids: tuple[int, ...]) -> str:
        """Return what is left to say: the last user turn, less what the prompt's last turn says of it already."""
        turns: list[tuple[str, str]] = []
        words: list[int] = []
        for token_id in (*prompt_token_ids, *self._tokenizer.end_ids[:1]):
            if self._tokenizer.is_control(token_id):
                role, _, content = self._tokenizer.decode(words).partition("\n")
                turns.append((role, content))
                words = []
            else:
                words.append(token_id)
        asked = next((content for role, content in reversed(turns) if role == Role.USER), "")
        said = turns[-1][1] if turns[-1][0] == Role.ASSISTANT else ""
        label = _LABEL.match(asked)
        return asked[label.end() if label else 0 :].removeprefix(said)
