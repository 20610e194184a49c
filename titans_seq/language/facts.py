"""Synthetic sequences whose answers lie far back; drawn anew for every batch.

A fact is two tokens, a key and, right behind it, its value (the adjacent form of multi-query
associative recall, arXiv 2312.04927). Whoever meets the key again must name the value. All
else are fillers that say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from titans_seq.language.network import NO_ANSWER, TokenNetwork

KEYS, VALUES, FILLERS = 16, 16, 16
"""Tokens of each kind; chance is one of ``VALUES``."""

VOCABULARY = KEYS + VALUES + FILLERS

ZONE = 64
"""Most tokens that facts, and that queries, are strewn over."""

SHORTEST = 32
"""Least length of a sequence: eight facts still fit into half of it."""

PIECE = 2048
"""Tokens handed over at a time in a test; the state is carried from piece to piece."""

FEWEST, MOST = 4, 256
"""Sequences of a test."""


class Batch(NamedTuple):
    """Tokens, and the value asked for at each, or ``NO_ANSWER``."""

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]


Draw = Callable[[int, int, int, torch.Generator], Batch]


def recall(batch: int, length: int, pairs: int, generator: torch.Generator) -> Batch:
    """Draw facts at the beginning, fillers, and queries of every key at the end.

    Facts lie anywhere in the first, queries anywhere in the last 64 tokens (half of a shorter
    sequence); so the gap is ``length`` less at most 128. Every other token there is a query;
    keys are asked for equally often, in random order, and no value follows them.

    Parameters
    ----------
    batch, length
        Sequences, and tokens of each, at least ``SHORTEST``.
    pairs
        Facts a sequence, 1 to 8; no key twice.
    generator
        Where the chance comes from.
    """
    tokens, targets = _fillers(batch, length, generator)
    zone = min(length // 2, ZONE)
    keys = _some(batch, KEYS, pairs, generator)
    values = torch.randint(VALUES, (batch, pairs), generator=generator)
    first = 2 * _some(batch, zone // 2, pairs, generator)
    tokens.scatter_(1, first, keys).scatter_(1, first + 1, values + KEYS)
    order = _some(batch, zone // 2, zone // 2, generator) % pairs
    asked = length - zone + _some(batch, zone, zone // 2, generator)
    tokens.scatter_(1, asked, keys.gather(1, order))
    targets.scatter_(1, asked, values.gather(1, order))
    return Batch(tokens, targets)


def needle(batch: int, length: int, pairs: int, generator: torch.Generator) -> Batch:
    """Draw one fact anywhere in a haystack of fillers, asked for by the last token.

    Parameters
    ----------
    batch, length, generator
        As in :func:`recall`.
    pairs
        Not used: there is one.
    """
    tokens, targets = _fillers(batch, length, generator)
    key = torch.randint(KEYS, (batch, 1), generator=generator)
    value = torch.randint(VALUES, (batch, 1), generator=generator)
    first = 2 * torch.randint((length - 2) // 2, (batch, 1), generator=generator)
    tokens.scatter_(1, first, key).scatter_(1, first + 1, value + KEYS)
    tokens[:, -1:] = key
    targets[:, -1:] = value
    return Batch(tokens, targets)


TASKS: dict[str, Draw] = {"recall": recall, "needle": needle}


class Counts(NamedTuple):
    """What came of a test."""

    right: int
    """Queries answered rightly."""
    asked: int
    """Queries."""
    facts: int
    """Facts that they ask for."""

    @property
    def share(self) -> float:
        """Share of the queries that were answered rightly."""
        return self.right / self.asked


@torch.inference_mode()
def count_answers(
    network: TokenNetwork, task: str, length: int, *, pairs: int, tokens: int, seed: int
) -> Counts:
    """Count the queries asked and answered rightly, and the facts that they ask for.

    The state is carried from piece to piece, so that memory does not grow with the length.

    Parameters
    ----------
    network
        Trained.
    task
        One of :data:`TASKS`.
    length, pairs
        Of a sequence.
    tokens
        Of the whole test: 4 to 256 sequences.
    seed
        Of the sequences.
    """
    batch = max(FEWEST, min(MOST, tokens // length))
    drawn = TASKS[task](batch, length, pairs, torch.Generator().manual_seed(seed))
    network.eval()
    device = next(network.parameters()).device
    state, right = None, 0
    for piece, wanted in zip(drawn.tokens.split(PIECE, 1), drawn.targets.split(PIECE, 1),
                             strict=True):  # fmt: skip
        scores, state = network(piece.to(device), state, keep_state=True)
        asked = wanted != NO_ANSWER
        right += int((scores.cpu()[asked].argmax(-1) == wanted[asked]).sum())
    facts = batch * (1 if task == "needle" else pairs)
    return Counts(right, int((drawn.targets != NO_ANSWER).sum()), facts)


def difficulty(
    share: float, *, pairs: int, shortest: int, longest: int, generator: torch.Generator
) -> tuple[int, int]:
    """Draw a length and a number of facts, ``share`` of the training being over.

    Easy ones come first, since many facts at once leave nothing to begin with: the most facts
    grow from 2 to ``pairs`` over six tenths of the training, the most tokens to ``longest`` over
    three. Below these, facts are drawn evenly, and lengths evenly on a logarithmic scale, with a
    pull to the longer ones that grows.
    """
    most = min(pairs, max(2, round(pairs * share / 0.6)))
    octaves = torch.tensor(longest / shortest).log2() * min(1.0, share / 0.3)
    place = torch.rand((), generator=generator) ** (1.0 - 0.7 * share)
    length = round(shortest * 2.0 ** float(octaves * place))
    return length, int(torch.randint(1, most + 1, (), generator=generator))


def _fillers(batch: int, length: int, generator: torch.Generator) -> Batch:
    """Return sequences of fillers that ask nothing."""
    tokens = torch.randint(KEYS + VALUES, VOCABULARY, (batch, length), generator=generator)
    return Batch(tokens, torch.full_like(tokens, NO_ANSWER))


def _some(rows: int, among: int, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` different numbers below ``among`` a row, in random order."""
    return torch.rand(rows, among, generator=generator).argsort(dim=1)[:, :count]
