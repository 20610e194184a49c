"""Classification metrics with 95% intervals: accuracy, F1, MCC, ROC and PR areas, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from titans_seq.dna.learning.calibration import calibration_error
from titans_seq.evaluation.scores.intervals import (
    bootstrap_intervals,
    percentile_interval,
    wilson_interval,
)
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import DataError

Labels = Sequence[Any] | npt.NDArray[Any]

_TABLE_SAMPLES = 1000
"""Bootstrap samples of the confusion table."""


class Classifier(Protocol):
    """The part of a fitted :class:`titans_seq.dna.TitansDNAClassifier` that scoring uses."""

    classes_: npt.NDArray[Any]

    def predict_proba(self, X: Sequence[Any]) -> npt.NDArray[Any]:
        """Return class probabilities, (records, classes)."""


def score_dna(classifier: Classifier, sequences: Sequence[Any], labels: Sequence[Any]) -> Metrics:
    """Score a fitted classifier; returns the metrics of :func:`score_classifier`."""
    return score_classifier(labels, classifier.predict_proba(sequences), classifier.classes_)


def score_classifier(labels: Labels, probabilities: npt.ArrayLike, classes: Labels) -> Metrics:
    """Score class probabilities against true labels.

    Parameters
    ----------
    labels
        True label of each record.
    probabilities
        (records, classes), each row adding up to 1.
    classes
        Label of each column.

    Returns
    -------
    Metrics
        ``accuracy``, ``f1`` (mean over classes), ``mcc``, ``auroc`` and ``auprc`` (one class
        against the rest, mean over classes), ``log_loss`` (natural logarithm) and ``ece``
        (expected calibration error), each with its 95% interval, ``..._low`` and ``..._high``
        (Wilson's for the accuracy, else bootstrap over records); and ``records``. The areas
        are NaN if ``labels`` contain only one class.

    Raises
    ------
    DataError
        If lengths differ, there are no records, or a label is not among ``classes``.
    """
    actual, chances = _checked(labels, probabilities, classes)
    predicted = chances.argmax(axis=1)
    correct = int((predicted == actual).sum())
    table = metrics.confusion_matrix(actual, predicted, labels=np.arange(chances.shape[1]))
    auroc, auprc = _curve_areas(actual, chances)
    # The clip bounds the loss of a certain but wrong answer.
    likelihood = np.clip(chances[np.arange(len(actual)), actual], 1e-12, 1)
    scores = {
        "accuracy": correct / len(actual),
        "f1": _f1(table),
        "mcc": _mcc(table),
        "auroc": auroc,
        "auprc": auprc,
        "log_loss": float(-np.log(likelihood).mean()),
        "ece": calibration_error(chances, actual),
    }
    intervals = {"accuracy": wilson_interval(correct, len(actual)), **_table_intervals(table)}
    intervals |= bootstrap_intervals(actual, chances)
    bounds = {
        f"{name}_{end}": value
        for name, interval in intervals.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    return {**scores, **bounds, "records": len(actual)}


def _checked(
    labels: Labels, probabilities: npt.ArrayLike, classes: Labels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the class index of each label, and the probabilities as an array."""
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.shape != (len(labels), len(classes)) or not len(labels):
        raise DataError(
            f"{len(labels)} labels and {len(classes)} classes do not match probabilities of shape "
            f"{chances.shape}"
        )
    return class_indices(labels, classes), chances


def class_indices(labels: Labels, classes: Labels) -> npt.NDArray[np.int64]:
    """Return the index of each label among the classes.

    Raises
    ------
    DataError
        If a label is not among them.
    """
    texts = np.asarray(labels).astype(str)
    names = np.asarray(classes).astype(str)
    unknown = sorted(set(texts) - set(names))
    if unknown:
        raise DataError(
            f"label {str(unknown[0])!r} is not one of the model's classes: {', '.join(names)}"
        )
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[text] for text in texts], dtype=np.int64)


def _curve_areas(
    actual: npt.NDArray[np.int64], chances: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return the areas under the ROC and the precision–recall curve, mean over classes."""
    classes = chances.shape[1]
    present = np.unique(actual)
    if len(present) < 2:
        return float("nan"), float("nan")
    # For two classes the areas are those of the second one; both would be the same for ROC.
    if classes == 2:
        is_class = actual[:, None] == np.array([1])
        scores = chances[:, 1:]
    else:
        is_class = label_binarize(actual, classes=np.arange(classes))[:, present]
        scores = chances[:, present]
    pairs = list(zip(is_class.T, scores.T, strict=True))
    auroc = np.mean([metrics.roc_auc_score(truth, score) for truth, score in pairs])
    auprc = np.mean([metrics.average_precision_score(truth, score) for truth, score in pairs])
    return float(auroc), float(auprc)


def _table_intervals(table: npt.NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of F1 and MCC over bootstrap samples of the records."""
    generator = np.random.default_rng(0)
    # Drawing records with replacement is drawing the cells of their confusion table.
    samples = generator.multinomial(table.sum(), table.ravel() / table.sum(), _TABLE_SAMPLES)
    tables = [sample.reshape(table.shape) for sample in samples]
    return {
        "f1": percentile_interval(np.array([_f1(sample) for sample in tables])),
        "mcc": percentile_interval(np.array([_mcc(sample) for sample in tables])),
    }


def _f1(table: npt.NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that occur or are predicted."""
    correct = np.diag(table)
    actual_and_predicted = table.sum(axis=0) + table.sum(axis=1)
    present = actual_and_predicted > 0
    return float((2 * correct[present] / actual_and_predicted[present]).mean())


def _mcc(table: npt.NDArray[np.int64]) -> float:
    """Return Matthews' correlation coefficient of a confusion table of any number of classes."""
    # The multi-class form of Gorodkin (2004), from the marginals of the table.
    total, correct = table.sum(), np.trace(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    variances = float(total**2 - (rows**2).sum()) * float(total**2 - (columns**2).sum())
    return float(total * correct - rows @ columns) / variances**0.5 if variances > 0 else 0.0
