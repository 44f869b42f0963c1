"""Rated replies as token sequences, and how they share a row of one forward pass.

Owns the cut to a length, the packing and the order of a training run; imports no torch. A row holds no padding: the
sequences of a pack lie behind each other, and what several of them begin with (the persona's instructions, the prompt
of two rival replies, an earlier part of one conversation) is there once, as a prefix tree. models/learning/torch_model
computes such a row.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Tokens:
    """One prompt and reply as `PromptBuilder.training_example` gives it: `learned` is 1 on the reply and its end.

    >>> Tokens(ids=(1, 40, 2, 1, 77, 2), learned=(0, 0, 0, 0, 1, 1)).learned_count
    2
    """

    ids: tuple[int, ...]
    learned: tuple[int, ...]

    @property
    def learned_count(self) -> int:
        return sum(self.learned)

    @property
    def prompt(self) -> tuple[int, ...]:
        """Everything before the first learned token."""
        return self.ids[: self._start]

    @property
    def completion(self) -> tuple[int, ...]:
        """The first learned token and everything after it."""
        return self.ids[self._start :]

    @property
    def _start(self) -> int:
        return self.learned.index(1) if 1 in self.learned else len(self.ids)


def of_reply(prompt: Sequence[int], completion: Sequence[int]) -> Tokens:
    """Join a prompt and a completion that ends with its end token."""
    return Tokens((*prompt, *completion), (0,) * len(prompt) + (1,) * len(completion))


def truncated(tokens: Tokens, max_tokens: int) -> Tokens:
    """Cut the prompt from its left until all fits; a reply that alone is too long loses its end."""
    if len(tokens.ids) <= max_tokens:
        return tokens
    cut = min(len(tokens.ids) - max_tokens, max(0, len(tokens.prompt) - 1))
    return Tokens(tokens.ids[cut:][:max_tokens], tokens.learned[cut:][:max_tokens])


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences in one row of tokens, a prefix tree laid flat: a token that several share is there once.

    `sizes` cuts the row into segments; `paths[i]` are the segments that make up sequence i, and of its tokens the last
    `fresh[i]` are in the row because of it. Learned token n is `targets[n]`, is predicted at row position
    `predictors[n]`, and belongs to sequence `owners[n]`.

    >>> row = pack([of_reply((5, 6), (7, 2)), of_reply((5, 6), (8, 2))])
    >>> row.ids, row.positions, row.sizes, row.paths, row.fresh
    ((5, 6, 7, 2, 8, 2), (0, 1, 2, 3, 2, 3), (2, 2, 2), ((0, 1), (0, 2)), (4, 2))
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    sizes: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    fresh: tuple[int, ...]
    predictors: tuple[int, ...]
    targets: tuple[int, ...]
    owners: tuple[int, ...]


def pack(sequences: Sequence[Tokens]) -> Packed:
    """Lay the sequences out in one row. A learned token without a token before it is not learned."""
    ids: list[int] = []
    positions: list[int] = []
    children: dict[tuple[int, int], int] = {}
    nodes_of: list[list[int]] = []
    fresh: list[int] = []
    predicted: list[tuple[int, int, int]] = []
    for owner, sequence in enumerate(sequences):
        nodes: list[int] = []
        parent, before = -1, len(ids)
        for position, (token, learned) in enumerate(zip(sequence.ids, sequence.learned, strict=True)):
            if learned and parent >= 0:
                predicted.append((parent, token, owner))
            node = children.get((parent, token))
            if node is None:
                node = children[parent, token] = len(ids)
                ids.append(token)
                positions.append(position)
            nodes.append(node)
            parent = node
        nodes_of.append(nodes)
        fresh.append(len(ids) - before)
    runs = [_runs(nodes) for nodes in nodes_of]
    edges = sorted({edge for of_one in runs for run in of_one for edge in run})
    index = {edge: segment for segment, edge in enumerate(edges)}
    predictors, targets, owners = zip(*predicted, strict=True) if predicted else ((), (), ())
    return Packed(
        ids=tuple(ids),
        positions=tuple(positions),
        sizes=tuple(end - start for start, end in pairwise(edges)),
        paths=tuple(tuple(i for start, end in of_one for i in range(index[start], index[end])) for of_one in runs),
        fresh=tuple(fresh),
        predictors=predictors,
        targets=targets,
        owners=owners,
    )


def _runs(nodes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the maximal runs of consecutive numbers as (start, end)."""
    runs: list[tuple[int, int]] = []
    for node in nodes:
        if runs and runs[-1][1] == node:
            runs[-1] = (runs[-1][0], node + 1)
        else:
            runs.append((node, node + 1))
    return runs


def packs(items: Sequence[Sequence[Tokens]], *, tokens_per_batch: int) -> list[list[int]]:
    """Group the items' indexes so that a pack's row has at most `tokens_per_batch` tokens, or one item.

    An item is what must share a row: a reply, or a chosen one and its rejected rival. Items that begin alike come
    together.
    """
    groups: list[list[int]] = []
    room = 0
    previous: tuple[int, ...] = ()
    for index in sorted(range(len(items)), key=lambda i: ([sequence.ids for sequence in items[i]], i)):
        cost = _cost(previous, items[index])
        if not groups or cost > room:
            groups.append([])
            room, cost = tokens_per_batch, _cost((), items[index])
        groups[-1].append(index)
        room -= cost
        previous = items[index][-1].ids
    return groups


def _cost(previous: tuple[int, ...], item: Sequence[Tokens]) -> int:
    cost = 0
    for sequence in item:
        cost += len(sequence.ids) - _shared(previous, sequence.ids)
        previous = sequence.ids
    return cost


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def order(count: int, *, batch: int, epochs: int, max_steps: int, seed: int) -> list[list[int]]:
    """Return the indexes of each step's examples: every epoch in an order of its own, its last step may be short."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        shuffled = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(shuffled)
        steps += [shuffled[i : i + batch] for i in range(0, count, batch)]
    return steps[:max_steps]


def mismatched(sequences: Sequence[Tokens]) -> list[Tokens]:
    """Pair each prompt with the completion of the sequence before it, as TRL's KTOTrainer does inside a batch."""
    before: Iterable[Tokens] = (*sequences[-1:], *sequences[:-1])
    return [of_reply(own.prompt, other.completion) for own, other in zip(sequences, before, strict=True)]
