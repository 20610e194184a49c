"""What sequences are to be told apart by: labels, sets of labels, or values, checked.

Whatever users hand in comes out as a :class:`Target`: what the network learns from, and the
names of its outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.learning.tasks import Task
from titans_seq.dna.learning.windows import Labelled
from titans_seq.exceptions import ConfigError, DataError

Indices = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Target(NamedTuple):
    """What to learn for each sequence."""

    task: Task
    """See :mod:`titans_seq.dna.learning.tasks`."""

    values: Array
    """Index of the class (rows), or 0 and 1 for each label, or values (rows, outputs)."""

    names: Array
    """The classes, sorted; or the names of the labels or values, by column."""

    @property
    def strata(self) -> Indices:
        """Parts of the rows that a held-out share is taken from evenly."""
        if self.task == "classes":
            return self.values
        return np.zeros(len(self.values), dtype=np.int64)


def read_target(y: Any, rows: int, known: Array | None = None) -> Target:
    """Return classes or sets of labels as a target.

    Parameters
    ----------
    y
        One label a row; or a table of 0 and 1 with a column for each of several labels (a
        frame's column names are kept).
    rows
        Sequences there are.
    known
        The classes that there may be; left out, those that occur, two at least.

    Raises
    ------
    DataError
        If there is no label for each row, a label is missing or unknown, or all are the same.
    """
    if y is None:
        raise DataError("fit needs labels: requires y to be passed, but the target y is None")
    columns = getattr(y, "columns", None)
    y = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    if y.ndim == 2 and y.shape[1] > 1 and len(y) == rows:
        return _label_sets(y, columns)
    labels = _one_each(y, rows, "labels")
    try:
        check_classification_targets(labels)
        names = np.unique(labels) if known is None else known
    except (TypeError, ValueError) as error:
        raise DataError(f"the labels are not classes: {error}") from error
    strange = np.flatnonzero(~np.isin(labels, names))
    if len(strange):
        raise DataError(
            f"label {labels.tolist()[strange[0]]!r} of sequence {strange[0]} is none of the "
            f"classes {names.tolist()}"
        )
    if len(names) < 2:
        raise DataError(
            f"every label is {names.tolist()[0]!r}, one class; a classifier needs at least "
            "two classes"
        )
    return Target("classes", np.searchsorted(names, labels).astype(np.int64), names)


def check_classes(classes: Any, before: Array | None) -> Array:
    """Return every class that will ever come, sorted; it may not change from call to call.

    Raises
    ------
    DataError
        If none are given in the first call, or others than before.
    """
    if classes is None:
        raise DataError("classes must be passed on the first call to partial_fit")
    found: Array = np.unique(np.asarray(classes))
    if before is not None and not np.array_equal(found, before):
        raise DataError(f"classes={found.tolist()}: the call before had {before.tolist()}")
    return found


def _label_sets(y: Array, columns: Any) -> Target:
    """Return a table of 0 and 1 as a target."""
    if not np.isin(y, (0, 1)).all():
        raise DataError(
            f"labels of shape {y.shape} are not classes: a table of several labels holds 0 and 1 "
            "only"
        )
    names = np.arange(y.shape[1]) if columns is None else np.asarray(columns)
    return Target("labels", y.astype(np.float32), names)


def read_values(y: Any, rows: int) -> Target:
    """Return numbers to predict as a target, (rows, outputs), in their own units.

    Raises
    ------
    DataError
        If there is not a finite number for each row, or nothing varies.
    """
    if y is None:
        raise DataError("fit needs values: requires y to be passed, but the target y is None")
    columns = getattr(y, "columns", None)
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the values are not numbers: {error}") from error
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        values = _one_each(values, rows, "values")[:, None]
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DataError(f"value {wrong[0]} is infinite or missing (NaN); finite ones are right")
    names = np.arange(values.shape[1]) if columns is None else np.asarray(columns)
    return Target("values", values, names)


def _one_each(values: Array, rows: int, what: str) -> Array:
    """Return one label or value a row, refusing what is none."""
    if values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; y.ravel() is one",
            DataConversionWarning,
            stacklevel=5,
        )
        values = values[:, 0]
    if values.ndim != 1 or len(values) != rows:
        raise DataError(f"fit got {rows} sequences but {what} of shape {values.shape}")
    missing = [i for i, one in enumerate(values.tolist()) if one is None or one != one]
    if missing:
        raise DataError(
            f"{what[:-1]} {missing[0]} is missing (None or NaN); every sequence needs one"
        )
    return values


def row_weights(target: Target, class_weight: Any, sample_weight: Any) -> npt.NDArray[np.float32]:
    """Return what each row counts in the loss; the mean is 1.

    Raises
    ------
    ConfigError
        If ``class_weight`` is not ``None``, ``"balanced"`` or a dict by label, or rows have
        several labels.
    DataError
        If the sample weights do not fit the rows, are negative, or all zero.
    """
    weights = np.ones(len(target.values))
    if class_weight is not None and target.task != "classes":
        raise ConfigError(f"class_weight={class_weight!r}: None is right for several labels a row")
    if class_weight is not None:
        labels = target.names[target.values]
        try:
            by_class = compute_class_weight(class_weight, classes=target.names, y=labels)
        except ValueError as error:
            raise ConfigError(f"class_weight={class_weight!r}: {error}") from error
        weights = weights * by_class[target.values]
    if sample_weight is not None:
        given = np.asarray(sample_weight, dtype=np.float64)
        if given.shape != weights.shape or (given < 0).any() or not np.isfinite(given).all():
            raise DataError(
                f"sample_weight of shape {given.shape} for {len(weights)} sequences; give one "
                "weight of at least 0 to each"
            )
        weights = weights * given
    if weights.sum() <= 0:
        raise DataError("every weight is zero; at least one sequence must count")
    scaled: npt.NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return scaled


def hold_out(
    rows: Sequence[Codes], strata: Indices, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Part rows into those to train on and those to choose the best epoch by.

    Each stratum (class) gives its share, and sequences that are equal, or each other's reverse
    complement, stay on one side.

    Returns
    -------
        Indices to train on, and indices held out.
    """
    quota = np.floor(np.bincount(strata) * fraction)
    held = np.zeros(len(rows), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(rows))
    members: dict[bytes, list[int]] = {}
    for index in order.tolist():
        strands = rows[index].tobytes(), reverse_complement(rows[index]).tobytes()
        members.setdefault(min(strands), []).append(index)
    for together in members.values():
        stratum = strata[together[0]]
        if quota[stratum] >= len(together):
            held[together] = True
            quota[stratum] -= len(together)
    return np.flatnonzero(~held), np.flatnonzero(held)


def part_rows(data: Labelled, target: Target, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return rows to learn from and rows held out, both of some weight, or all and none."""
    learn, held = hold_out(data.rows, target.strata, share, seed)
    if not data.weights[held].sum() or not data.weights[learn].sum():
        learn, held = np.arange(len(data.rows)), np.arange(0)
    return data.at(learn), data.at(held)
