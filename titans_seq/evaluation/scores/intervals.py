"""Intervals of scores: what they would have been on other rows of the same kind.

Rows are drawn with replacement (the bootstrap). A drawn set is a count for each row, and every
score is computed from the counts at once, without a loop over the sets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from titans_seq.dna.learning.calibration import confidence_bins

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.floating]
"""(samples, rows): how often each row was drawn."""

SAMPLES = 400
LEVEL = (0.025, 0.975)
"""Quantiles of a 95% interval."""

_AT_ONCE = 4_000_000
"""Counts that are held at a time."""


def bootstrap_intervals(
    actual: npt.NDArray[np.int64], chances: Array, samples: int = SAMPLES
) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of the scores that depend on more than the confusion table.

    Parameters
    ----------
    actual
        Column of each row's class.
    chances
        (rows, classes), each row adding up to 1.
    samples
        Sets of rows that are drawn.

    Returns
    -------
        ``auroc``, ``auprc`` (NaN where a class is missing from every set), ``log_loss`` and
        ``ece``, each with its lower and upper end.
    """
    rows = len(actual)
    generator = np.random.default_rng(0)
    found: dict[str, list[Array]] = {"auroc": [], "auprc": [], "log_loss": [], "ece": []}
    size = max(1, _AT_ONCE // rows)
    for start in range(0, samples, size):
        some = min(size, samples - start)
        drawn = generator.integers(0, rows, (some, rows)) + rows * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * rows).reshape(some, rows) * 1.0
        for name, values in _scores(actual, chances, counts).items():
            found[name].append(values)
    return {name: interval(np.concatenate(values)) for name, values in found.items()}


def interval(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return the 95% interval of a bootstrapped score."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, LEVEL)
    return float(low), float(high)


def _scores(actual: npt.NDArray[np.int64], chances: Array, counts: Counts) -> Mapping[str, Array]:
    """Return every score of every drawn set."""
    classes = [1] if chances.shape[1] == 2 else range(chances.shape[1])
    areas = [_areas(actual == one, chances[:, one], counts) for one in classes]
    present = ~np.isnan([roc for roc, _ in areas])
    known = np.maximum(present.sum(axis=0), 1)
    roc, precision = (np.nansum([pair[i] for pair in areas], axis=0) / known for i in (0, 1))
    none = ~present.any(axis=0)
    roc[none] = precision[none] = np.nan
    likelihood = np.clip(chances[np.arange(len(actual)), actual], 1e-12, 1)
    return {
        "auroc": roc,
        "auprc": precision,
        "log_loss": counts @ -np.log(likelihood) / counts.sum(axis=1),
        "ece": _calibration_errors(actual, chances, counts),
    }


def _areas(is_class: npt.NDArray[np.bool_], scores: Array, counts: Counts) -> tuple[Array, Array]:
    """Return the areas under ROC and precision–recall curve of every drawn set."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    right = np.cumsum(counts[:, order] * is_class[order], axis=1)[:, ends]
    called = np.cumsum(counts[:, order], axis=1)[:, ends]
    wrong = called - right
    start = np.zeros((len(counts), 1))
    gained = np.diff(right, axis=1, prepend=start)
    positives, negatives = right[:, -1], wrong[:, -1]
    between = right - gained / 2
    pairs = (np.diff(wrong, axis=1, prepend=start) * between).sum(axis=1)
    precision = (gained * right / np.maximum(called, 1)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        missing = np.where(positives * negatives > 0, 1.0, np.nan)
        return missing * (pairs / (positives * negatives)), missing * (precision / positives)


def _calibration_errors(actual: npt.NDArray[np.int64], chances: Array, counts: Counts) -> Array:
    """Return the expected calibration error of every drawn set."""
    confidence = chances.max(axis=1)
    gap = confidence - (chances.argmax(axis=1) == actual)
    member = confidence_bins(confidence)[:, None] == np.unique(confidence_bins(confidence))
    errors: Array = np.abs(counts @ (gap[:, None] * member)).sum(axis=1) / counts.sum(axis=1)
    return errors
