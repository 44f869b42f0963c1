"""Whether an adapter's GGUF holds, layer by layer, the very numbers that torch trained, in the order of its base's.

Owns this one exact comparison of files. It shares nothing with convert.py but names: how llama.cpp orders the rows of a
layer is told by the base itself, whose rows torch has too. What the numbers then do is parity.py's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf.quants import dequantize
from peft.tuners.lora import LoraLayer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from peft import PeftModel


def other_layers(base_gguf: Path, adapter_gguf: Path, model: PeftModel) -> list[str]:
    """Return llama.cpp's names of the layers that are missing in the file or have other numbers than torch's.

    A layer whose base weights torch has changed, so that rows can't be told, isn't judged.
    """
    base, adapter = _open(base_gguf), gguf.GGUFReader(adapter_gguf)
    weights = {tensor.name: tensor for tensor in base.tensors}
    found = {tensor.name: np.asarray(tensor.data) for tensor in adapter.tensors}
    alpha = float(adapter.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    names = _names(base)
    other = []
    for path, layer in model.get_base_model().named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        served = f"{names.get_name(path)}.weight"
        a, b = (side[model.active_adapter].weight.numpy(force=True) for side in (layer.lora_A, layer.lora_B))
        scale = layer.scaling[model.active_adapter]
        its_a, its_b = (found.get(f"{served}.lora_{side}") for side in "ab")
        if its_a is None or its_b is None or served not in weights:
            other.append(served)
            continue
        rows, its_rows = layer.base_layer.weight.numpy(force=True), _dequantized(weights[served])
        if _kinds(rows) != _kinds(its_rows):
            continue
        same = np.array_equal(a, its_a) and np.isclose(scale * len(a), alpha)
        if not same or _kinds(rows, b) != _kinds(its_rows, its_b):
            other.append(served)
    return other


@lru_cache(maxsize=1)
def _open(path: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)  # seconds, for the vocabulary's sake: once a night


def _names(base: gguf.GGUFReader) -> gguf.TensorNameMap:
    architecture = base.fields[gguf.Keys.General.ARCHITECTURE].contents()
    known = {text: kind for kind, text in gguf.MODEL_ARCH_NAMES.items()}
    blocks = base.fields[f"{architecture}.block_count"].contents()
    return gguf.get_tensor_name_map(known[architecture], int(blocks))


def _dequantized(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def _kinds(*sides: NDArray[np.float32]) -> list[int]:
    """Return what identifies each row, of all `sides` together, whatever the order of the rows."""
    return sorted(hash(b"".join(row.tobytes() for row in rows)) for rows in zip(*sides, strict=True))
