"""Baselines of byte-level language models: n-gram counts, and compressors.

All have read the train part before the test part. Compressors go on learning there, as a memory
does; the counts do not.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_seq.evaluation.scores.report import Metrics
from titans_seq.language.needles import ByteArray

ORDERS = (0, 1, 2, 3, 5)
"""Context lengths, in bytes, of the n-gram models that are reported."""

_TRAIN_BYTES = 8_000_000
"""Limit of the bytes that are counted or compressed first: the last ones of the train part."""

_Keys = npt.NDArray[np.uint64]
_Counts = npt.NDArray[np.int64]

_LZMA_FILTERS: list[dict[str, Any]] = [
    # The dictionary holds the whole train part.
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}
]


class ByteCounts:
    """Probabilities of a byte given those before, by counts with Witten–Bell smoothing.

    A context that was seen ``n`` times and followed by ``d`` different bytes gives the weight
    ``d / (n + d)`` to the context that is one byte shorter (IEEE Transactions on Information
    Theory 37, 1991, method C); the empty context gives it to the uniform distribution.

    Parameters
    ----------
    order
        ByteArray of the longest context, at most 7.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.ngrams: list[tuple[_Keys, _Counts]] = []
        """By context length: n-grams, and their counts."""
        self.contexts: list[tuple[_Keys, _Counts, _Counts]] = []
        """Contexts, their counts, and the number of different bytes that follow."""

    def fit(self, text: ByteArray) -> ByteCounts:
        """Count the n-grams of a text."""
        for length in range(self.order + 1):
            ngrams, counts = np.unique(_ngram_keys(text, length + 1), return_counts=True)
            # Sorted n-grams of the same context are neighbours.
            contexts, first, followers = np.unique(
                ngrams >> np.uint64(8), return_index=True, return_counts=True
            )
            self.ngrams.append((ngrams, counts))
            self.contexts.append((contexts, np.add.reduceat(counts, first), followers))
        return self

    def bits(self, text: ByteArray) -> list[npt.NDArray[np.float64]]:
        """Return the cost of each byte in bits, for contexts of 0 to ``order`` bytes."""
        probability = np.full(len(text), 1 / 256)
        costs = []
        for length, (ngrams, contexts) in enumerate(zip(self.ngrams, self.contexts, strict=True)):
            keys = _ngram_keys(text, length + 1)
            seen, followers = (
                _look_up(contexts[0], values, keys >> np.uint64(8)) for values in contexts[1:]
            )
            count = _look_up(*ngrams, keys)
            probability = probability.copy()
            shorter = probability[length:]  # the first bytes have no context of this length
            total = np.maximum(seen + followers, 1)
            probability[length:] = np.where(
                seen > 0, (count + followers * shorter) / total, shorter
            )
            costs.append(-np.log2(probability))
        return costs


def score_byte_controls(train: ByteArray, test: ByteArray) -> dict[str, Metrics]:
    """Return the bits per byte of simple methods on the test part, by name."""
    known = np.asarray(train[-_TRAIN_BYTES:])
    costs = ByteCounts(max(ORDERS)).fit(known).bits(test)
    scores = {"any byte alike": {"bits_per_byte": 8.0}}
    for order in ORDERS:
        name = f"counts, {order} byte{'s' * (order != 1)} before"
        scores[name] = {"bits_per_byte": float(costs[order].mean())}
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: zlib.compress(data, 9),
        "bzip2": lambda data: bz2.compress(data, 9),
        "lzma": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA_FILTERS),
    }
    train_bytes = known.tobytes()
    both = train_bytes + np.asarray(test).tobytes()
    for name, compress in compressors.items():
        # The cost of the test part is what it adds to the compressed train part.
        size = len(compress(both)) - len(compress(train_bytes))
        scores[f"{name}, after the train part"] = {"bits_per_byte": 8 * size / len(test)}
    return scores


def _ngram_keys(text: ByteArray, length: int) -> _Keys:
    """Return each n-gram of ``length`` bytes as a number, its last byte in the lowest bits."""
    count = max(len(text) - length + 1, 0)
    keys = np.zeros(count, dtype=np.uint64)
    for offset in range(length):
        keys = (keys << np.uint64(8)) | text[offset : offset + count].astype(np.uint64)
    return keys


def _look_up(keys: _Keys, values: _Counts, queries: _Keys) -> _Counts:
    """Return the value of each queried key, 0 if it is not among the sorted ``keys``."""
    index = np.minimum(np.searchsorted(keys, queries), max(len(keys) - 1, 0))
    found: _Counts = np.where(keys[index] == queries, values[index], 0)
    return found
