"""What simple methods know of a text: counts of byte sequences, and compressors.

All have read the train part before they meet the test part; the compressors go on learning
there, as a memory does, the counts do not.
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

ORDERS = (0, 1, 2, 3, 5)
"""Bytes before the one that is told, of the models that are reported."""

MOST = 8_000_000
"""Bytes that are counted or compressed first: the last ones of the train part."""

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint64]

_DICTIONARY = 1 << 26
"""Bytes that lzma looks back on: all of them."""


class ByteCounts:
    """Chances of a byte given those before it, counted; Witten and Bell's estimate.

    A context that was met ``n`` times and followed by ``d`` different bytes leaves ``d`` of
    ``n + d`` parts to the context that is a byte shorter (IEEE Transactions on Information
    Theory 37, 1991, method C); the shortest leaves them to all 256 bytes alike.

    Parameters
    ----------
    order
        Bytes of the longest context, at most 7.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.tables: list[tuple[Numbers, npt.NDArray[np.int64]]] = []
        self.contexts: list[tuple[Numbers, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def fit(self, text: Bytes) -> ByteCounts:
        """Count a text."""
        for length in range(self.order + 1):
            words, counts = np.unique(_words(text, length + 1), return_counts=True)
            contexts, first, kinds = np.unique(
                words >> np.uint64(8), return_index=True, return_counts=True
            )
            self.tables.append((words, counts))
            self.contexts.append((contexts, np.add.reduceat(counts, first), kinds))
        return self

    def bits(self, text: Bytes) -> list[npt.NDArray[np.float64]]:
        """Return what each byte costs, in bits, for contexts of 0 to ``order`` bytes."""
        chance = np.full(len(text), 1 / 256)
        found = []
        for length, (table, known) in enumerate(zip(self.tables, self.contexts, strict=True)):
            words = _words(text, length + 1)
            seen, kinds = (_look_up(known[0], one, words >> np.uint64(8)) for one in known[1:])
            count = _look_up(*table, words)
            chance = chance.copy()
            shorter = chance[length:]
            weight = np.maximum(seen + kinds, 1)
            chance[length:] = np.where(seen > 0, (count + kinds * shorter) / weight, shorter)
            found.append(-np.log2(chance))
        return found


def score_byte_controls(train: Bytes, test: Bytes) -> dict[str, Metrics]:
    """Return the bits a byte that simple methods need for the test part, by their names."""
    known = np.asarray(train[-MOST:])
    counted = ByteCounts(max(ORDERS)).fit(known).bits(test)
    found = {"any byte alike": {"bits_per_byte": 8.0}}
    for order in ORDERS:
        name = f"counts, {order} byte{'s' * (order != 1)} before"
        found[name] = {"bits_per_byte": float(counted[order].mean())}
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: zlib.compress(data, 9),
        "bzip2": lambda data: bz2.compress(data, 9),
        "lzma": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_FILTERS),
    }
    first, both = known.tobytes(), known.tobytes() + np.asarray(test).tobytes()
    for name, pack in packers.items():
        size = len(pack(both)) - len(pack(first))
        found[f"{name}, after the train part"] = {"bits_per_byte": 8 * size / len(test)}
    return found


_FILTERS: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": _DICTIONARY}]


def _words(text: Bytes, length: int) -> Numbers:
    """Return the number of each stretch of ``length`` bytes, the last byte lowest."""
    count = max(len(text) - length + 1, 0)
    number = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        number = (number << np.uint64(8)) | text[place : place + count].astype(np.uint64)
    return number


def _look_up(
    keys: Numbers, values: npt.NDArray[np.int64], wanted: Numbers
) -> npt.NDArray[np.int64]:
    """Return the value of each key that is wanted; 0 of those that are not there."""
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    found: npt.NDArray[np.int64] = np.where(keys[place] == wanted, values[place], 0)
    return found
