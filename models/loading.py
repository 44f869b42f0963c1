"""From the MODEL setting to everything that answers: tokenizer, prompts, engine and scheduler, opened as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.engines.echo import EchoEngine
from models.engines.llama_cpp import LlamaCppEngine
from models.prompt import PromptBuilder
from models.scheduler import Scheduler
from models.spec import ModelSpec, resolve
from models.tokenizer import ModelTokenizer, prepare
from models.types import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to answer."""

    spec: ModelSpec
    engine: Engine
    scheduler: Scheduler
    prompts: PromptBuilder
    tokenizer: ModelTokenizer

    async def aclose(self) -> None:
        """Cancel what waits and runs, then free the weights."""
        await self.scheduler.aclose()
        await self.engine.aclose()


async def load_model(
    model: str,
    *,
    cache_dir: Path,
    context_tokens: int,
    slots: int,
    queue_limit: int,
    threads: int = 0,
    kv_cache: str = "q8_0",
    prompt_cache_mib: int = 64,
    adapters: Mapping[str, Path] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> LoadedModel:
    """Fetch the model if need be and load it; nothing blocks the event loop. `progress` is called from threads.

    `adapters` are the files of those that requests will name. Raises ModelUnavailable and AdapterRefused.
    """
    spec = await asyncio.to_thread(resolve, model, cache_dir, progress=progress)
    engine: Engine
    if spec.path is None:
        tokenizer = await asyncio.to_thread(prepare, spec, cache_dir)
        engine = EchoEngine(tokenizer, slots=slots, context_tokens=context_tokens, adapters=adapters)
        prompts = PromptBuilder(tokenizer)
    else:
        opening = asyncio.create_task(
            LlamaCppEngine.open(
                spec,
                context_tokens=context_tokens,
                slots=slots,
                threads=threads,
                kv_cache=kv_cache,
                prompt_cache_mib=prompt_cache_mib,
                adapters=adapters,
            )
        )
        try:
            tokenizer = await asyncio.to_thread(prepare, spec, cache_dir, progress=progress)
            prompts = await asyncio.to_thread(PromptBuilder, tokenizer)
        except BaseException:
            # The weights load in a thread that can't be stopped: wait, or they would outlive this failure.
            opened = (await asyncio.gather(opening, return_exceptions=True))[0]
            if isinstance(opened, LlamaCppEngine):
                await opened.aclose()
            raise
        llama = await opening
        llama.use_tokenizer(tokenizer)
        engine = llama
    info = engine.info
    log.info(
        "model %s (%s) on %s, %d streams of %d tokens: %s",
        info.model, info.quantization, info.device, info.slots, info.context_tokens, info.reason,
    )  # fmt: skip
    return LoadedModel(spec, engine, Scheduler(engine, queue_limit=queue_limit), prompts, tokenizer)
