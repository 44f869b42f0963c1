"""models/memory: what the attention cache takes, and how much memory there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import memory
from models.engines.llama_cpp import LlamaCppEngine
from models.errors import ModelUnavailable
from models.gguf_header import GgufHeader, read_header
from models.memory import attention_cache_bytes, available_bytes
from models.spec import resolve
from tests.models.tiny_gguf import HEADS, KV_HEADS, LAYERS, WIDTH, write_tiny_gguf


@pytest.mark.parametrize(("kv_cache", "element_bytes"), [("f16", 2.0), ("q8_0", 1.0625)])
def test_cache_is_a_key_and_a_value_a_token_layer_and_head(tmp_path: Path, kv_cache: str, element_bytes: float) -> None:
    header = read_header(write_tiny_gguf(tmp_path / "tiny.gguf"))
    expected = 1000 * LAYERS * KV_HEADS * 2 * (WIDTH // HEADS) * element_bytes
    assert attention_cache_bytes(header, 1000, kv_cache) == expected


def test_lengths_of_keys_and_values_that_the_header_names_count() -> None:
    sizes = {"block_count": 2, "attention.head_count": 4, "embedding_length": 64}
    named = {"attention.head_count_kv": 1, "attention.key_length": 128, "attention.value_length": 32}
    metadata = {"general.architecture": "a", **{f"a.{key}": value for key, value in (sizes | named).items()}}
    assert attention_cache_bytes(GgufHeader(metadata, 0, ()), 10, "f16") == 10 * 2 * (128 + 32) * 2


@pytest.mark.parametrize(
    "odd", [{"a.block_count": 0}, {"a.attention.sliding_window": 512}, {"a.attention.head_count": [4, 2]}]
)
def test_cache_of_a_model_that_is_laid_out_otherwise_is_not_guessed(odd: dict[str, object]) -> None:
    metadata = {"general.architecture": "a", "a.block_count": 2, "a.attention.head_count": 4, "a.embedding_length": 64}
    assert attention_cache_bytes(GgufHeader(metadata | odd, 0, ()), 10, "f16") is None


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


_MEMINFO = "MemTotal:  8000 kB\nMemAvailable:    4000 kB\nSwapFree:   1000 kB\n"


def test_memory_and_swap_that_are_free_count_and_a_containers_limit_holds(tmp_path: Path) -> None:
    assert available_bytes(_machine(tmp_path, {"proc/meminfo": _MEMINFO})) == 5000 * 1024
    _machine(tmp_path, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"})
    assert available_bytes(tmp_path) == 5000 * 1024
    _machine(tmp_path, {"sys/fs/cgroup/a/memory.max": "2048000\n"})
    assert available_bytes(tmp_path) == 2048000
    _machine(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1024000\n"})
    assert available_bytes(tmp_path) == 1024000


def test_machine_that_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None


def test_this_machine_tells() -> None:
    assert (available_bytes() or 0) > 2**26


async def test_cache_that_cannot_fit_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    spec = resolve(str(path), tmp_path)
    needed = attention_cache_bytes(read_header(path), 2 * 512, "f16")
    assert needed
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(ModelUnavailable, match="1,024 tokens .* GB are free; lower CONTEXT_TOKENS"):
        await LlamaCppEngine.open(spec, context_tokens=512, slots=2, threads=1, kv_cache="f16")
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    await (await LlamaCppEngine.open(spec, context_tokens=512, slots=2, threads=1, kv_cache="f16")).aclose()
