"""Overlap between sequences, and train/test splits without it.

Genome windows that overlap or repeat share long k-mers. If such sequences occur on both sides of
a split, a model can score well by memorising its training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from titans_seq.dna.kmers import kmer_indices
from titans_seq.evaluation.dna.features import lenient_codes
from titans_seq.exceptions import DataError

OVERLAP_K = 24
"""Length of the k-mer that two sequences must share, on either strand, to count as overlapping."""


def overlap_groups(sequences: Sequence[str], k: int = OVERLAP_K) -> npt.NDArray[np.int64]:
    """Return a group number for each sequence: connected components of "shares a k-mer"."""
    rows, kmers = _distinct_kmers(sequences, k)
    order = np.argsort(kmers, kind="stable")
    # Neighbours in sorted order with the same k-mer are an edge; a chain of edges suffices.
    same = kmers[order][1:] == kmers[order][:-1]
    left, right = rows[order][:-1][same], rows[order][1:][same]
    count = len(sequences)
    edges = sparse.coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
    _, groups = connected_components(edges.tocsr(), directed=False)
    return np.asarray(groups, dtype=np.int64)


def overlaps(
    sequences: Sequence[str], others: Sequence[str], k: int = OVERLAP_K
) -> npt.NDArray[np.bool_]:
    """Return whether each sequence shares a k-mer with any of ``others``."""
    rows, kmers = _distinct_kmers(sequences, k)
    shared = np.isin(kmers, np.unique(_distinct_kmers(others, k)[1]))
    has_overlap = np.zeros(len(sequences), dtype=bool)
    has_overlap[rows[shared]] = True
    return has_overlap


def grouped_split(
    sequences: Sequence[str], labels: Any, test_share: float, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return train and test rows that share no k-mer, stratified by label.

    Parameters
    ----------
    sequences, labels
        All rows; if ``labels`` are values, they are stratified by quartile.
    test_share
        Approximate share of the rows to test on.
    seed
        Of the shuffle.

    Raises
    ------
    DataError
        If there are too few groups of overlapping sequences to split.
    """
    groups = overlap_groups(sequences)
    folds = min(max(2, round(1 / max(test_share, 0.02))), len(sequences))
    if len(np.unique(groups)) < folds:
        raise DataError(
            f"a grouped split needs at least {folds} groups of sequences without shared "
            f"{OVERLAP_K}-mers; these {len(sequences)} sequences form {len(np.unique(groups))}"
        )
    # The test part is the first of about 1 / test_share folds.
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    train, test = next(splitter.split(groups, _strata(labels), groups))
    return train, test


def _strata(labels: Any) -> npt.NDArray[Any]:
    """Return labels as text, or the quartile of each value."""
    strata = np.asarray(labels)
    if strata.dtype.kind != "f":
        return strata.astype(str)
    quartiles = np.quantile(strata, (0.25, 0.5, 0.75))
    return np.asarray(np.searchsorted(quartiles, strata))


def _distinct_kmers(
    sequences: Sequence[str], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return pairs (row, canonical k-mer) of all sequences, each pair once."""
    by_row = [np.unique(kmer_indices(lenient_codes(s), k, canonical=True)) for s in sequences]
    by_row = [kmers[kmers >= 0] for kmers in by_row]  # without ambiguous letters
    rows = np.repeat(np.arange(len(by_row)), [len(kmers) for kmers in by_row])
    return rows, np.concatenate(by_row) if by_row else np.zeros(0, dtype=np.int64)
