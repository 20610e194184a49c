"""How a classifier is scored: accuracy, F1, MCC, the areas under two curves, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from titans_seq.exceptions import DataError

Metrics = dict[str, float]
Array = npt.NDArray[np.float64]

CALIBRATION_BINS = 15
BOOTSTRAP_SAMPLES = 1000


class Classifier(Protocol):
    """What scoring needs of a fitted :class:`titans_seq.dna.TitansDNAClassifier`."""

    classes_: npt.NDArray[Any]

    def predict_proba(self, X: Sequence[Any]) -> npt.NDArray[Any]:
        """Return (records, classes)."""


def score_dna(classifier: Classifier, sequences: Sequence[Any], labels: Sequence[Any]) -> Metrics:
    """Score a fitted classifier; see :func:`score_classifier` for what comes back."""
    return score_classifier(labels, classifier.predict_proba(sequences), classifier.classes_)


def score_classifier(
    labels: Sequence[Any], probabilities: npt.ArrayLike, classes: Sequence[Any] | npt.NDArray[Any]
) -> Metrics:
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
        ``accuracy`` with ``accuracy_low`` and ``accuracy_high`` (Wilson, 95%), ``f1`` (mean over
        classes), ``mcc`` with ``mcc_low`` and ``mcc_high`` (bootstrap over records, 95%),
        ``auroc`` and ``auprc`` (one class against the rest, mean over classes), ``log_loss``
        (natural logarithm), ``ece`` (expected calibration error) and ``records``. The areas are
        NaN where ``labels`` hold one class only.

    Raises
    ------
    DataError
        If lengths differ, nothing is to be scored, or a label is none of ``classes``.
    """
    actual, chances = _checked(labels, probabilities, classes)
    guess = chances.argmax(axis=1)
    right = int((guess == actual).sum())
    low, high = wilson_interval(right, len(actual))
    table = metrics.confusion_matrix(actual, guess, labels=np.arange(chances.shape[1]))
    mcc_low, mcc_high = _mcc_interval(table)
    auroc, auprc = _areas(actual, chances)
    likelihood = np.clip(chances[np.arange(len(actual)), actual], 1e-12, 1)
    return {
        "accuracy": right / len(actual),
        "accuracy_low": low,
        "accuracy_high": high,
        "f1": float(metrics.f1_score(actual, guess, average="macro", zero_division=0)),
        "mcc": _mcc(table),
        "mcc_low": mcc_low,
        "mcc_high": mcc_high,
        "auroc": auroc,
        "auprc": auprc,
        "log_loss": float(-np.log(likelihood).mean()),
        "ece": _calibration_error(chances, guess == actual),
        "records": len(actual),
    }


def _checked(
    labels: Sequence[Any], probabilities: npt.ArrayLike, classes: Sequence[Any] | npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the column of each label, and the probabilities as numbers."""
    truth = np.asarray(labels).astype(str)
    names = np.asarray(classes).astype(str)
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.shape != (len(truth), len(names)) or not len(truth):
        raise DataError(
            f"{len(truth)} labels and {len(names)} classes do not fit probabilities of shape "
            f"{chances.shape}"
        )
    unknown = sorted(set(truth) - set(names))
    if unknown:
        raise DataError(
            f"label {str(unknown[0])!r} is none of the model's classes: {', '.join(names)}"
        )
    column = {name: number for number, name in enumerate(names)}
    return np.array([column[name] for name in truth], dtype=np.int64), chances


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


def _mcc_interval(table: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95% interval of MCC over bootstrap samples of the records."""
    generator = np.random.default_rng(0)
    # Drawing records with replacement is drawing the cells of their confusion table.
    samples = generator.multinomial(table.sum(), table.ravel() / table.sum(), BOOTSTRAP_SAMPLES)
    found = [_mcc(sample.reshape(table.shape)) for sample in samples]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _mcc(table: npt.NDArray[np.int64]) -> float:
    """Return Matthews' correlation of a confusion table of any number of classes."""
    total, right = table.sum(), np.trace(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    spread = float(total**2 - (rows**2).sum()) * float(total**2 - (columns**2).sum())
    return float(total * right - rows @ columns) / spread**0.5 if spread > 0 else 0.0


def _calibration_error(chances: Array, right: npt.NDArray[np.bool_]) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence."""
    confidence = chances.max(axis=1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        abs(confidence[bins == number].sum() - right[bins == number].sum())
        for number in np.unique(bins)
    ]
    return float(np.sum(gaps) / len(right))
