"""What users hand to the estimators, as codes.

Sequences may be strings, Biopython's ``Seq`` and ``SeqRecord`` (told by their look, without
importing it), our own records, or arrays of codes; in a list, tuple, array, ``Series`` or
one-column frame.
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
        If ``X`` is one sequence instead of several, holds none, or holds what is no DNA; the
        message names the sequence by its index from 0.
    """
    if not hasattr(X, "__array__") and _is_sequence(X):
        raise DataError("X is a single sequence; put it in a list: [sequence]")
    if hasattr(X, "__array__"):
        X = _one_column(X)
    if not isinstance(X, Iterable):
        raise DataError(f"X is a {type(X).__name__}; it must be a list of sequences")
    codes = [
        _checked_codes(item, i) if _is_codes(item) else encode(_letters(item, i), _name(item, i))
        for i, item in enumerate(X)
    ]
    if not codes:
        raise DataError("X holds 0 sequences; at least 1 is needed")
    return codes


def _one_column(X: Any) -> Any:
    """Return the items of a series, or of a frame or array of one column."""
    values = np.asarray(X)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise DataError(f"X has shape {values.shape}; it must be one sequence a row, in one column")
    return values


def _is_sequence(item: Any) -> bool:
    """Tell whether an item is one sequence, in any of its dresses."""
    named = type(item).__name__ in {"Seq", "MutableSeq"}
    return (
        named or isinstance(item, str | bytes) or hasattr(item, "seq") or hasattr(item, "sequence")
    )


def _is_codes(item: Any) -> bool:
    """Tell whether an item is an array of codes rather than letters."""
    return isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 1


def _checked_codes(codes: Codes, index: int) -> Codes:
    """Return codes that stand for letters; see :mod:`titans_seq.dna.alphabet`."""
    if not len(codes) or codes.min() == PAD or codes.max() >= MARK:
        raise DataError(f"sequence {index}: codes are numbers from 1 to {MARK - 1}, at least one")
    return codes


def _letters(item: Any, index: int) -> str:
    """Return the letters of one sequence, whatever it came as."""
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
    """Return what to call a sequence in a message."""
    name = getattr(item, "name", None) or getattr(item, "id", None)
    return f"sequence {index}" + (f" ({name})" if isinstance(name, str) else "")
