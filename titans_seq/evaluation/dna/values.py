"""How answers of several labels, and of values, are scored; with their controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from titans_seq.evaluation.dna.assessment import MODEL, Assessment, near_controls
from titans_seq.evaluation.dna.classification import Metrics, score_classifier
from titans_seq.evaluation.dna.controls import fit_controls, usual_regressors
from titans_seq.evaluation.scores.intervals import interval
from titans_seq.exceptions import DataError

if TYPE_CHECKING:
    from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor

Array = npt.NDArray[np.float64]

_SAMPLES = 400
_AVERAGED = ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece")


def assess_labels(
    classifier: TitansDNAClassifier,
    test: tuple[Sequence[str], npt.NDArray[Any]],
    train: tuple[Sequence[str], npt.NDArray[Any]] | None = None,
) -> Assessment:
    """Score a classifier of several labels a sequence: each label against its absence.

    Parameters
    ----------
    classifier
        Fitted on a table of 0 and 1.
    test, train
        Sequences, and a table of 0 and 1 with a column for each of ``classifier.classes_``.

    Returns
    -------
        Scores of the model and of the controls are means over labels; then follow those of
        the model for each label, with intervals.
    """
    chances = classifier.predict_proba(test[0])
    if np.shape(test[1]) != chances.shape:
        raise DataError(f"labels of shape {np.shape(test[1])} for answers of shape {chances.shape}")
    each = [_against_absence(test[1][:, i], chances[:, i]) for i in range(chances.shape[1])]
    scores = {MODEL: _mean(each)}
    if train is not None:
        by_control: dict[str, list[Metrics]] = {}
        for i in range(chances.shape[1]):
            for control in fit_controls((train[0], train[1][:, i].astype(int))):
                said = control.chances(test[0])
                found = score_classifier(test[1][:, i].astype(int), said, control.model.classes_)
                by_control.setdefault(control.name, []).append(found)
        scores |= {name: _mean(found) for name, found in by_control.items()}
    names = (f"{MODEL}: {name}" for name in classifier.classes_)
    return Assessment(scores | dict(zip(names, each, strict=True)))


def _against_absence(actual: npt.NDArray[Any], chance: Array) -> Metrics:
    """Score one label as two classes."""
    return score_classifier(actual.astype(int), np.stack([1 - chance, chance], axis=1), [0, 1])


def _mean(found: Sequence[Metrics]) -> Metrics:
    """Return the means over labels; intervals of those are not known."""
    means = {name: float(np.nanmean([one[name] for one in found])) for name in _AVERAGED}
    return means | {"records": found[0]["records"]}


def score_values(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Metrics:
    """Score predicted values.

    Returns
    -------
    Metrics
        ``r2`` (share of the variance that is explained), ``pearson``, ``spearman``, ``rmse``
        and ``mae`` (in the values' own units), each with its 95% interval (bootstrap), and
        ``records``. Rows without a prediction are left out.

    Raises
    ------
    DataError
        If lengths differ, or fewer than three rows have a prediction.
    """
    truth, said = np.asarray(actual, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != said.shape or truth.ndim != 1:
        raise DataError(f"values of shape {truth.shape} for predictions of shape {said.shape}")
    truth, said = truth[np.isfinite(said)], said[np.isfinite(said)]
    if len(truth) < 3:
        raise DataError(f"{len(truth)} rows with a prediction; three at least are needed")
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(truth), len(truth)) for _ in range(_SAMPLES)]
    found: Metrics = {}
    for name, measure in _MEASURES.items():
        found[name] = measure(truth, said)
        low, high = interval(np.array([measure(truth[rows], said[rows]) for rows in drawn]))
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found | {"records": len(truth)}


def assess_values(
    regressor: TitansDNARegressor,
    test: tuple[Sequence[str], Sequence[float]],
    train: tuple[Sequence[str], Sequence[float]] | None = None,
) -> Assessment:
    """Score a regressor beside simple ones; ``train`` is what it was trained on."""
    scores = {MODEL: score_values(test[1], regressor.predict(test[0]))}
    if train is not None:
        known = train[0], np.asarray(train[1], dtype=np.float64)
        for control in usual_regressors(train[0]):
            scores[control.name] = score_values(test[1], control.fit(known).values(test[0]))
    return Assessment(scores, warnings=tuple(near_controls(scores, "r2")))


def _share_explained(truth: Array, said: Array) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - said) ** 2).sum()) / spread if spread else float("nan")


def _pearson(truth: Array, said: Array) -> float:
    if not truth.std() or not said.std():
        return float("nan")
    return float(np.corrcoef(truth, said)[0, 1])


def _spearman(truth: Array, said: Array) -> float:
    return _pearson(stats.rankdata(truth), stats.rankdata(said))


_MEASURES: dict[str, Callable[[Array, Array], float]] = {
    "r2": _share_explained,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": lambda truth, said: float(((truth - said) ** 2).mean() ** 0.5),
    "mae": lambda truth, said: float(np.abs(truth - said).mean()),
}
