"""Human preference pairs as a night sees them: HH's two replies to one prompt, as the ids that the bot would store.

Owns reading, chat-templating and the split by prompt; nothing here rates or trains.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.types import Role, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from models.prompt import PromptBuilder
    from models.tokenizer import ModelTokenizer

HELPFUL = "hh-helpful-base-test.jsonl.gz"
_TURN = re.compile(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): |\Z)", re.DOTALL)
_ROLES = {"Human": Role.USER, "Assistant": Role.ASSISTANT}


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt and two completions, all as token ids; `chosen` is the one that a person preferred."""

    key: str  # a hash of the prompt: what the split goes by
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def read_pairs(
    data: Path, tokenizer: ModelTokenizer, prompts: PromptBuilder, *, most_tokens: int, name: str = HELPFUL
) -> list[Pair]:
    """Return the pairs of which prompt and either reply take at most `most_tokens`, one a prompt, in the order of keys.

    The order is that of a hash, and so has nothing to do with the file's. Raises FileNotFoundError.
    """
    found: dict[str, Pair] = {}
    with gzip.open(data / name, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            chosen, rejected = turns(row["chosen"]), turns(row["rejected"])
            asked = chosen[:-1]
            if not asked or asked != rejected[:-1] or asked[-1].role is not Role.USER:
                continue
            replies = [tuple(tokenizer.encode_text(side[-1].content)) for side in (chosen, rejected)]
            prompt = prompts.build("", asked, budget=10**6, refit=10**6).token_ids
            if replies[0] == replies[1] or len(prompt) + max(map(len, replies)) > most_tokens or not all(replies):
                continue
            key = hashlib.sha256(repr(prompt).encode()).hexdigest()[:16]
            found.setdefault(key, Pair(key, prompt, *replies))
    return [found[key] for key in sorted(found)]


def turns(dialogue: str) -> list[Turn]:
    """Take HH's text apart into its turns."""
    return [Turn(_ROLES[who], said.strip()) for who, said in _TURN.findall(dialogue)]
