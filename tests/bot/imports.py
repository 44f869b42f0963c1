"""Files that tests import: their lines, and what the store makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.collect import collect
from bot.importer import Imported, read_import
from bot.store import Store
from models.engines.echo import echo_tokenizer
from models.learning.snapshot import Snapshot
from models.prompt import PROMPT_VERSION, PromptBuilder

TOKENIZER = echo_tokenizer()
PROMPTS = PromptBuilder(TOKENIZER)
GOOD = {"prompt": "How are you?", "completion": " Fine!", "label": True}
BAD = {"prompt": "How are you?", "completion": "Go away.", "label": False}
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How do I hold a cup?\n\nAssistant:"
PAIR = {"prompt": "Tea?", "chosen": "Yes please.", "rejected": "No."}


def write(folder: Path, *lines: Any, name: str = "ratings.jsonl") -> Path:
    path = folder / name
    told = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(told) + "\n", "utf-8")
    return path


def read(path: Path, *, skip_bad: bool = False, system: str = "Be kind.") -> Imported:
    return read_import(path, TOKENIZER, PROMPTS, system=system, context_tokens=2048, skip_bad=skip_bad)


async def added(store: Store, imported: Imported, *, prompt_version: int = PROMPT_VERSION) -> Snapshot:
    assert await store.add_import(imported, model="m", model_sha256="sha", prompt_version=prompt_version)
    return (await collect(store, model_sha256="sha", prompt_version=prompt_version, now=2e9)).snapshot


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
