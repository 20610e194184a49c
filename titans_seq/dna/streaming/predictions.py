"""Predictions of a fitted classifier or regressor, and the names of their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes

BATCH_LETTERS = 1 << 14
"""Approximate number of letters predicted in one call: activations of more leave the cache."""

Item = TypeVar("Item")


class OutputNames(NamedTuple):
    """Names of an estimator's outputs."""

    names: list[str]
    """Classes, labels, or values."""

    columns: list[str]
    """Their columns in a table: ``p(name)`` of a probability."""

    are_probabilities: bool
    """Whether the outputs are probabilities, and sequences have labels; False for a regressor."""


class SequencePredictions(NamedTuple):
    """Predictions for several sequences."""

    values: npt.NDArray[np.float64]
    """(sequences, outputs): probabilities, or values."""

    labels: npt.NDArray[Any] | None
    """Label of each sequence, several joined by ``;``; None of a regressor."""


def output_names(estimator: Any) -> OutputNames:
    """Return the names of the outputs of a fitted classifier or regressor."""
    if hasattr(estimator, "predict_proba"):
        names = [str(name) for name in estimator.classes_]
        return OutputNames(names, [f"p({name})" for name in names], True)
    names = [str(name) for name in estimator.names_]
    unnamed = names == ["0"]  # the name of a single column given as an array
    columns = ["value"] if unnamed else [f"value({name})" for name in names]
    return OutputNames(names, columns, False)


def predict_sequences(estimator: Any, sequences: Sequence[Codes]) -> SequencePredictions:
    """Return the predictions of a fitted classifier or regressor for some sequences."""
    if not hasattr(estimator, "predict_proba"):
        values = np.asarray(estimator.predict(sequences), dtype=np.float64)
        return SequencePredictions(values.reshape(len(sequences), -1), None)
    probabilities = estimator.predict_proba(sequences)
    labels = np.asarray(estimator.decide(probabilities, [len(codes) for codes in sequences]))
    if labels.ndim == 2:
        labels = _joined_labels(labels, estimator)
    return SequencePredictions(probabilities, labels)


def concatenate_predictions(
    parts: Sequence[SequencePredictions], keys: Sequence[int]
) -> SequencePredictions:
    """Return the predictions of all parts, sorted by the keys of their sequences."""
    order = np.argsort(np.asarray(keys))
    values = np.concatenate([part.values for part in parts])[order]
    labels = [part.labels for part in parts if part.labels is not None]
    return SequencePredictions(values, np.concatenate(labels)[order] if labels else None)


def _joined_labels(indicators: npt.NDArray[Any], estimator: Any) -> npt.NDArray[Any]:
    """Return the labels of each row of 0 and 1 as one string."""
    names = np.array([str(name) for name in estimator.classes_])
    joined = [
        ";".join(names[row.astype(bool)]) or str(estimator.unclassified) for row in indicators
    ]
    return np.array(joined, dtype=object)


def letter_batches(items: Iterable[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield items in batches of about ``BATCH_LETTERS`` letters, enough to be worth a call."""
    batch: list[Item] = []
    letters = 0
    for item in items:
        batch.append(item)
        letters += length(item)
        if letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
