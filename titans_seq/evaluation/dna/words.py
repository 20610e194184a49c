"""Sequences as tables of numbers for simple models: words, letters by place, shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

# A letter's number is its place in ACGT; any other letter, also U, has none and breaks a word.
_CODES = np.full(256, -1, dtype=np.int64)
for _number, _pair in enumerate(("Aa", "Cc", "Gg", "Tt")):
    for _letter in _pair:
        _CODES[ord(_letter)] = _number

_COMPLEMENT = str.maketrans("ACGTUacgtuRYKMBDHVrykmbdhv", "TGCAAtgcaaYRMKVHDByrmkvhdb")


def other_strand(text: str) -> str:
    """Return the other strand, read in its own direction."""
    return text.translate(_COMPLEMENT)[::-1]


def word_numbers(text: str, length: int, *, both_strands: bool = False) -> npt.NDArray[np.int64]:
    """Return the number of every word of ``length`` letters (31 at most), in order.

    Parameters
    ----------
    text
        A sequence; a word with a letter other than A, C, G and T is left out.
    length
        Letters of a word.
    both_strands
        Whether a word has the same number as its reverse complement.
    """
    codes = letter_numbers(text)
    number = np.zeros(max(len(codes) - length + 1, 0), dtype=np.int64)
    turned = np.zeros_like(number)
    whole = np.ones(len(number), dtype=bool)
    for offset in range(length):
        letter = codes[offset : offset + len(number)]
        number = number * 4 + letter
        turned += (3 - letter) * 4**offset
        whole &= letter >= 0
    return (np.minimum(number, turned) if both_strands else number)[whole]


def words(sequences: Sequence[str], length: int, *, both_strands: bool = False) -> sparse.csr_array:
    """Return the share of each word of ``length`` letters among a sequence's words.

    Returns
    -------
    csr_array
        (sequences, 4 to the power of ``length``), words in the order of the alphabet; for
        ``length`` and ``both_strands`` see :func:`word_numbers`.
    """
    columns, counts, ends = [], [], [0]
    for text in sequences:
        kept = word_numbers(text, length, both_strands=both_strands)
        found, count = np.unique(kept, return_counts=True)
        columns.append(found)
        counts.append(count / max(count.sum(), 1))
        ends.append(ends[-1] + len(found))
    values = np.concatenate(counts).astype(np.float32)
    return sparse.csr_array(
        (values, np.concatenate(columns), ends), shape=(len(sequences), 4**length)
    )


def letters_by_place(sequences: Sequence[str], length: int) -> npt.NDArray[np.float32]:
    """Return (sequences, 4 * length), 1 for the letter that stands at each place.

    Of a longer sequence the rest is left out; where a shorter one has ended there is no 1.
    """
    codes = np.full((len(sequences), length), -1)
    for row, text in enumerate(sequences):
        found = letter_numbers(text)[:length]
        codes[row, : len(found)] = found
    is_letter = codes[:, :, None] == np.arange(4)
    return np.asarray(is_letter.reshape(len(sequences), -1), dtype=np.float32)


def letter_numbers(text: str) -> npt.NDArray[np.int64]:
    """Return the number of each letter, -1 for other letters than A, C, G and T."""
    return _CODES[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
