"""llama.cpp in this process, through xllamacpp: continuous batching, prefix cache, one thread a stream.

Decides nothing about order or fairness (models/scheduler does): more streams at once than slots wait inside llama.cpp,
where they can't be cancelled. The same ids, sampling and seed give the same tokens as long as a stream runs alone;
beside others the batch changes the last bits of the logits, and with them, now and then, a token.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from models.engines.cores import usable_cores
from models.engines.llama_server import open_server
from models.engines.pieces import UNKNOWN_LOGPROB, StopStrings, merged
from models.errors import EngineFailed, PromptTooLong
from models.types import EngineInfo, Finish, FinishReason, Piece, Request

if TYPE_CHECKING:
    from models.spec import ModelSpec
    from models.tokenizer import ModelTokenizer

_SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and the highest value means "a random seed"
_TOP_K = 40  # llama.cpp's own default: sorting the whole vocabulary for each token would cost more than it brings


class LlamaCppEngine:
    """Runs one GGUF on the CPU."""

    def __init__(self, server: Any, info: EngineInfo) -> None:
        self._server = server
        self._info = info
        self._tokenizer: ModelTokenizer | None = None
        self._runs: set[_Run] = set()

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
    ) -> LlamaCppEngine:
        """Load the weights; `context_tokens` is for each of `slots` streams, `threads` 0 is one a usable core.

        Raises ModelUnavailable.
        """
        reason = f"THREADS={threads}"
        if not threads:
            threads, reason = usable_cores()
        server, context = await asyncio.to_thread(
            open_server,
            spec.path,
            context_tokens=context_tokens,
            slots=slots,
            threads=threads,
            kv_cache=kv_cache,
            prompt_cache_mib=prompt_cache_mib,
        )
        if context < context_tokens:
            reason += f"; context of {context} tokens, which is all that the model knows"
        return cls(
            server,
            EngineInfo(
                engine="llama_cpp",
                model=spec.name,
                model_sha256=spec.sha256,
                quantization=spec.quantization,
                device=f"CPU, {threads} thread" + "s" * (threads > 1),
                context_tokens=min(context, context_tokens),
                slots=slots,
                reason=f"{spec.reason}; threads: {reason}; attention cache {kv_cache}",
                languages=spec.languages,
            ),
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def use_tokenizer(self, tokenizer: ModelTokenizer) -> None:
        """Spell characters that take several tokens with `tokenizer`.

        llama.cpp tells only the last id of such a character. The others are the tokenizer's spelling of it, which is
        the model's too unless it chose an odd one; without a tokenizer they are missing.
        """
        self._tokenizer = tokenizer

    async def stream(self, request: Request, *, cancel: asyncio.Event) -> AsyncGenerator[Piece, None]:
        """Generate until the end of the turn, a limit, a stop string or `cancel`.

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
        last_reference, self._server = [self._server], None
        for run in self._runs:
            run.abandoned = True
        for run in list(self._runs):
            await asyncio.to_thread(run.thread.join)
        # Dropping it frees the weights, which takes some 50 ms: not on the event loop.
        await asyncio.to_thread(last_reference.clear)

    def _start(self, request: Request, cancel: asyncio.Event) -> _Run:
        if self._server is None:
            raise EngineFailed("The model is closed because Encore is stopping; ask again when it is back.")
        if request.adapter is not None:
            raise EngineFailed(f"The adapter {request.adapter!r} is not loaded; answer without one.")
        room = self._info.context_tokens - len(request.prompt_token_ids)
        if room < 1:
            raise PromptTooLong(
                f"The prompt takes {len(request.prompt_token_ids)} of {self._info.context_tokens} tokens and leaves no "
                "room for an answer; shorten it or raise CONTEXT_TOKENS."
            )
        run = _Run(
            request,
            cancel,
            self._server,
            max_new_tokens=min(request.sampling.max_new_tokens, room),
            tokenizer=self._tokenizer,
        )
        self._runs.add(run)
        run.thread.start()
        return run


