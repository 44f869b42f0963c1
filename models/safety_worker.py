"""A transformers text classifier as a process: `python -m models.safety_worker MODEL`, MODEL a folder or a repository.

Owns the model's labels read as our categories, by `category_of`. Reads JSON lines ({"texts": [...]}) and answers each
with one ({"scores": [{category: score}]}); the first line that it writes tells that it is ready, or why not. Weights
are read as safetensors alone, and no code that a model brings is run. Only this process imports torch.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from models.safety import Category

_LONGEST_TOKENS = 512
# Tried in this order on a label in small letters with spaces: "not_toxic" is harmless before it is offensive.
_RULES: tuple[tuple[re.Pattern[str], Category | None], ...] = (
    (re.compile(r"\b(?:non|not|no|nothate|nonhate|none|neither|neutral|normal|safe|clean|ok|okay|benign)\b"), None),
    (re.compile(r"\b(?:harmless|appropriate|acceptable|positive|nontoxic|nonoffensive|sfw)\b"), None),
    (re.compile(r"self ?harm|suicid"), Category.SELF_HARM),
    (re.compile(r"hate|racis|sexis|identity|homophob|misogyn|discriminat|derogat"), Category.HATE),
    (re.compile(r"threat|violen"), Category.THREAT),
    (re.compile(r"sexual|porn|nsfw|erotic"), Category.SEXUAL),
    (re.compile(r"toxi|offens|insult|obscen|profan|abus|harass|bully|vulgar"), Category.OFFENSIVE),
    (re.compile(r"unsafe|inappropriate|harmful"), Category.OFFENSIVE),
)  # fmt: skip
_UNNAMED = {0: "LABEL_0", 1: "LABEL_1"}


def category_of(label: str) -> Category | None:
    """Return the category that a model's label means, or None for what is harmless or unknown."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_/:.-]+", " ", label).lower()
    return next((category for pattern, category in _RULES if pattern.search(words)), None)


def categories_of(labels: Mapping[int, str]) -> dict[int, Category]:
    """Return each label's category by its place; the second of two unnamed labels is taken to be the offensive one.

    Raises ValueError where no label means a category.
    """
    if labels == _UNNAMED:
        return {1: Category.OFFENSIVE}
    found = {place: category for place, label in labels.items() if (category := category_of(label)) is not None}
    if not found:
        raise ValueError(f"none of its labels ({', '.join(labels.values())}) names what is unsafe")
    return found


def categories_in(config: Mapping[str, Any]) -> dict[int, Category]:
    """Return what `categories_of` does, of a model's config.json.

    Raises ValueError for what is no text classifier: transformers would give it a head of random weights.
    """
    architectures = [str(name) for name in config.get("architectures") or ()]
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise ValueError(f"it is no text classifier ({', '.join(architectures) or 'it names no architecture'})")
    labels = config.get("id2label") or _UNNAMED  # left out where nobody named them
    return categories_of({int(place): str(label) for place, label in labels.items()})


class _Worker:
    def __init__(self, model: str) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(1)
        self._torch = torch
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        self.categories = categories_in({"architectures": config.architectures, "id2label": config.id2label})
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            model, use_safetensors=True, trust_remote_code=False
        ).eval()
        # Labels that can be true together are said to be; where only unsafe ones are named, they can be as well.
        self._together = config.problem_type == "multi_label_classification" or len(self.categories) == len(
            config.id2label
        )
        room = getattr(config, "max_position_embeddings", _LONGEST_TOKENS)
        # RoBERTa's positions begin after the padding's.
        self._longest = min(_LONGEST_TOKENS, room - 2)

    def scores(self, texts: Sequence[str]) -> list[dict[Category, float]]:
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with self._torch.inference_mode():
            logits = self._model(**batch).logits.float()
        shares = (logits.sigmoid() if self._together else logits.softmax(-1)).tolist()
        return [self._by_category(row) for row in shares]

    def _by_category(self, row: Sequence[float]) -> dict[Category, float]:
        found: dict[Category, float] = {}
        for place, category in self.categories.items():
            others = found.get(category, 0.0)
            found[category] = max(others, row[place]) if self._together else min(others + row[place], 1.0)
        return {category: round(score, 4) for category, score in found.items()}


def main(model: str) -> int:
    """Answer every line until the input ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(said: Mapping[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    try:
        worker = _Worker(model)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        answer({"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:300]})
        return 1
    answer({"ready": sorted(set(worker.categories.values()))})
    for line in sys.stdin:
        answer({"scores": worker.scores(json.loads(line)["texts"])})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
