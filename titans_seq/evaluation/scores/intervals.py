"""95% confidence intervals of scores, over resampled rows.

The bootstrap draws rows with replacement. A sample is represented by how often each row was drawn,
and every score is computed from these counts for many samples at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from titans_seq.dna.learning.calibration import confidence_bins

_Scores = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.floating]
"""(samples, rows): how often each row was drawn."""

_SAMPLES = 400
"""Bootstrap samples."""

_INTERVAL_QUANTILES = (0.025, 0.975)
"""Ends of a 95% interval."""

_COUNTS_AT_ONCE = 4_000_000
"""Size limit of a matrix of counts, to bound memory."""


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion."""
    interval = binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def percentile_interval(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return the 95% interval of a score from its bootstrap samples; NaN samples are skipped."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, _INTERVAL_QUANTILES)
    return float(low), float(high)


def bootstrap_intervals(
    actual: npt.NDArray[np.int64], chances: _Scores, samples: int = _SAMPLES
) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of the scores that need more than the confusion table.

    Parameters
    ----------
    actual
        Class index of each row.
    chances
        (rows, classes), each row adding up to 1.
    samples
        Number of bootstrap samples.

    Returns
    -------
        ``auroc``, ``auprc`` (NaN if a class is missing from every sample), ``log_loss`` and
        ``ece``, each with its lower and upper end.
    """
    rows = len(actual)
    generator = np.random.default_rng(0)
    scores: dict[str, list[_Scores]] = {"auroc": [], "auprc": [], "log_loss": [], "ece": []}
    batch = max(1, _COUNTS_AT_ONCE // rows)
    for start in range(0, samples, batch):
        size = min(batch, samples - start)
        # Offsets of `rows` keep the samples apart in one call of bincount.
        drawn = generator.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows) * 1.0
        for name, values in _scores_of_samples(actual, chances, counts).items():
            scores[name].append(values)
    return {name: percentile_interval(np.concatenate(values)) for name, values in scores.items()}


def _scores_of_samples(
    actual: npt.NDArray[np.int64], chances: _Scores, counts: _Counts
) -> Mapping[str, _Scores]:
    """Return each score of every sample, (samples,)."""
    classes = [1] if chances.shape[1] == 2 else range(chances.shape[1])
    areas = [_curve_areas(actual == label, chances[:, label], counts) for label in classes]
    # A sample may lack a class: the mean is over the classes that it has.
    present = ~np.isnan([auroc for auroc, _ in areas])
    known = np.maximum(present.sum(axis=0), 1)
    auroc, auprc = (np.nansum([pair[i] for pair in areas], axis=0) / known for i in (0, 1))
    none = ~present.any(axis=0)
    auroc[none] = auprc[none] = np.nan
    likelihood = np.clip(chances[np.arange(len(actual)), actual], 1e-12, 1)
    return {
        "auroc": auroc,
        "auprc": auprc,
        "log_loss": counts @ -np.log(likelihood) / counts.sum(axis=1),
        "ece": _calibration_errors(actual, chances, counts),
    }


def _curve_areas(
    is_class: npt.NDArray[np.bool_], scores: _Scores, counts: _Counts
) -> tuple[_Scores, _Scores]:
    """Return the areas under the ROC and precision–recall curves of every sample."""
    order = np.argsort(-scores, kind="stable")
    # The curves have one point for each distinct score: the last row of every tie.
    thresholds = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    true_positives = np.cumsum(counts[:, order] * is_class[order], axis=1)[:, thresholds]
    called = np.cumsum(counts[:, order], axis=1)[:, thresholds]
    false_positives = called - true_positives
    zero = np.zeros((len(counts), 1))
    gained = np.diff(true_positives, axis=1, prepend=zero)
    positives, negatives = true_positives[:, -1], false_positives[:, -1]
    # Trapezoids under the ROC curve, and steps under the precision–recall curve.
    middle = true_positives - gained / 2
    roc_area = (np.diff(false_positives, axis=1, prepend=zero) * middle).sum(axis=1)
    pr_area = (gained * true_positives / np.maximum(called, 1)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        defined = np.where(positives * negatives > 0, 1.0, np.nan)
        return defined * (roc_area / (positives * negatives)), defined * (pr_area / positives)


def _calibration_errors(
    actual: npt.NDArray[np.int64], chances: _Scores, counts: _Counts
) -> _Scores:
    """Return the expected calibration error of every sample."""
    confidence = chances.max(axis=1)
    gap = confidence - (chances.argmax(axis=1) == actual)
    bins = confidence_bins(confidence)
    member = bins[:, None] == np.unique(bins)  # (rows, bins)
    errors: _Scores = np.abs(counts @ (gap[:, None] * member)).sum(axis=1) / counts.sum(axis=1)
    return errors
