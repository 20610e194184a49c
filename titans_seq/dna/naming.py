"""From probabilities to what a sequence is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def name_classes(
    chances: Array, classes: Array, doubtful: npt.NDArray[np.bool_], *, threshold: float | None,
    unclassified: Any,
) -> Array:  # fmt: skip
    """Return the likeliest class of each row, or what stands for none.

    Parameters
    ----------
    chances
        (rows, classes).
    classes
        Name of each column.
    doubtful
        Rows that get no class whatever their chances.
    threshold
        Least chance of a class that is given; None: any will do.
    unclassified
        What the others are called.
    """
    labels: Array = classes[chances.argmax(axis=-1)]
    if threshold is not None:
        doubtful = doubtful | (chances.max(axis=-1) < threshold)
    return _with_unclassified(labels, doubtful, unclassified) if doubtful.any() else labels


def name_labels(
    chances: Array, doubtful: npt.NDArray[np.bool_], threshold: float | None
) -> npt.NDArray[np.int64]:
    """Return 0 and 1 for each label: those whose chance reaches the threshold (None: 0.5)."""
    given = chances >= (0.5 if threshold is None else threshold)
    return np.asarray((given & ~doubtful[:, None]).astype(np.int64))


def _with_unclassified(labels: Array, doubtful: npt.NDArray[np.bool_], name: Any) -> Array:
    """Return labels with a name in place of some; words and numbers do not mix in one type."""
    kind = np.asarray(name).dtype
    same = kind.kind == labels.dtype.kind or {kind.kind, labels.dtype.kind} <= set("iuf")
    mixed = labels.astype(np.result_type(kind, labels.dtype) if same else object)
    mixed[doubtful] = name
    return mixed
