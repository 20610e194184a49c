"""How a classifier is scored: accuracy, F1, MCC, the areas under two curves, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from titans_seq.dna.learning.calibration import calibration_error
from titans_seq.evaluation.scores.intervals import bootstrap_intervals, interval
from titans_seq.exceptions import DataError

Metrics = dict[str, float]
Array = npt.NDArray[np.float64]
Labels = Sequence[Any] | npt.NDArray[Any]

BOOTSTRAP_SAMPLES = 1000


class Classifier(Protocol):
    """What scoring needs of a fitted :class:`titans_seq.dna.TitansDNAClassifier`."""

    classes_: npt.NDArray[Any]

    def predict_proba(self, X: Sequence[Any]) -> npt.NDArray[Any]:
        """Return (records, classes)."""


def score_dna(classifier: Classifier, sequences: Sequence[Any], labels: Sequence[Any]) -> Metrics:
    """Score a fitted classifier; see :func:`score_classifier` for what comes back."""
    return score_classifier(labels, classifier.predict_proba(sequences), classifier.classes_)


def score_classifier(labels: Labels, probabilities: npt.ArrayLike, classes: Labels) -> Metrics:
    """Score probabilities against labels.

    Parameters
    ----------
    labels
        What each record is.
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
        are NaN where ``labels`` hold one class only.

    Raises
    ------
    DataError
        If lengths differ, nothing is to be scored, or a label is none of ``classes``.
    """
    actual, chances = _checked(labels, probabilities, classes)
    guess = chances.argmax(axis=1)
    right = int((guess == actual).sum())
    table = metrics.confusion_matrix(actual, guess, labels=np.arange(chances.shape[1]))
    auroc, auprc = _areas(actual, chances)
    likelihood = np.clip(chances[np.arange(len(actual)), actual], 1e-12, 1)
    found = {
        "accuracy": right / len(actual),
        "f1": _f1(table),
        "mcc": _mcc(table),
        "auroc": auroc,
        "auprc": auprc,
        "log_loss": float(-np.log(likelihood).mean()),
        "ece": calibration_error(chances, actual),
    }
    reach = {"accuracy": wilson_interval(right, len(actual)), **_table_intervals(table)}
    reach |= bootstrap_intervals(actual, chances)
    ends = {
        f"{name}_{end}": value
        for name, pair in reach.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    return {**found, **ends, "records": len(actual)}


def _checked(
    labels: Labels, probabilities: npt.ArrayLike, classes: Labels
) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the column of each label, and the probabilities as numbers."""
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.shape != (len(labels), len(classes)) or not len(labels):
        raise DataError(
            f"{len(labels)} labels and {len(classes)} classes do not fit probabilities of shape "
            f"{chances.shape}"
        )
    return columns_of(labels, classes), chances


def columns_of(labels: Labels, classes: Labels) -> npt.NDArray[np.int64]:
    """Return the place of each label among the classes.

    Raises
    ------
    DataError
        If a label is none of them.
    """
    truth = np.asarray(labels).astype(str)
    names = np.asarray(classes).astype(str)
    unknown = sorted(set(truth) - set(names))
    if unknown:
        raise DataError(
            f"label {str(unknown[0])!r} is none of the model's classes: {', '.join(names)}"
        )
    column = {name: number for number, name in enumerate(names)}
    return np.array([column[name] for name in truth], dtype=np.int64)


def wilson_interval(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval of a share, 95% unless ``z`` says otherwise."""
    share = right / count
    middle = share + z**2 / (2 * count)
    reach = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    whole = 1 + z**2 / count
    return max(0.0, float((middle - reach) / whole)), min(1.0, float((middle + reach) / whole))


def _areas(actual: npt.NDArray[np.int64], chances: Array) -> tuple[float, float]:
    """Return the areas under the ROC and the precision–recall curve, mean over classes."""
    classes = chances.shape[1]
    present = np.unique(actual)
    if len(present) < 2:
        return float("nan"), float("nan")
    if classes == 2:
        is_class = actual[:, None] == np.array([1])
        scores = chances[:, 1:]
    else:
        is_class = label_binarize(actual, classes=np.arange(classes))[:, present]
        scores = chances[:, present]
    pairs = list(zip(is_class.T, scores.T, strict=True))
    auroc = np.mean([metrics.roc_auc_score(one, score) for one, score in pairs])
    auprc = np.mean([metrics.average_precision_score(one, score) for one, score in pairs])
    return float(auroc), float(auprc)


def _table_intervals(table: npt.NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of F1 and MCC over bootstrap samples of the records."""
    generator = np.random.default_rng(0)
    # Drawing records with replacement is drawing the cells of their confusion table.
    samples = generator.multinomial(table.sum(), table.ravel() / table.sum(), BOOTSTRAP_SAMPLES)
    tables = [sample.reshape(table.shape) for sample in samples]
    return {
        "f1": interval(np.array([_f1(one) for one in tables])),
        "mcc": interval(np.array([_mcc(one) for one in tables])),
    }


def _f1(table: npt.NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that occur or are called."""
    right = np.diag(table)
    either = table.sum(axis=0) + table.sum(axis=1)
    return float((2 * right[either > 0] / either[either > 0]).mean())


def _mcc(table: npt.NDArray[np.int64]) -> float:
    """Return Matthews' correlation of a confusion table of any number of classes."""
    total, right = table.sum(), np.trace(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    spread = float(total**2 - (rows**2).sum()) * float(total**2 - (columns**2).sum())
    return float(total * right - rows @ columns) / spread**0.5 if spread > 0 else 0.0
