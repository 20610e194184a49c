"""Synthetic associative recall over long distances; sequences are drawn anew for every batch.

A fact is two tokens, a key and its value (the adjacent form of multi-query associative recall,
arXiv 2312.04927). When the key occurs again, the value must be predicted. All other tokens are
fillers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from titans_seq.language.network import NO_TARGET, TokenNetwork

KEYS, VALUES, FILLERS = 16, 16, 16
"""Number of tokens of each kind; the accuracy of guessing is 1 / ``VALUES``."""

VOCABULARY = KEYS + VALUES + FILLERS

MAX_ZONE = 64
"""Most tokens over which facts, or queries, are spread."""

SHORTEST = 32
"""Tokens of the shortest sequence: eight facts still fit into half of it."""

PIECE_TOKENS = 2048
"""Tokens per call of the network in a test; the state is carried from piece to piece."""

_MIN_SEQUENCES, _MAX_SEQUENCES = 4, 256
"""Fewest and most sequences of a test."""


class FactBatch(NamedTuple):
    """Tokens, and the value to predict at each, or ``NO_TARGET``."""

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]


def recall(batch: int, length: int, pairs: int, generator: torch.Generator) -> FactBatch:
    """Draw facts at the beginning, fillers, and queries of every key at the end.

    Facts lie anywhere in the first 64 tokens, queries anywhere in the last 64 (half of a shorter
    sequence); so the gap is ``length`` minus at most 128. Every other token there is a query;
    keys are queried equally often, in random order, and no value follows them.

    Parameters
    ----------
    batch, length
        Sequences, and tokens of each, at least ``SHORTEST``.
    pairs
        Facts per sequence, 1 to 8, with different keys.
    generator
        Draws the sequences.
    """
    tokens, targets = _fillers(batch, length, generator)
    zone = min(length // 2, MAX_ZONE)
    keys = _distinct(batch, KEYS, pairs, generator)
    values = torch.randint(VALUES, (batch, pairs), generator=generator)
    # Facts begin at even positions, so that they do not overlap.
    facts = 2 * _distinct(batch, zone // 2, pairs, generator)
    tokens.scatter_(1, facts, keys).scatter_(1, facts + 1, values + KEYS)
    order = _distinct(batch, zone // 2, zone // 2, generator) % pairs
    queries = length - zone + _distinct(batch, zone, zone // 2, generator)
    tokens.scatter_(1, queries, keys.gather(1, order))
    targets.scatter_(1, queries, values.gather(1, order))
    return FactBatch(tokens, targets)


def needle(batch: int, length: int, pairs: int, generator: torch.Generator) -> FactBatch:
    """Draw one fact anywhere in a haystack of fillers, queried by the last token.

    Parameters
    ----------
    batch, length, generator
        As in :func:`recall`.
    pairs
        Ignored: there is one fact.
    """
    tokens, targets = _fillers(batch, length, generator)
    key = torch.randint(KEYS, (batch, 1), generator=generator)
    value = torch.randint(VALUES, (batch, 1), generator=generator)
    fact = 2 * torch.randint((length - 2) // 2, (batch, 1), generator=generator)
    tokens.scatter_(1, fact, key).scatter_(1, fact + 1, value + KEYS)
    tokens[:, -1:] = key
    targets[:, -1:] = value
    return FactBatch(tokens, targets)


RECALL_TASKS: dict[str, Callable[[int, int, int, torch.Generator], FactBatch]] = {
    "recall": recall,
    "needle": needle,
}


class RecallCounts(NamedTuple):
    """Result of a recall test; the fields are columns of result files."""

    right: int
    """Queries answered correctly."""
    asked: int
    """All queries."""
    facts: int
    """Facts that are queried."""

    @property
    def share(self) -> float:
        """Share of the queries answered correctly."""
        return self.right / self.asked


@torch.inference_mode()
def count_recalled(
    network: TokenNetwork, task: str, length: int, *, pairs: int, tokens: int, seed: int
) -> RecallCounts:
    """Count the queries, those answered correctly, and the facts that they query.

    The state is carried from piece to piece, so that memory does not grow with the length.

    Parameters
    ----------
    network
        Trained.
    task
        One of :data:`RECALL_TASKS`.
    length, pairs
        Tokens and facts of a sequence.
    tokens
        Tokens of the whole test, which has 4 to 256 sequences.
    seed
        Seed of the sequences.
    """
    batch = max(_MIN_SEQUENCES, min(_MAX_SEQUENCES, tokens // length))
    drawn = RECALL_TASKS[task](batch, length, pairs, torch.Generator().manual_seed(seed))
    network.eval()
    device = next(network.parameters()).device
    state, correct = None, 0
    pieces = zip(*(tensor.split(PIECE_TOKENS, 1) for tensor in drawn), strict=True)
    for piece, targets in pieces:
        logits, state = network(piece.to(device), state, keep_state=True)
        is_query = targets != NO_TARGET
        correct += int((logits.cpu()[is_query].argmax(-1) == targets[is_query]).sum())
    facts = batch * (1 if task == "needle" else pairs)
    return RecallCounts(correct, int((drawn.targets != NO_TARGET).sum()), facts)


def difficulty(
    share: float, *, pairs: int, shortest: int, longest: int, generator: torch.Generator
) -> tuple[int, int]:
    """Draw a length and a number of facts for a training of which ``share`` is over.

    A curriculum: trained on many facts from the start, a network does not begin to learn. The
    maximum number of facts grows from 2 to ``pairs`` over 60% of the training, the maximum length
    to ``longest`` over 30%. Below the maxima, facts are drawn uniformly, and lengths uniformly on
    a logarithmic scale, with a growing preference for longer ones.
    """
    max_pairs = min(pairs, max(2, round(pairs * share / 0.6)))
    octaves = torch.tensor(longest / shortest).log2() * min(1.0, share / 0.3)
    # An exponent below 1 moves the uniform number towards 1, the longest.
    position = torch.rand((), generator=generator) ** (1.0 - 0.7 * share)
    length = round(shortest * 2.0 ** float(octaves * position))
    return length, int(torch.randint(1, max_pairs + 1, (), generator=generator))


def _fillers(batch: int, length: int, generator: torch.Generator) -> FactBatch:
    """Return sequences of fillers without targets."""
    tokens = torch.randint(KEYS + VALUES, VOCABULARY, (batch, length), generator=generator)
    return FactBatch(tokens, torch.full_like(tokens, NO_TARGET))


def _distinct(rows: int, below: int, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` different random numbers below ``below`` for each row."""
    return torch.rand(rows, below, generator=generator).argsort(dim=1)[:, :count]
