"""A PEFT adapter on the tiny GGUF, in torch and as llama.cpp serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.engines.llama_server import open_server
from models.fetch import sha256_of
from models.learning.torch_model import fresh_adapter, load_base


def strong_adapter(base: Any, *, seed: int, strength: float = 0.3) -> Any:
    """Return `base` with an adapter that changes what it says."""
    model = fresh_adapter(base, rank=4, alpha=8, seed=seed)
    with torch.no_grad():
        chance = torch.Generator().manual_seed(seed)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=chance) * strength)
    return model


def tiny_base(gguf: Path) -> Any:
    return load_base(gguf, sha256_of(gguf), gguf.parent)


def torch_logprobs(model: Any, ids: tuple[int, ...]) -> Any:
    """Return log p of every next token."""
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].float(), -1)


def served_logprobs(base: Path, adapter: Path | None, ids: tuple[int, ...], *, tokens: int) -> dict[int, float]:
    """Return log p of the likeliest next tokens as llama.cpp has them."""
    adapters = (adapter,) if adapter else ()
    server, _ = open_server(
        base, context_tokens=256, slots=1, threads=1, kv_cache="f16", prompt_cache_mib=0, adapters=adapters
    )
    told: list[dict[str, Any]] = []
    body = {
        "prompt": list(ids),
        "n_predict": 1,
        "stream": True,
        "n_probs": tokens,
        "temperature": 0.0,
        "lora": [{"id": 0, "scale": 1.0}] if adapter else [],
    }
    server.handle_completions(body, lambda chunk: bool(told.append(chunk)))
    (content,) = [
        choice["logprobs"]["content"][0] for chunk in told if (choice := chunk["choices"][0]) and choice["logprobs"]
    ]
    return {top["id"]: top["logprob"] for top in content["top_logprobs"]}
