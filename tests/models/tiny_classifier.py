"""A real transformers text classifier of 4,000 weights, made without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "you", "are", "kind", "bad", "你", "坏"]


def write_tiny_classifier(
    folder: Path,
    labels: Sequence[str],
    *,
    safe: bool = True,
    problem: str | None = None,
    taught: Mapping[str, str] | None = None,
) -> str:
    """Write a random BERT with its vocabulary and return its folder.

    `safe` is whether as safetensors; `taught` has texts with the labels that it learns to give them.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(_WORDS), "utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(_WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label=dict(enumerate(labels)), problem_type=problem,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    if taught:
        batch = tokenizer(list(taught), padding=True, return_tensors="pt")
        wanted = torch.tensor([labels.index(label) for label in taught.values()])
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            model(**batch, labels=wanted).loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return str(folder)
