"""Sequences as feature matrices for simple models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from titans_seq.dna.alphabet import Codes, encode_text
from titans_seq.dna.kmers import base_indices, kmer_frequencies


def lenient_codes(sequence: str) -> Codes:
    """Return the codes of a sequence's letters, 0 for what is no letter of DNA."""
    return np.frombuffer(encode_text(sequence.encode("latin-1", "replace")), dtype=np.uint8)


def kmer_features(sequences: Sequence[str], k: int, *, canonical: bool = False) -> sparse.csr_array:
    """Return the relative frequency of each k-mer, as ``kmer_frequencies`` of the codes."""
    return kmer_frequencies([lenient_codes(text) for text in sequences], k, canonical=canonical)


def positional_one_hot(sequences: Sequence[str], length: int) -> npt.NDArray[np.float32]:
    """Return (sequences, 4 * length), 1 for the base at each of the first ``length`` positions.

    Ambiguous letters and positions beyond the end of a sequence have no 1.
    """
    bases = np.full((len(sequences), length), -1)
    for row, text in enumerate(sequences):
        indices = base_indices(lenient_codes(text))[:length]
        bases[row, : len(indices)] = indices
    one_hot = bases[:, :, None] == np.arange(4)
    return np.asarray(one_hot.reshape(len(sequences), -1), dtype=np.float32)


def gc_content(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the share of G and C among A, C, G and T, (sequences, 1)."""
    frequencies = kmer_features(sequences, 1).toarray()
    content: npt.NDArray[np.float32] = frequencies[:, 1:3].sum(axis=1, keepdims=True)
    return content


def sequence_length(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the number of letters of each sequence, (sequences, 1)."""
    return np.array([[len(text)] for text in sequences], dtype=np.float32)


def no_features(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a constant column, (sequences, 1), for models that ignore the sequence."""
    return np.zeros((len(sequences), 1), dtype=np.float32)