class _Run:
    """One generation: its thread writes, the event loop reads.

    Not a thread pool: at interpreter exit a pool waits for its threads while nothing tells them to stop. A thread of
    its own sees that the main thread is gone and stops at the next token.
    """

    def __init__(
        self,
        request: Request,
        cancel: asyncio.Event,
        server: Any,
        *,
        max_new_tokens: int,
        tokenizer: ModelTokenizer | None,
    ) -> None:
        self.ended = asyncio.Event()
        self.abandoned = False
        self.thread = threading.Thread(
            target=self._generate, args=(server, _body(request, max_new_tokens)), name="encore-stream"
        )
        self._prompt_tokens = len(request.prompt_token_ids)
        self._cancel = cancel
        self._tokenizer = tokenizer
        self._stop = StopStrings(request.stop, self._spell)
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[Piece] = deque()
        self._wake = asyncio.Event()
        self._woken = False
        self._failure: str | None = None
        self._finished = False
        self._cached_tokens = 0
        self._timings: dict[str, Any] = {}
        self._main_thread = threading.main_thread()

    async def next(self) -> Piece:
        """Return everything that has arrived since the last call as one piece."""
        while not self._pieces:
            if self._failure is not None:
                raise EngineFailed(f"The model failed while it answered ({self._failure}); ask again.")
            await self._wake.wait()
            self._wake.clear()
            self._woken = False  # before looking: what arrives from here on wakes again
        return merged([self._pieces.popleft() for _ in range(len(self._pieces))])

    def _generate(self, server: Any, body: dict[str, Any]) -> None:
        """Run the generation to its end; the thread's own code, like everything below."""
        try:
            server.handle_completions(body, self._on_chunk)
        except Exception as error:
            self._failure = self._failure or str(error) or type(error).__name__
        if not self._finished and self._failure is None:
            if self._stopping():
                self._finish(FinishReason.CANCELLED)
            else:
                self._failure = "it stopped without a reason"
        self._notify(self._wake.set, self.ended.set)

    def _on_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take what llama.cpp tells; return True to cancel. xllamacpp would swallow an exception in silence."""
        try:
            return self._take(chunk)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            return True

    def _take(self, chunk: dict[str, Any]) -> bool:
        if self._stopping():
            return True
        if "error" in chunk:
            self._failure = str(chunk["error"].get("message", chunk["error"]))
            return True
        choice = chunk["choices"][0]
        counted = self._timings.get("predicted_n", 0)
        self._timings = chunk.get("timings", self._timings)
        if "prompt_progress" in chunk:
            self._cached_tokens = chunk["prompt_progress"]["cache"]
        if choice["finish_reason"] is not None:
            self._finish(FinishReason.LENGTH if choice["finish_reason"] == "length" else FinishReason.END)
        elif choice["logprobs"]:
            piece = self._piece(
                choice["text"], choice["logprobs"]["content"][-1], self._timings["predicted_n"] - counted
            )
            if (ready := self._stop.push(piece)) is not None:
                self._put(ready)
            if self._stop.met:
                self._finish(FinishReason.END)
                return True
        return False

    def _piece(self, text: str, last: dict[str, Any], count: int) -> Piece:
        """Return the piece of `count` tokens of which llama.cpp tells the last."""
        last_id, logprob = last["id"], last["logprob"]
        if count == 1 or self._tokenizer is None:
            return Piece(text, (last_id,), (logprob,))
        ids = self._spell(text)
        if self._tokenizer.is_control(last_id):
            ids.append(last_id)
        logprobs = [UNKNOWN_LOGPROB] * len(ids)
        if ids and ids[-1] == last_id:
            logprobs[-1] = logprob
        return Piece(text, tuple(ids), tuple(logprobs))

    def _spell(self, text: str) -> list[int]:
        return self._tokenizer.encode_text(text) if self._tokenizer else []

    def _stopping(self) -> bool:
        return self.abandoned or self._cancel.is_set() or not self._main_thread.is_alive()

    def _finish(self, reason: FinishReason) -> None:
        self._finished = True
        finish = Finish(
            reason=reason,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._timings.get("predicted_n", 0),
            prompt_milliseconds=self._timings.get("prompt_ms", 0.0),
            completion_milliseconds=self._timings.get("predicted_ms", 0.0),
        )
        held = self._stop.flush() or Piece("")
        self._put(Piece(held.text, held.token_ids, held.logprobs, finish))

    def _put(self, piece: Piece) -> None:
        self._pieces.append(piece)
        if not self._woken:
            self._woken = True
            self._notify(self._wake.set)

    def _notify(self, *callbacks: Any) -> None:
        try:
            for callback in callbacks:
                self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self.abandoned = True


def _body(request: Request, max_new_tokens: int) -> dict[str, Any]:
    sampling = request.sampling
    return {
        "prompt": list(request.prompt_token_ids),
        "n_predict": max_new_tokens,
        "stream": True,
        "temperature": sampling.temperature,
        "top_k": _TOP_K,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": sampling.repeat_last_n,
        "seed": request.seed % _SEEDS,
        "cache_prompt": True,
        "n_probs": 1,  # brings the id of each sampled token
        "timings_per_token": True,  # counts the tokens of characters that take several
        "return_progress": True,  # calls back while the prompt is read, so that a cancel takes effect
    }
