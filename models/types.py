"""The words that models shares with its callers: turns, sampling, requests, pieces, the Engine protocol.

Holds no behaviour beyond what a value can say of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation as the chat template sees it; `content` is untrusted text."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; kept per server.

    `repeat_penalty` divides the logits of the last `repeat_last_n` tokens (1.0 = off); `min_p` keeps tokens at least
    that fraction as likely as the likeliest.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    repeat_last_n: int = 256
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. `lane` is what the queue is fair between (a channel); `seed` fixes the draw.

    `adapter` None is the base; `adapter_scale` multiplies what an adapter adds (1.0: as it was trained).
    """

    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    lane: str = ""
    adapter: str | None = None
    adapter_scale: float = 1.0


class FinishReason(StrEnum):
    END = "end"  # the model ended its turn
    LENGTH = "length"  # max_new_tokens or the context ran out
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Finish:
    """How a stream ended. Milliseconds are the engine's own; `cached_tokens` came from the prefix cache."""

    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prompt_milliseconds: float
    completion_milliseconds: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text, always whole characters. The last piece of a stream, and only it, carries `finish`."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What serves: `reason` says why it was chosen, `model_sha256` names the exact weights."""

    engine: str
    model: str
    model_sha256: str
    quantization: str
    device: str
    context_tokens: int  # per stream
    slots: int  # streams at once
    reason: str
    languages: str  # "English only", "as the model was trained", ...


class Engine(Protocol):
    """Turns token ids into a stream of pieces; knows nothing of queues, turns or members."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that a request may name."""
        ...

    async def swap(self, adapters: Mapping[str, Path]) -> None:
        """Load these adapters in the place of those that are loaded; returns when new streams can use them.

        Streams that run are neither ended nor changed. Raises ModelError, and all stays as it was.
        """
        ...

    def stream(self, request: Request, *, cancel: asyncio.Event) -> AsyncIterator[Piece]:
        """Generate until the end of the turn, `max_new_tokens` or `cancel`.

        A cancelled stream still ends with a piece whose finish reason is CANCELLED. Raises EngineFailed.
        """
        ...

    async def aclose(self) -> None: ...
