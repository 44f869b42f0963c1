"""Convert a GGUF file's tokenizer: `python -m models.convert_tokenizer GGUF OUTDIR`, the only place with transformers.

Writes tokenizer.json (plain text only: no control token, no BOS, no prefix space), chat_template.jinja and, last,
meta.json with the control tokens. Runs in a subprocess of its own so that serving never imports torch.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from models.gguf_header import read_header

META_FORMAT = 1
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
# Some files mark their control tokens as ordinary ones; what looks like `<|this|>` is never a member's word.
_LOOKS_LIKE_CONTROL = re.compile(r"<\|[^|<>]*\|>|<｜[^｜<>]*｜>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
_ENDS = {
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<|return|>", "</s>", "<｜end▁of▁sentence｜>",
}  # fmt: skip
# llama.cpp splits these vocabularies' digits one by one, as they were trained; transformers' conversion does not.
_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def control_tokens(metadata: dict[str, Any]) -> dict[str, int]:
    """Return every token that text must never turn into, by its spelling.

    Those are the tokens that the file types as control, unknown or unused, the user-defined ones that are more than
    spaces (`<think>`), the ones with a special role, and those that look like one of these.
    """
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    roles = {metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos", "eot", "eom", "padding")}
    found = {}
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        spaces = not token.strip(" ▁\n\t\r")
        if (
            kind in (_UNKNOWN, _CONTROL, _UNUSED)
            or (kind == _USER_DEFINED and not spaces)
            or index in roles
            or _LOOKS_LIKE_CONTROL.fullmatch(token)
        ):
            found[token] = index
    return found


def plain_tokenizer(tokenizer: dict[str, Any], control: dict[str, int], pre: str | None) -> dict[str, Any]:
    """Return a tokenizer.json without control tokens, BOS, prefix space, truncation or padding."""
    ids = set(control.values())
    tokenizer = {**tokenizer, "post_processor": None, "truncation": None, "padding": None}
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] not in ids]
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        tokenizer[part] = _without_prefix_space(tokenizer[part])
    if pre in _SINGLE_DIGITS:
        digits = {"type": "Digits", "individual_digits": True}
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tokenizer["pre_tokenizer"]]}
    return tokenizer


def _without_prefix_space(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a normalizer, pre-tokenizer or decoder that neither adds a leading space nor takes one away."""
    if part is None or part["type"] == "Prepend" or (part["type"] == "Strip" and part.get("content") == " "):
        return None
    if part["type"] == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return {**part, "add_prefix_space": False}
    for members in ("normalizers", "pretokenizers", "decoders"):
        if members in part:
            kept = [_without_prefix_space(member) for member in part[members]]
            return {**part, members: [member for member in kept if member is not None]}
    return part


def convert(gguf: Path, folder: Path) -> None:
    """Write the three files into the existing `folder`."""
    metadata = read_header(gguf, arrays={"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}).metadata
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise SystemExit("the file has no chat template")
    if "tokenizer.ggml.tokens" not in metadata:
        raise SystemExit("the file has no vocabulary")
    from transformers import AutoTokenizer  # seconds of import, so only once the file looks usable

    control = control_tokens(metadata)
    spelling = {index: token for token, index in control.items()}
    backend = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).backend_tokenizer
    plain = plain_tokenizer(json.loads(backend.to_str()), control, metadata.get("tokenizer.ggml.pre"))
    ends = [metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot", "eom")]
    ends += [index for token, index in control.items() if token in _ENDS]
    meta = {
        "format": META_FORMAT,
        "bos_token": spelling.get(metadata.get("tokenizer.ggml.bos_token_id", -1), ""),
        "eos_token": spelling.get(metadata.get("tokenizer.ggml.eos_token_id", -1), ""),
        "control": control,
        "end_ids": list(dict.fromkeys(index for index in ends if index is not None)),
    }
    (folder / "tokenizer.json").write_text(json.dumps(plain, ensure_ascii=False), "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    (folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
