"""k-mer models of DNA: what counting words alone knows of the next, or of a hidden, base.

A base's chance given its neighbours is counted over the training letters, on both strands; a
context that was seen seldom borrows from the one that is a letter shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes, reverse_complement

Indices = npt.NDArray[np.int64]

BORROWED = 4.0
"""Observations that the shorter context is worth."""

NEXT_ORDERS = (1, 3, 5, 8, 10)
"""Letters before the base."""

FLANK_ORDERS = (1, 2, 3, 4, 5)
"""Letters on either side of the base."""


class Context(NamedTuple):
    """Neighbours that a base is told from."""

    before: int
    after: int

    def shorter(self) -> Context:
        """Return the context that is a letter shorter, on either side that has one."""
        return Context(max(self.before - 1, 0), max(self.after - 1, 0))


class KmerModel:
    """Chances of a base given the letters around it.

    Parameters
    ----------
    context
        How many letters before and after.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        chain = [context]
        while sum(chain[-1]):
            chain.append(chain[-1].shorter())
        self.chain = tuple(reversed(chain))
        self.counts = [np.zeros((4 ** sum(one), 4)) for one in self.chain]

    def fit(self, rows: Sequence[Codes]) -> KmerModel:
        """Count the words of sequences and of their other strands."""
        strands = [_bases(one) for row in rows for one in (row, reverse_complement(row))]
        for context, table in zip(self.chain, self.counts, strict=True):
            words = np.concatenate([_words(bases, context) for bases in strands])
            table += np.bincount(words, minlength=table.size).reshape(table.shape)
        self.chances = [self.counts[0] + 1]
        self.chances[0] /= self.chances[0].sum(axis=1, keepdims=True)
        for shorter, context, table in zip(
            self.chain[:-1], self.chain[1:], self.counts[1:], strict=True
        ):
            parent = self.chances[-1][_inner(context, shorter)]
            total = table.sum(axis=1, keepdims=True)
            self.chances.append((table + BORROWED * parent) / (total + BORROWED))
        return self

    def losses(
        self, row: Codes, asked: npt.NDArray[np.bool_], order: int | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the negative log-likelihood (nats) of the bases asked for.

        A context that leaves the sequence, or has an ambiguous letter, is shortened.

        Parameters
        ----------
        row, asked
            A sequence, and which of its bases are asked for.
        order
            Letters of context before the base, at most; left out, all there are.
        """
        bases = _bases(row)
        chance = np.full((len(row), 4), 0.25)
        for context, table in zip(self.chain, self.chances, strict=True):
            if order is not None and context.before > order:
                break
            number = _numbers(bases, context)
            chance[number >= 0] = table[number[number >= 0]]
        kept = asked & (bases >= 0)
        found: npt.NDArray[np.float64] = -np.log(chance[kept, bases[kept]])
        return found


def kmer_perplexities(
    learn: Sequence[Codes],
    held: Sequence[tuple[Codes, npt.NDArray[np.bool_]]],
    *,
    masked: bool,
) -> dict[str, float]:
    """Return the perplexity of k-mer models on held-out bases, by name.

    Parameters
    ----------
    learn
        What is counted.
    held
        Windows, and which bases of each are asked for.
    masked
        Whether bases are told from both sides.
    """
    found = {}
    orders = FLANK_ORDERS if masked else NEXT_ORDERS
    model = KmerModel(Context(max(orders), max(orders) if masked else 0)).fit(learn)
    for order in orders:
        losses = np.concatenate([model.losses(row, asked, order) for row, asked in held])
        name = f"{order} letters on either side" if masked else f"{order + 1}-mers"
        found[name] = float(np.exp(losses.mean()))
    return found


def _bases(codes: Codes) -> Indices:
    """Return 0 to 3 for each base, -1 for what is ambiguous."""
    table = np.full(16, -1, dtype=np.int64)
    table[[1, 2, 4, 8]] = np.arange(4)
    found: Indices = table[codes]
    return found


def _numbers(bases: Indices, context: Context) -> Indices:
    """Return the number of each base's context, -1 where it is not known in full."""
    count = len(bases)
    number = np.zeros(count, dtype=np.int64)
    whole = np.ones(count, dtype=bool)
    offsets = [*range(-context.before, 0), *range(1, context.after + 1)]
    for offset in offsets:
        moved = np.full(count, -1, dtype=np.int64)
        if offset < 0:
            moved[-offset:] = bases[:offset]
        else:
            moved[:-offset] = bases[offset:]
        number = number * 4 + moved
        whole &= moved >= 0
    return np.asarray(np.where(whole, number, -1), dtype=np.int64)


def _words(bases: Indices, context: Context) -> Indices:
    """Return the number of each word that is known in full: a context and the base itself."""
    number = _numbers(bases, context)
    known = (number >= 0) & (bases >= 0)
    return number[known] * 4 + bases[known]


def _inner(context: Context, shorter: Context) -> Indices:
    """Return, for each context's number, the number of the shorter one inside it."""
    number = np.arange(4 ** sum(context))
    before, after = number // 4**context.after, number % 4**context.after
    before = before % 4**shorter.before
    after = after // 4 ** (context.after - shorter.after)
    return np.asarray(before * 4**shorter.after + after, dtype=np.int64)
