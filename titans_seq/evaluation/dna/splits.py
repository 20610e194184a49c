"""Which sequences overlap, and splits that keep those on one side.

Windows of a genome that overlap, or repeat each other, share long words. Where such rows stand
on both sides of a split, a model can score by remembering its training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from titans_seq.evaluation.dna.words import word_numbers
from titans_seq.exceptions import DataError

WORD = 24
"""Letters of the word that rows must share to belong together, on either strand."""

Indices = npt.NDArray[np.int64]


def overlap_groups(sequences: Sequence[str], length: int = WORD) -> Indices:
    """Return the group of each sequence: rows that share a word, directly or through others."""
    rows, numbers = _words_by_row(sequences, length)
    order = np.argsort(numbers, kind="stable")
    same = numbers[order][1:] == numbers[order][:-1]
    one, other = rows[order][:-1][same], rows[order][1:][same]
    count = len(sequences)
    links = sparse.coo_array((np.ones(len(one)), (one, other)), shape=(count, count))
    groups: Indices = connected_components(links.tocsr(), directed=False)[1].astype(np.int64)
    return groups


def overlaps(
    sequences: Sequence[str], others: Sequence[str], length: int = WORD
) -> npt.NDArray[np.bool_]:
    """Return which sequences share a word with any of the others."""
    rows, numbers = _words_by_row(sequences, length)
    shared = np.isin(numbers, np.unique(_words_by_row(others, length)[1]))
    found = np.zeros(len(sequences), dtype=bool)
    found[rows[shared]] = True
    return found


def grouped_split(
    sequences: Sequence[str], labels: Any, test_share: float, seed: int = 0
) -> tuple[Indices, Indices]:
    """Return the rows of a train and a test part that share no word, classes spread evenly.

    Parameters
    ----------
    sequences, labels
        All rows; with values instead of labels, quarters of their range are spread evenly.
    test_share
        Share of the rows to test on, about.
    seed
        Of the order.

    Raises
    ------
    DataError
        If the rows hang together too much to be parted.
    """
    groups = overlap_groups(sequences)
    parts = min(max(2, round(1 / max(test_share, 0.02))), len(sequences))
    if len(np.unique(groups)) < parts:
        raise DataError(
            f"{len(sequences)} sequences form {len(np.unique(groups))} groups that share "
            f"{WORD}-letter words: too few to part them"
        )
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    train, test = next(splitter.split(groups, _strata(labels), groups))
    return train, test


def _strata(labels: Any) -> npt.NDArray[Any]:
    """Return what is spread evenly: labels, or quarters of values."""
    found = np.asarray(labels)
    if found.dtype.kind != "f":
        return found.astype(str)
    borders = np.quantile(found, (0.25, 0.5, 0.75))
    return np.asarray(np.searchsorted(borders, found))


def _words_by_row(sequences: Sequence[str], length: int) -> tuple[Indices, Indices]:
    """Return every word of every sequence as a row and a number, each once a row."""
    found = [np.unique(word_numbers(text, length, both_strands=True)) for text in sequences]
    rows = np.repeat(np.arange(len(found)), [len(one) for one in found])
    return rows, np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
