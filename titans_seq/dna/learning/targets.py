"""Validate the targets of a training: classes, sets of labels, or values."""

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
from titans_seq.dna.learning.batches import WeightedSequences
from titans_seq.dna.learning.tasks import DNATask
from titans_seq.exceptions import ConfigError, DataError


class Target(NamedTuple):
    """Targets of a training, and the names of the outputs."""

    task: DNATask
    """See :mod:`titans_seq.dna.learning.tasks`."""

    values: npt.NDArray[Any]
    """Index of the class (rows), or 0 and 1 for each label, or values (rows, outputs)."""

    names: npt.NDArray[Any]
    """The classes, sorted; or the names of the labels or values, by column."""

    @property
    def strata(self) -> npt.NDArray[np.int64]:
        """Stratum of each row, for a stratified split."""
        if self.task == "classes":
            return self.values
        return np.zeros(len(self.values), dtype=np.int64)


def check_labels(y: Any, rows: int, known: npt.NDArray[Any] | None = None) -> Target:
    """Return classes or sets of labels as a target.

    Parameters
    ----------
    y
        One label per row; or a matrix of 0 and 1 with a column for each of several labels (the
        column names of a data frame are kept).
    rows
        Number of sequences.
    known
        All classes that may occur; by default, those that do, at least two.

    Raises
    ------
    DataError
        If a row has no label, a label is missing or unknown, or all are the same.
    """
    if y is None:
        raise DataError("fit needs labels: requires y to be passed, but the target y is None")
    columns = getattr(y, "columns", None)
    y = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    if y.ndim == 2 and y.shape[1] > 1 and len(y) == rows:
        return _indicator_target(y, columns)
    labels = _column_of(y, rows, "labels")
    try:
        check_classification_targets(labels)
        names = np.unique(labels) if known is None else known
    except (TypeError, ValueError) as error:
        raise DataError(f"the labels are not classes: {error}") from error
    unknown = np.flatnonzero(~np.isin(labels, names))
    if len(unknown):
        raise DataError(
            f"label {labels.tolist()[unknown[0]]!r} of sequence {unknown[0]} is not one of the "
            f"classes {names.tolist()}"
        )
    if len(names) < 2:
        raise DataError(
            f"every label is {names.tolist()[0]!r}, one class; a classifier needs at least "
            "two classes"
        )
    return Target("classes", np.searchsorted(names, labels).astype(np.int64), names)


def check_classes(classes: Any, previous: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Return all classes, sorted; they may not change from one ``partial_fit`` to the next.

    Raises
    ------
    DataError
        If they are missing in the first call, or differ from the previous ones.
    """
    if classes is None:
        raise DataError("classes must be passed on the first call to partial_fit")
    names: npt.NDArray[Any] = np.unique(np.asarray(classes))
    if previous is not None and not np.array_equal(names, previous):
        raise DataError(
            f"classes must be the same in every call: {previous.tolist()}, got {names.tolist()}"
        )
    return names


def _indicator_target(y: npt.NDArray[Any], columns: Any) -> Target:
    """Return a matrix of 0 and 1 as a target."""
    if not np.isin(y, (0, 1)).all():
        raise DataError(
            f"labels of shape {y.shape} are not classes: a matrix of several labels must contain "
            "only 0 and 1"
        )
    names = np.arange(y.shape[1]) if columns is None else np.asarray(columns)
    return Target("labels", y.astype(np.float32), names)


def check_values(y: Any, rows: int) -> Target:
    """Return numbers to predict as a target, (rows, outputs), in their own units.

    Raises
    ------
    DataError
        If there is not a finite number for each row.
    """
    if y is None:
        raise DataError("fit needs values: requires y to be passed, but the target y is None")
    columns = getattr(y, "columns", None)
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the values are not numbers: {error}") from error
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        values = _column_of(values, rows, "values")[:, None]
    invalid = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(invalid):
        raise DataError(f"value {invalid[0]} is infinite or missing (NaN); it must be finite")
    names = np.arange(values.shape[1]) if columns is None else np.asarray(columns)
    return Target("values", values, names)


def _column_of(values: npt.NDArray[Any], rows: int, what: str) -> npt.NDArray[Any]:
    """Return one label or value per row; raise if the shape differs or some are missing."""
    if values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; y.ravel() is one",
            DataConversionWarning,
            stacklevel=5,
        )
        values = values[:, 0]
    if values.ndim != 1 or len(values) != rows:
        raise DataError(f"fit got {rows} sequences but {what} of shape {values.shape}")
    missing = [i for i, value in enumerate(values.tolist()) if value is None or value != value]
    if missing:
        raise DataError(
            f"{what[:-1]} {missing[0]} is missing (None or NaN); every sequence needs one"
        )
    return values


def row_weights(target: Target, class_weight: Any, sample_weight: Any) -> npt.NDArray[np.float32]:
    """Return the weight of each row in the loss; the mean is 1.

    Raises
    ------
    ConfigError
        If ``class_weight`` is not None, ``"balanced"`` or a dict by label, or rows have several
        labels.
    DataError
        If the sample weights do not fit the rows, are negative, or all zero.
    """
    weights = np.ones(len(target.values))
    if class_weight is not None and target.task != "classes":
        raise ConfigError(
            f"class_weight must be None for several labels per row, got {class_weight!r}"
        )
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
                f"sample_weight must be one finite weight of at least 0 for each of "
                f"{len(weights)} sequences, got shape {given.shape}"
            )
        weights = weights * given
    if weights.sum() <= 0:
        raise DataError("every weight is zero; at least one must be positive")
    scaled: npt.NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return scaled


def stratified_holdout(
    sequences: Sequence[Codes], strata: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows into those to train on and those to hold out.

    The same fraction of each stratum (class) is held out, and sequences that are equal, or
    reverse complements of each other, stay on one side.

    Returns
    -------
        Indices to train on, and indices held out.
    """
    quota = np.floor(np.bincount(strata) * fraction)
    held_out = np.zeros(len(sequences), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(sequences))
    groups: dict[bytes, list[int]] = {}
    for index in order.tolist():
        strands = sequences[index].tobytes(), reverse_complement(sequences[index]).tobytes()
        groups.setdefault(min(strands), []).append(index)
    for group in groups.values():
        stratum = strata[group[0]]
        if quota[stratum] >= len(group):
            held_out[group] = True
            quota[stratum] -= len(group)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_validation(
    data: WeightedSequences, target: Target, fraction: float, seed: int
) -> tuple[WeightedSequences, WeightedSequences]:
    """Return rows to train on and rows held out; all and none if either had no weight."""
    training, held_out = stratified_holdout(data.sequences, target.strata, fraction, seed)
    if not data.weights[held_out].sum() or not data.weights[training].sum():
        training, held_out = np.arange(len(data.sequences)), np.arange(0)
    return data.subset(training), data.subset(held_out)
