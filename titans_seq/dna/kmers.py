"""k-mers of encoded DNA, each as one integer: its bases as digits to base 4, A 0 to T 3."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from titans_seq.dna.alphabet import BASES, Codes

MAX_K = 31
"""Longest k-mer whose index fits into 63 bits."""

_BASE_INDEX = np.full(256, -1, dtype=np.int64)
_BASE_INDEX[1 << np.arange(len(BASES))] = np.arange(len(BASES))


def base_indices(codes: Codes) -> npt.NDArray[np.int64]:
    """Return 0 to 3 for A, C, G and T, and -1 for ambiguous letters and padding."""
    indices: npt.NDArray[np.int64] = _BASE_INDEX[codes]
    return indices


def kmer_indices(codes: Codes, k: int, *, canonical: bool = False) -> npt.NDArray[np.int64]:
    """Return the index of the k-mer that starts at each position.

    Parameters
    ----------
    codes
        A sequence, see :mod:`titans_seq.dna.alphabet`.
    k
        Length, 0 to ``MAX_K``.
    canonical
        Give a k-mer and its reverse complement the same index, the lower of the two.

    Returns
    -------
        ``len(codes) - k + 1`` indices (none for a shorter sequence); -1 where the k-mer contains
        a letter other than A, C, G and T.
    """
    bases = base_indices(codes)
    forward = np.zeros(max(len(bases) - k + 1, 0), dtype=np.int64)
    reverse = np.zeros_like(forward)
    known = np.ones(len(forward), dtype=bool)
    for offset in range(k):
        base = bases[offset : offset + len(forward)]
        forward = forward * 4 + base
        if canonical:
            # 3 - base is the complement; read backwards, the first base is the last digit.
            reverse += (3 - base) * 4**offset
        known &= base >= 0
    indices = np.minimum(forward, reverse) if canonical else forward
    return np.asarray(np.where(known, indices, -1), dtype=np.int64)


def kmer_frequencies(
    sequences: list[Codes], k: int, *, canonical: bool = False
) -> sparse.csr_array:
    """Return the relative frequency of each k-mer in each sequence, (sequences, 4**k).

    Columns are in lexicographic order. k-mers with a letter other than A, C, G and T are left
    out; a sequence without any has a row of zeros.
    """
    columns, frequencies, row_ends = [], [], [0]
    for codes in sequences:
        indices = kmer_indices(codes, k, canonical=canonical)
        present, counts = np.unique(indices[indices >= 0], return_counts=True)
        columns.append(present)
        frequencies.append(counts / max(counts.sum(), 1))
        row_ends.append(row_ends[-1] + len(present))
    values = np.concatenate(frequencies).astype(np.float32)
    return sparse.csr_array(
        (values, np.concatenate(columns), row_ends), shape=(len(sequences), 4**k)
    )
