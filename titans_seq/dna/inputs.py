"""Convert the sequences given to the estimators to codes.

Sequences may be strings, Biopython's ``Seq`` and ``SeqRecord`` (recognised by their attributes,
without importing it), our own records, or arrays of codes; in a list, tuple, array, ``Series`` or
data frame of one column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from titans_seq.dna.alphabet import MARK, PAD, Codes, encode
from titans_seq.exceptions import DataError


def encode_all(X: Any) -> list[Codes]:
    """Return the codes of every sequence.

    Raises
    ------
    DataError
        If ``X`` is one sequence instead of several, is empty, or contains something other than
        DNA; the message names the sequence by its index from 0.
    """
    if hasattr(X, "__array__"):
        X = _column(X)
    elif _is_sequence(X):
        raise DataError("X is a single sequence; put it in a list: [sequence]")
    if not isinstance(X, Iterable):
        raise DataError(f"X is a {type(X).__name__}; it must be a list of sequences")
    codes = [
        _checked_codes(item, i) if _is_codes(item) else encode(_letters(item, i), _name(item, i))
        for i, item in enumerate(X)
    ]
    if not codes:
        raise DataError("X contains 0 sequences; at least 1 is needed")
    return codes


def _column(X: Any) -> Any:
    """Return the items of a series, or of a data frame or array of one column."""
    values = np.asarray(X)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise DataError(f"X has shape {values.shape}; it must have one column")
    return values


def _is_sequence(item: Any) -> bool:
    """Return whether an item is one sequence, of any supported type."""
    return (
        isinstance(item, str | bytes)
        or type(item).__name__ in {"Seq", "MutableSeq"}
        or hasattr(item, "seq")
        or hasattr(item, "sequence")
    )


def _is_codes(item: Any) -> bool:
    """Return whether an item is an array of codes rather than letters."""
    return isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 1


def _checked_codes(codes: Codes, index: int) -> Codes:
    """Return codes unchanged; raise unless all stand for letters."""
    if not len(codes) or codes.min() == PAD or codes.max() >= MARK:
        raise DataError(f"sequence {index}: codes must be numbers from 1 to {MARK - 1}, not empty")
    return codes


def _letters(item: Any, index: int) -> str:
    """Return the letters of one sequence of any supported type."""
    for attribute in ("sequence", "seq"):
        item = getattr(item, attribute, item)
    if isinstance(item, str):
        return item
    if isinstance(item, bytes):
        return item.decode("latin-1")
    if type(item).__name__ in {"Seq", "MutableSeq"}:
        return str(item)
    raise DataError(
        f"sequence {index} is a {type(item).__name__} ({item!r:.40}), not a string of letters"
    )


def _name(item: Any, index: int) -> str:
    """Return the name of a sequence for messages."""
    name = getattr(item, "name", None) or getattr(item, "id", None)
    return f"sequence {index}" + (f" ({name})" if isinstance(name, str) else "")
