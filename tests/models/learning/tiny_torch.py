"""A tiny random llama in torch, and rated replies for it: a training step in milliseconds."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.learning.batches import Tokens, of_reply
from models.learning.examples import Example, PairExample
from models.learning.train import Labelled, LabelledPair, TrainRules

WORDS = 61
SMALL = TrainRules(rank=4, alpha=8, learning_rate=5e-3, batch_examples=4, tokens_per_batch=64, checkpoint_every=2)
_PERSONA = (1, 50, 51, 52, 2)  # what every prompt begins with


def tiny_base(seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=WORDS,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config).requires_grad_(False).eval()


def replies(count: int, seed: int = 0) -> list[Tokens]:
    """Return random replies of various lengths to random prompts that begin alike."""
    chance = random.Random(seed)

    def words(fewest: int, most: int) -> tuple[int, ...]:
        return tuple(chance.randrange(3, 40) for _ in range(chance.randint(fewest, most)))

    return [of_reply((*_PERSONA, *words(2, 9)), (*words(2, 12), 2)) for _ in range(count)]


def rated(tokens: Tokens, number: int, p_good: float, *, weight: float = 1.0, unsafe: bool = False) -> Labelled:
    return Labelled(example(tokens, number, p_good, weight=weight, unsafe=unsafe), tokens)


def example(tokens: Tokens, number: int, p_good: float, *, weight: float = 1.0, unsafe: bool = False) -> Example:
    return Example(
        number, str(number), 0.0, tokens.prompt, tokens.completion, 1, "operator", p_good, weight, unsafe=unsafe
    )


def community(count: int, seed: int = 0) -> list[Labelled]:
    """Return replies with a taste in them: the good ones say 7 at the start, the bad ones 8."""
    found = []
    for number, tokens in enumerate(replies(count, seed)):
        good = number % 2 == 0
        marked = of_reply(tokens.prompt, (7 if good else 8, *tokens.completion))
        found.append(rated(marked, number, 1.0 if good else 0.0))
    return found


def rivals(count: int, seed: int = 0) -> list[LabelledPair]:
    """Return pairs with the same taste."""
    found = []
    for number, tokens in enumerate(replies(count, seed)):
        good = of_reply(tokens.prompt, (7, *tokens.completion))
        bad = of_reply(tokens.prompt, (8, *tokens.completion))
        pair = PairExample(example(good, 2 * number, 1.0), example(bad, 2 * number + 1, 0.0), 1.0, "click")
        found.append(LabelledPair(pair, good, bad))
    return found
