"""Write a tiny random llama-architecture GGUF: real enough for xllamacpp and transformers, small enough for unit tests.

Its words mean nothing; its byte-level vocabulary, control tokens, ChatML template and tensor shapes are a real model's.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from models.convert_tokenizer import META_FORMAT
from models.fetch import sha256_of

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>")
IM_START, IM_END = 1, 2
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "u s", "us er", "a n", "ä ½", "ä½ ł", "å ¥", "å¥ ½")

LAYERS, WIDTH, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 2, 64, 2, 1, 128, 8192


def byte_letters() -> dict[int, str]:
    """Return GPT-2's printable letter for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + index) for index, byte in enumerate(rest)}


def vocabulary() -> list[str]:
    """Return every token in id order: control tokens, bytes, merges."""
    return [*CONTROL_TOKENS, *byte_letters().values(), *(merge.replace(" ", "") for merge in MERGES)]


def write_tiny_gguf(
    path: Path, *, seed: int = 0, chat_template: str | None = CHATML, architecture: str = "llama"
) -> Path:
    """Write the model to `path` and return it; the same seed gives the same weights.

    `chat_template` None leaves the template out of the file.
    """
    tokens = vocabulary()
    control = len(CONTROL_TOKENS)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("Tiny random")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * control + [gguf.TokenType.NORMAL] * (len(tokens) - control))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(IM_START)
    writer.add_eos_token_id(IM_END)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(IM_END)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    head = WIDTH // HEADS
    weight("token_embd.weight", len(tokens), WIDTH)
    norm("output_norm.weight")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight")
        norm(f"{block}.ffn_norm.weight")
        weight(f"{block}.attn_q.weight", WIDTH, WIDTH)
        weight(f"{block}.attn_k.weight", KV_HEADS * head, WIDTH)
        weight(f"{block}.attn_v.weight", KV_HEADS * head, WIDTH)
        weight(f"{block}.attn_output.weight", WIDTH, WIDTH)
        weight(f"{block}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        weight(f"{block}.ffn_up.weight", FEED_FORWARD, WIDTH)
        weight(f"{block}.ffn_down.weight", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_lora(path: Path, *, seed: int, rank: int = 4, strength: float = 0.3, width: int = WIDTH) -> Path:
    """Write a random LoRA adapter of the tiny model, in the files and layers that PEFT's come to, and return it.

    It changes attention and feed-forward alike: what it leaves in the attention cache differs from the base's. With
    another `width` it is of no model here.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * rank)
    random = np.random.default_rng(seed)
    for layer in range(LAYERS):
        for name, inner, outer in (
            ("attn_q", width, width),
            ("attn_v", width, KV_HEADS * (width // HEADS)),
            ("ffn_down", FEED_FORWARD, width),
        ):
            for side, shape in (("a", (rank, inner)), ("b", (outer, rank))):
                tensor = (random.standard_normal(shape) * strength).astype(np.float32)
                writer.add_tensor(f"blk.{layer}.{name}.weight.lora_{side}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def cache_tiny_tokenizer(gguf_path: Path, cache_dir: Path, *, chat_template: str = CHATML) -> None:
    """Put the converted tokenizer of a tiny GGUF into `cache_dir`, so that a test needs no 20 seconds of transformers.

    A test of the tokenizer holds it to what the real conversion writes.
    """
    folder = cache_dir / "tokenizers" / sha256_of(gguf_path)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary_ids = {token: index for index, token in enumerate(vocabulary())}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in MERGES)]
    tokenizer = Tokenizer(BPE(vocab=vocabulary_ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(chat_template, "utf-8")
    meta = {
        "format": META_FORMAT,
        "bos_token": CONTROL_TOKENS[IM_START],
        "eos_token": CONTROL_TOKENS[IM_END],
        "control": {token: index for index, token in enumerate(CONTROL_TOKENS)},
        "end_ids": [IM_END, 0],
    }
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
