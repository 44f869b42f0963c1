"""How much memory a model's attention cache takes, told from the file's header, and how much there is.

An estimate before anything is loaded: llama.cpp takes the whole cache at the start, and a system that promised more
than it has ends the process without a word.
"""

from __future__ import annotations

import contextlib
import os
import re
from fractions import Fraction
from pathlib import Path

from models.engines.cores import control_groups
from models.errors import ModelUnavailable
from models.gguf_header import DamagedGguf, GgufHeader, NotGguf, read_header

_ROOT = Path("/")
_ELEMENT_BYTES = {"q8_0": Fraction(34, 32), "f16": Fraction(2)}  # q8_0: blocks of 32 with a scale of two bytes
# Windows, latents and recurrent layers keep less than a key and a value for each token.
_SPARING = ("attention.sliding_window", "attention.kv_lora_rank", "ssm.state_size")


def attention_cache_bytes(header: GgufHeader, tokens: int, kv_cache: str) -> int | None:
    """Return the bytes of keys and values for `tokens` tokens of all streams; None where the header doesn't tell."""

    def number(key: str) -> int | None:
        value = header.metadata.get(f"{header.architecture}.{key}")
        return value if isinstance(value, int) and value > 0 else None

    if any(f"{header.architecture}.{key}" in header.metadata for key in _SPARING):
        return None
    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    if layers is None or heads is None or width is None:
        return None
    kv_heads = number("attention.head_count_kv") or heads
    lengths = sum(number(f"attention.{part}_length") or width // heads for part in ("key", "value"))
    return int(layers * kv_heads * lengths * tokens * _ELEMENT_BYTES[kv_cache])


def require_room(path: Path, tokens: int, kv_cache: str) -> None:
    """Raise ModelUnavailable where the attention cache plainly can't fit: the system would end the process."""
    try:
        needed, free = attention_cache_bytes(read_header(path), tokens, kv_cache), available_bytes()
    except (NotGguf, DamagedGguf, OSError):  # llama.cpp says so
        return
    if needed is not None and free is not None and needed > free:
        smaller = ", or set KV_CACHE=q8_0" if kv_cache == "f16" else ""
        raise ModelUnavailable(
            f"The attention cache for {tokens:,} tokens ({kv_cache}) takes {needed / 10**9:,.1f} GB of memory, and "
            f"{free / 10**9:,.1f} GB are free; lower CONTEXT_TOKENS or PARALLEL_STREAMS{smaller}."
        )


def available_bytes(root: Path = _ROOT) -> int | None:
    """Return the memory that a process may still take, swap included; None where the system doesn't tell.

    `root` is where /proc and /sys are found.
    """
    free: list[int] = []
    with contextlib.suppress(OSError):
        told = dict(re.findall(r"^(\w+): +(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE))
        if "MemAvailable" in told:
            free.append(1024 * (int(told["MemAvailable"]) + int(told.get("SwapFree", 0))))
    if not free and root == _ROOT and hasattr(os, "sysconf"):  # macOS tells what it has, not what is free
        with contextlib.suppress(OSError, ValueError):
            free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in control_groups(root):
        with contextlib.suppress(OSError, ValueError):
            free.append(int((folder / "memory.max").read_text()))  # `max` is no number: no limit
    with contextlib.suppress(OSError, ValueError):
        free.append(int((root / "sys/fs/cgroup/memory/memory.limit_in_bytes").read_text()))
    return min(free, default=None)
