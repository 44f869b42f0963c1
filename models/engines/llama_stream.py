"""One generation in llama.cpp: a thread runs it, the event loop reads its pieces.

Knows one server, and not that another may take its place (models/engines/llama_cpp does).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.engines.pieces import UNKNOWN_LOGPROB, merged
from models.engines.slots import Slots
from models.errors import EngineFailed
from models.types import Finish, FinishReason, Piece, Request

if TYPE_CHECKING:
    from models.tokenizer import ModelTokenizer

_SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and the highest value means "a random seed"
_TOP_K = 40  # llama.cpp's own default: sorting the whole vocabulary for each token would cost more than it brings


@dataclass(eq=False, slots=True)
class Server:
    """One of llama.cpp's servers, the adapters it loaded, in order, and the streams that it generates."""

    handle: Any  # None once it is freed
    adapters: tuple[str, ...]
    context_tokens: int
    slots: Slots

    def lora(self, adapter: str | None, scale: float) -> list[dict[str, Any]]:
        """Return the scale for every adapter: one that a request doesn't mention would be applied in full."""
        return [{"id": index, "scale": scale if name == adapter else 0.0} for index, name in enumerate(self.adapters)]

    def slot(self, request: Request, ended: asyncio.Event) -> int:
        """Return the slot that a request shall use until `ended`, -1 for llama.cpp to choose."""
        if not self.adapters:
            return -1
        return self.slots.take((request.adapter, request.adapter_scale), request.prompt_token_ids, ended)


class Run:
    """One generation: its thread writes, the event loop reads.

    Not a thread pool: at interpreter exit a pool waits for its threads while nothing tells them to stop. A thread of
    its own sees that the main thread is gone and stops at the next token.
    """

    def __init__(
        self,
        request: Request,
        cancel: asyncio.Event,
        server: Server,
        *,
        max_new_tokens: int,
        tokenizer: ModelTokenizer | None,
    ) -> None:
        self.server = server
        self.ended = asyncio.Event()
        self.abandoned = False
        self.thread = threading.Thread(
            target=self._generate, args=(server.handle, self._body(request, max_new_tokens)), name="encore-stream"
        )
        self._prompt_tokens = len(request.prompt_token_ids)
        self._cancel = cancel
        self._tokenizer = tokenizer
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[Piece] = deque()
        self._wake = asyncio.Event()
        self._woken = False
        self._failure: str | None = None
        self._finished = False
        self._cached_tokens = 0
        self._timings: dict[str, Any] = {}
        self._main_thread = threading.main_thread()

    def _body(self, request: Request, max_new_tokens: int) -> dict[str, Any]:
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
            "lora": self.server.lora(request.adapter, request.adapter_scale),
            "id_slot": self.server.slot(request, self.ended),
            "cache_prompt": True,
            "n_probs": 1,  # brings the id of each sampled token
            "timings_per_token": True,  # counts the tokens of characters that take several
            "return_progress": True,  # calls back while the prompt is read, so that a cancel takes effect
        }

    async def next(self) -> Piece:
        """Return everything that has arrived since the last call as one piece."""
        while not self._pieces:
            if self._failure is not None:
                raise EngineFailed(f"The model failed while it answered ({self._failure}); ask again.")
            await self._wake.wait()
            self._wake.clear()
            self._woken = False  # before looking: what arrives from here on wakes again
        return merged([self._pieces.popleft() for _ in range(len(self._pieces))])

    def _generate(self, handle: Any, body: dict[str, Any]) -> None:
        """Run the generation to its end; the thread's own code, like everything below."""
        try:
            handle.handle_completions(body, self._on_chunk)
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
            count = self._timings["predicted_n"] - counted
            self._put(self._piece(choice["text"], choice["logprobs"]["content"][-1], count))
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
        self._put(Piece("", finish=finish))

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
