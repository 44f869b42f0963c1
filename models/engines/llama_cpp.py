"""llama.cpp in this process, through xllamacpp: continuous batching, prefix cache, one thread a stream.

Decides nothing about order or fairness (models/scheduler does): more streams at once than slots wait inside llama.cpp,
where they can't be cancelled. The same ids, sampling and seed give the same tokens as long as a stream runs alone;
beside others the batch changes the last bits of the logits, and with them, now and then, a token.

Adapters can't be added to a server that runs: a swap opens another one on the same weights, which are mapped from the
file and shared, and lets the old one finish what it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.engines.cores import usable_cores
from models.engines.llama_server import open_server
from models.engines.llama_stream import Run, Server
from models.engines.slots import Slots
from models.errors import AdapterGone, EngineFailed, PromptTooLong
from models.types import EngineInfo, Piece, Request

if TYPE_CHECKING:
    from models.spec import ModelSpec
    from models.tokenizer import ModelTokenizer

_CLOSED = "The model is closed because Encore is stopping; ask again when it is back."

# Opens a server with these adapters; blocks.
Opener = Callable[[Mapping[str, Path]], Server]


class LlamaCppEngine:
    """Runs one GGUF on the CPU, with adapters that can be swapped while it answers."""

    def __init__(self, server: Server, info: EngineInfo, opener: Opener) -> None:
        self._server = server
        self._info = info
        self._opener = opener
        self._tokenizer: ModelTokenizer | None = None
        self._runs: set[Run] = set()
        self._closed = False
        self._swapping = asyncio.Lock()
        self._draining: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        spec: ModelSpec,
        *,
        context_tokens: int,
        slots: int,
        threads: int = 0,
        kv_cache: str = "q8_0",
        prompt_cache_mib: int = 64,
        adapters: Mapping[str, Path] | None = None,
    ) -> LlamaCppEngine:
        """Load the weights; `context_tokens` is for each of `slots` streams, `threads` 0 is one a usable core.

        Raises ModelUnavailable and AdapterRefused.
        """
        reason = f"THREADS={threads}"
        if not threads:
            threads, reason = usable_cores()

        def opener(wanted: Mapping[str, Path]) -> Server:
            handle, context = open_server(
                spec.path,
                context_tokens=context_tokens,
                slots=slots,
                threads=threads,
                kv_cache=kv_cache,
                prompt_cache_mib=prompt_cache_mib,
                adapters=tuple(wanted.values()),
            )
            return Server(handle, tuple(wanted), context, Slots(slots))

        server = await asyncio.to_thread(opener, adapters or {})
        if server.context_tokens < context_tokens:
            reason += f"; context of {server.context_tokens} tokens, which is all that the model knows"
        info = EngineInfo(
            engine="llama_cpp",
            model=spec.name,
            model_sha256=spec.sha256,
            quantization=spec.quantization,
            device=f"CPU, {threads} thread" + "s" * (threads > 1),
            context_tokens=min(server.context_tokens, context_tokens),
            slots=slots,
            reason=f"{spec.reason}; threads: {reason}; attention cache {kv_cache}",
            languages=spec.languages,
        )
        return cls(server, info, opener)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._server.adapters

    async def swap(self, adapters: Mapping[str, Path]) -> None:
        """Load these adapters in the place of those that are loaded; returns when new streams can use them.

        Streams that run go on where they are, and the memory of the old adapters is freed after the last of them; the
        next swap waits for that. Raises EngineFailed and AdapterRefused, and all stays as it was.
        """
        async with self._swapping:
            if self._draining is not None:
                await asyncio.wait({self._draining})
            if self._closed:
                raise EngineFailed(_CLOSED)
            opened = await asyncio.to_thread(self._opener, dict(adapters))
            if self._closed:
                await self._free(opened)
                raise EngineFailed(_CLOSED)
            old, self._server = self._server, opened
            self._draining = asyncio.create_task(self._drain(old), name="encore-drain")

    def use_tokenizer(self, tokenizer: ModelTokenizer) -> None:
        """Spell characters that take several tokens with `tokenizer`.

        llama.cpp tells only the last id of such a character. The others are the tokenizer's spelling of it, which is
        the model's too unless it chose an odd one; without a tokenizer they are missing.
        """
        self._tokenizer = tokenizer

    async def stream(self, request: Request, *, cancel: asyncio.Event) -> AsyncGenerator[Piece, None]:
        """Generate until the end of the turn, a limit or `cancel`.

        The ids spell the text and include the token that ended the turn. Logprobs are the model's own, before
        temperature and penalties, and NaN for ids that llama.cpp doesn't tell. Closing the generator frees the slot.
        Raises PromptTooLong and EngineFailed.
        """
        run = self._start(request, cancel)
        try:
            while True:
                piece = await run.next()
                yield piece
                if piece.finish is not None:
                    return
        finally:
            run.abandoned = True
            await run.ended.wait()
            self._runs.discard(run)

    async def aclose(self) -> None:
        """End every stream as cancelled and free the model."""
        self._closed = True
        for run in self._runs:
            run.abandoned = True
        async with self._swapping:
            for run in self._runs:
                run.abandoned = True
            if self._draining is not None:
                await asyncio.wait({self._draining})
            await self._free(self._server)

    async def _drain(self, server: Server) -> None:
        """Wait until every stream on `server` has ended, then free it."""
        for run in self._runs_on(server):
            await run.ended.wait()
        await self._free(server)

    async def _free(self, server: Server) -> None:
        """Free a server whose streams have ended or are told to end."""
        last_reference, server.handle = [server.handle], None
        for run in self._runs_on(server):
            await asyncio.to_thread(run.thread.join)
        # Dropping it frees the memory, which takes some 50 ms: not on the event loop.
        await asyncio.to_thread(last_reference.clear)

    def _runs_on(self, server: Server) -> list[Run]:
        return [run for run in self._runs if run.server is server]

    def _start(self, request: Request, cancel: asyncio.Event) -> Run:
        server = self._server
        if self._closed:
            raise EngineFailed(_CLOSED)
        if request.adapter is not None and request.adapter not in server.adapters:
            raise AdapterGone(f"The adapter {request.adapter!r} is not loaded; answer without one.")
        room = self._info.context_tokens - len(request.prompt_token_ids)
        if room < 1:
            raise PromptTooLong(
                f"The prompt takes {len(request.prompt_token_ids)} of {self._info.context_tokens} tokens and leaves no "
                "room for an answer; shorten it or raise CONTEXT_TOKENS."
            )
        run = Run(
            request,
            cancel,
            server,
            max_new_tokens=min(request.sampling.max_new_tokens, room),
            tokenizer=self._tokenizer,
        )
        self._runs.add(run)
        run.thread.start()
        return run
