"""From PEFT's adapter to the GGUF that llama.cpp loads: the same numbers under other names.

Owns names, the order of rows and the scale; whether both then say the same is parity.py's. Names come from gguf's own
tensor map. llama.cpp rotates pairs of neighbours where transformers rotates halves: for the llama architecture the rows
of q and k are reordered as they were in the base (`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.errors import ModelError
from models.gguf_header import DamagedGguf, NotGguf, read_header
from models.learning.files import sync_file, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.gguf_header import GgufHeader

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_PERMUTED = "llama"  # the architecture whose q and k llama.cpp keeps in another order
# What would change the numbers and has no place in the GGUF.
_PLAIN = {"use_rslora": False, "use_dora": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}}


class NotConvertible(ModelError):
    """The adapter or its base is of a kind that llama.cpp can't serve."""


def peft_to_gguf(adapter_folder: Path, base_gguf: Path, out: Path) -> None:
    """Write PEFT's adapter in `adapter_folder` as the GGUF `out`, durably and all or nothing; blocks.

    Raises NotConvertible and OSError.
    """
    try:
        config = json.loads((adapter_folder / _CONFIG).read_text("utf-8"))
        tensors = load_file(str(adapter_folder / _WEIGHTS))
        header = read_header(base_gguf)
    except (ValueError, SafetensorError, NotGguf, DamagedGguf) as error:
        raise NotConvertible(f"{adapter_folder.name} can't be converted ({error}); train it again.") from error
    _require_plain(adapter_folder.name, config)
    converted = _converted(adapter_folder.name, tensors, header)
    partial = out.with_name(f"{out.name}.partial")
    try:
        writer = gguf.GGUFWriter(str(partial), header.architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
        for name in sorted(converted):
            writer.add_tensor(name, converted[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        sync_file(partial)
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(out.parent)


def _require_plain(name: str, config: dict[str, Any]) -> None:
    for key, plain in _PLAIN.items():
        if config.get(key, plain) not in (plain, None):
            raise NotConvertible(f"{name} has {key}={config[key]}, which llama.cpp doesn't know; train a plain LoRA.")
    if config.get("peft_type") != "LORA":
        raise NotConvertible(f"{name} is no LoRA; train a plain LoRA.")


def _converted(name: str, tensors: dict[str, NDArray[Any]], header: GgufHeader) -> dict[str, NDArray[np.float32]]:
    architecture = header.architecture
    known = {text: kind for kind, text in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        raise NotConvertible(f"The architecture {architecture!r} of the model has no adapters here; set another MODEL.")
    names = gguf.get_tensor_name_map(known[architecture], int(header.metadata[f"{architecture}.block_count"]))
    converted = {}
    for peft_name, tensor in tensors.items():
        found = _TENSOR.fullmatch(peft_name)
        served = found and names.get_name(found["layer"])
        if not found or not served:
            raise NotConvertible(f"{name} adapts {peft_name}, which llama.cpp has no name for; train it again.")
        if not np.isfinite(tensor).all():
            raise NotConvertible(f"{name} has numbers in {peft_name} that aren't finite; train it again.")
        if found["side"] == "B" and architecture == _PERMUTED:
            tensor = _permuted(tensor, served, header.metadata)
        converted[f"{served}.weight.lora_{found['side'].lower()}"] = np.ascontiguousarray(tensor, dtype=np.float32)
    sides = {served.rpartition(".lora_")[0] for served in converted}
    if not converted or 2 * len(sides) != len(converted):
        raise NotConvertible(f"{name} doesn't have both halves of every layer; train it again.")
    return converted


def _permuted(tensor: NDArray[Any], served: str, metadata: dict[str, Any]) -> NDArray[Any]:
    """Return B (out, rank) with the rows of each head as llama.cpp rotates them."""
    heads = int(metadata["llama.attention.head_count"])
    if served.endswith("attn_k"):
        heads = int(metadata.get("llama.attention.head_count_kv", heads))
    elif not served.endswith("attn_q"):
        return tensor
    rows = tensor.shape[0]
    return tensor.reshape(heads, 2, rows // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
