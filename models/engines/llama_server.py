"""Set up llama.cpp's server inside this process: memory, batches, threads, and no way in from outside."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import AdapterRefused, ModelUnavailable
from models.memory import require_room

# Prompts are read in steps of so many tokens a thread (a tenth of a second on a small model): a cancel takes effect,
# and the other streams get their next token, between two steps.
_PROMPT_STEP_PER_THREAD = 16
_PROMPT_STEP_LIMIT = 512
_SOCKET_PATH_LIMIT = 100  # bytes; systems allow 104 to 108


def bindings() -> Any:
    """Return the module xllamacpp, or raise ModelUnavailable where this machine lacks what it is linked to."""
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelUnavailable(
            f"llama.cpp can't be started ({error}); "
            "install the OpenMP runtime (Debian, Ubuntu: `apt install libgomp1`)."
        ) from None
    return xllamacpp


def open_server(
    path: Path | None,
    *,
    context_tokens: int,
    slots: int,
    threads: int,
    kv_cache: str,
    prompt_cache_mib: int,
    adapters: Sequence[Path] = (),
) -> tuple[Any, int]:
    """Load the weights; return the server and how many tokens each slot really holds. Blocks.

    A request's `lora` names adapters by their place in `adapters`. Raises ModelUnavailable and AdapterRefused.
    """
    if path is None or not path.is_file():
        raise ModelUnavailable(f"There is no model file {path}; set MODEL to a GGUF file or to `embedded`.")
    require_room(path, context_tokens * slots, kv_cache)
    xllamacpp = bindings()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens * slots
    params.n_parallel = slots
    # Each step takes the next token of every stream first: prompts get what is left.
    params.n_batch = params.n_ubatch = slots + min(threads * _PROMPT_STEP_PER_THREAD, _PROMPT_STEP_LIMIT)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # A slot forgets its prompt when another adapter takes it, but llama.cpp's cache of prompts in memory gives what one
    # adapter read to another (its issue 26207): there is none beside adapters, and only the slots remember.
    params.cache_ram_mib = 0 if adapters else prompt_cache_mib
    params.lora_adapters = [_lora(xllamacpp, adapter) for adapter in adapters]
    if kv_cache == "q8_0":
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.fit_params = params.warmup = False
    params.verbosity = -1
    params.ui = params.use_jinja = params.endpoint_slots = False
    params.n_threads_http = 1
    params.api_keys = [secrets.token_urlsafe(32)]
    folder = Path(tempfile.mkdtemp(prefix="encore-"))
    try:
        # The server insists on listening: a socket file whose folder is then removed can be reached by nobody. Where
        # there are no such sockets it listens on a random port of 127.0.0.1 and refuses all without the key.
        address = str(folder / "s.sock")
        if os.name != "nt" and hasattr(socket, "AF_UNIX") and len(os.fsencode(address)) < _SOCKET_PATH_LIMIT:
            params.hostnames = [address]
        server = xllamacpp.Server(params)
    except RuntimeError:
        if adapters:
            names = ", ".join(adapter.parent.name for adapter in adapters)
            raise AdapterRefused(
                f"llama.cpp can't load {path.name} with the adapters {names}: one of them is damaged or of another "
                "model, or memory is short; serve another one, or none."
            ) from None
        raise ModelUnavailable(
            f"The model file {path} can't be loaded: it is damaged, of a kind that llama.cpp doesn't know, or memory "
            "is short; fetch it again, lower CONTEXT_TOKENS or PARALLEL_STREAMS, or choose another MODEL."
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # A server that is freed before its loop runs hangs: none leaves here without having answered once.
    answers = _ask(server, [0])
    if not answers or any("error" in answer for answer in answers):
        raise ModelUnavailable(f"The model file {path} loads but can't generate; choose another MODEL.")
    # Too long a prompt is refused at once, with the size of the context.
    refused = _ask(server, [0] * (context_tokens + 1024))
    return server, int(refused[0].get("error", {}).get("n_ctx", context_tokens))


def _lora(xllamacpp: Any, adapter: Path) -> Any:
    lora = xllamacpp.CommonAdapterLoraInfo()
    lora.path, lora.scale = str(adapter), 1.0
    return lora


def _ask(server: Any, prompt: list[int]) -> list[dict[str, Any]]:
    """Generate one token; return what the server tells."""
    told: list[dict[str, Any]] = []

    def keep(chunk: dict[str, Any]) -> bool:
        told.append(chunk)
        return False

    body = {"prompt": prompt, "n_predict": 1, "stream": True, "cache_prompt": False}
    server.handle_completions(body, keep)
    return told
