"""What users hand to the classifier, as codes and checked labels.

Sequences may be strings, Biopython's ``Seq`` and ``SeqRecord`` (told by their look, without
importing it), our own records, or arrays of codes; in a list, tuple, array, ``Series`` or
one-column frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from titans_seq.dna.alphabet import MARK, PAD, Codes, encode, reverse_complement
from titans_seq.exceptions import ConfigError, DataError

Indices = npt.NDArray[np.int64]


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


def check_labels(y: Any, rows: int) -> tuple[npt.NDArray[Any], Indices]:
    """Return the classes, sorted, and the index of each row's class.

    Raises
    ------
    DataError
        If there is no label for each row, a label is missing, or all are the same.
    """
    if y is None:
        raise DataError("fit needs labels: requires y to be passed, but the target y is None")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != rows:
        raise DataError(f"fit got {rows} sequences but labels of shape {labels.shape}")
    missing = [i for i, label in enumerate(labels.tolist()) if label is None or label != label]
    if missing:
        raise DataError(f"label {missing[0]} is missing (None or NaN); every sequence needs one")
    try:
        check_classification_targets(labels)
        classes, targets = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"the labels are not classes: {error}") from error
    if len(classes) < 2:
        raise DataError(
            f"every label is {classes.tolist()[0]!r}; a classifier needs at least two classes"
        )
    return classes, targets.astype(np.int64)


def row_weights(
    classes: npt.NDArray[Any], targets: Indices, class_weight: Any, sample_weight: Any
) -> npt.NDArray[np.float32]:
    """Return what each row counts in the loss; the mean is 1.

    Raises
    ------
    ConfigError
        If ``class_weight`` is not ``None``, ``"balanced"`` or a dict by label.
    DataError
        If the sample weights do not fit the rows, are negative, or all zero.
    """
    weights = np.ones(len(targets))
    if class_weight is not None:
        try:
            by_class = compute_class_weight(class_weight, classes=classes, y=classes[targets])
        except ValueError as error:
            raise ConfigError(f"class_weight={class_weight!r}: {error}") from error
        weights = weights * by_class[targets]
    if sample_weight is not None:
        given = np.asarray(sample_weight, dtype=np.float64)
        if given.shape != weights.shape or (given < 0).any() or not np.isfinite(given).all():
            raise DataError(
                f"sample_weight of shape {given.shape} for {len(weights)} sequences; give one "
                "weight of at least 0 to each"
            )
        weights = weights * given
    if weights.sum() <= 0:
        raise DataError("every weight is 0; at least one sequence must count")
    scaled: npt.NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return scaled


def hold_out(
    rows: Sequence[Codes], targets: Indices, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Part rows into those to train on and those to choose the best epoch by.

    Each class gives its share, and sequences that are equal, or each other's reverse
    complement, stay on one side.

    Returns
    -------
        Indices to train on, and indices held out.
    """
    quota = np.floor(np.bincount(targets) * fraction)
    held = np.zeros(len(rows), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(rows))
    members: dict[bytes, list[int]] = {}
    for index in order.tolist():
        strands = rows[index].tobytes(), reverse_complement(rows[index]).tobytes()
        members.setdefault(min(strands), []).append(index)
    for together in members.values():
        label = targets[together[0]]
        if quota[label] >= len(together):
            held[together] = True
            quota[label] -= len(together)
    return np.flatnonzero(~held), np.flatnonzero(held)
