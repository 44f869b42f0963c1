"""A transformers text classifier as a process: `python -m models.safety_worker MODEL`, MODEL a folder or a repository.

Reads JSON lines ({"texts": [...]}) and answers each with one ({"scores": [{category: score}]}); the first line that it
writes tells that it is ready, or why not. Weights are read as safetensors alone, and no code of a model's own is run.
Only this process imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from models.safety import Category
from models.safety_spec import categories_in

_LONGEST_TOKENS = 512


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
