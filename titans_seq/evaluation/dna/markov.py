"""Markov (k-mer) models of DNA, the baseline of language models: next-base and masked-base.

The probability of a base given its neighbours is estimated from counts over the training
sequences and their reverse complements; a context with few counts is smoothed towards the context
that is one letter shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.kmers import base_indices, kmer_indices

SMOOTHING = 4.0
"""Pseudocounts that the shorter context contributes, as one observation of each base would."""

NEXT_ORDERS = (1, 3, 5, 8, 10)
"""Letters of context before the base."""

FLANK_ORDERS = (1, 2, 3, 4, 5)
"""Letters of context on each side of the base."""


class Context(NamedTuple):
    """Number of neighbours that a base is predicted from."""

    before: int
    after: int

    def shorter(self) -> Context:
        """Return the context that is one letter shorter on each side that has letters."""
        return Context(max(self.before - 1, 0), max(self.after - 1, 0))


class KmerModel:
    """Probabilities of a base given the letters around it, smoothed by shorter contexts.

    Parameters
    ----------
    context
        Number of letters before and after the base.
    """

    def __init__(self, context: Context) -> None:
        contexts = [context]
        while sum(contexts[-1]):
            contexts.append(contexts[-1].shorter())
        self.contexts = tuple(reversed(contexts))
        """From no context at all to the longest."""
        self.counts = [np.zeros((4 ** sum(size), 4)) for size in self.contexts]

    def fit(self, sequences: Sequence[Codes]) -> KmerModel:
        """Count the k-mers of both strands of each sequence."""
        strands = [codes for row in sequences for codes in (row, reverse_complement(row))]
        # A cell of a table, (contexts, 4), is a context and the base in its middle.
        for context, table in zip(self.contexts, self.counts, strict=True):
            cells = np.concatenate([_table_cells(codes, context) for codes in strands])
            table += np.bincount(cells, minlength=table.size).reshape(table.shape)
        # Without context: relative frequencies with one pseudocount for each base.
        unigrams = self.counts[0] + 1
        self.probabilities = [unigrams / unigrams.sum(axis=1, keepdims=True)]
        for (shorter, context), table in zip(pairwise(self.contexts), self.counts[1:], strict=True):
            prior = self.probabilities[-1][_inner_contexts(context, shorter)]
            # The prior weighs as SMOOTHING observations: rare contexts stay close to it.
            total = table.sum(axis=1, keepdims=True)
            self.probabilities.append((table + SMOOTHING * prior) / (total + SMOOTHING))
        return self

    def losses(
        self, sequence: Codes, is_target: npt.NDArray[np.bool_], order: int | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the negative log-likelihood (nats) of the target bases.

        The context is shortened where it extends beyond the sequence or includes an ambiguous
        letter. Ambiguous targets are skipped.

        Parameters
        ----------
        sequence, is_target
            A sequence, and which of its bases to predict.
        order
            Maximum number of context letters before the base; all of the model's if left out.
        """
        bases = base_indices(sequence)
        probabilities = np.full((len(sequence), 4), 0.25)
        # From short to long: the longest context that is known overwrites the shorter ones.
        for context, table in zip(self.contexts, self.probabilities, strict=True):
            if order is not None and context.before > order:
                break
            indices = _context_indices(sequence, context)
            probabilities[indices >= 0] = table[indices[indices >= 0]]
        scored = is_target & (bases >= 0)
        losses: npt.NDArray[np.float64] = -np.log(probabilities[scored, bases[scored]])
        return losses


def kmer_perplexities(
    train: Sequence[Codes],
    test: Sequence[tuple[Codes, npt.NDArray[np.bool_]]],
    *,
    masked: bool,
) -> dict[str, float]:
    """Return the perplexity of k-mer models on held-out bases, by the model's name.

    Parameters
    ----------
    train
        Sequences to count.
    test
        Windows, and which bases of each to predict.
    masked
        Whether bases are predicted from both sides.
    """
    perplexities = {}
    orders = FLANK_ORDERS if masked else NEXT_ORDERS
    model = KmerModel(Context(max(orders), max(orders) if masked else 0)).fit(train)
    for order in orders:
        losses = np.concatenate([model.losses(codes, targets, order) for codes, targets in test])
        name = f"{order} letters on either side" if masked else f"{order + 1}-mers"
        perplexities[name] = float(np.exp(losses.mean()))
    return perplexities


def _context_indices(codes: Codes, context: Context) -> npt.NDArray[np.int64]:
    """Return the index of each base's context, -1 where a letter of it is unknown or missing."""
    before, after = context
    indices = np.full(len(codes), -1, dtype=np.int64)
    size = len(codes) - before - after  # bases whose context lies within the sequence
    if size > 0:
        left = kmer_indices(codes, before)[:size]
        right = kmer_indices(codes, after)[before + 1 :]  # starts one behind the base itself
        known = (left >= 0) & (right >= 0)
        indices[before : before + size] = np.where(known, left * 4**after + right, -1)
    return indices


def _table_cells(codes: Codes, context: Context) -> npt.NDArray[np.int64]:
    """Return, for each base whose context is known, its cell in the flattened count table."""
    indices, bases = _context_indices(codes, context), base_indices(codes)
    known = (indices >= 0) & (bases >= 0)
    return np.asarray(indices[known] * 4 + bases[known], dtype=np.int64)


def _inner_contexts(context: Context, shorter: Context) -> npt.NDArray[np.int64]:
    """Return, for the index of each context, that of the shorter context inside it."""
    index = np.arange(4 ** sum(context))
    before, after = index // 4**context.after, index % 4**context.after
    before = before % 4**shorter.before  # drops the letter furthest to the left
    after = after // 4 ** (context.after - shorter.after)  # and the one furthest to the right
    return np.asarray(before * 4**shorter.after + after, dtype=np.int64)
