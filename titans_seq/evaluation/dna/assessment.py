"""Full assessment of a DNA model: scores, controls, overlap with training rows, strands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from titans_seq.evaluation.dna.classification import class_indices, score_classifier
from titans_seq.evaluation.dna.controls import (
    KMER_CONTROL,
    POSITION_CONTROL,
    DNAControl,
    LabelledData,
    fit_controls,
    regression_controls,
)
from titans_seq.evaluation.dna.overlap import OVERLAP_K, grouped_split, overlaps
from titans_seq.evaluation.dna.regression import score_values
from titans_seq.evaluation.dna.strands import (
    PredictProba,
    StrandScores,
    score_strands,
    strand_verdict,
)
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import DataError

if TYPE_CHECKING:
    from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor

MODEL = "titans-seq"
"""Name of the model in a table."""

_HEADLINE = "mcc"
"""Score by which controls are compared with a classifier."""

_AVERAGED = ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece")
"""Scores that are averaged over the labels of a multi-label model."""

_FEWEST_ROWS = 20
"""Rows below which the part without overlap is not scored separately."""

_Predictions = Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""Class probabilities by model, and the label of each column."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Scores, and remarks on them, of a model on labelled sequences."""

    scores: dict[str, Metrics]
    """By model; the first is the one that is assessed."""

    apart: dict[str, Metrics] = field(default_factory=dict)
    """The same on the rows without overlap with a training row; may be empty."""

    strands: tuple[StrandScores, ...] = ()
    """Of the model, and of the controls that distinguish the strands."""

    notes: tuple[str, ...] = ()
    """Remarks needed to interpret the scores."""

    warnings: tuple[str, ...] = ()
    """Reasons to doubt the scores."""


def assess_classifier(
    classifier: TitansDNAClassifier,
    test: LabelledData,
    train: LabelledData | None = None,
) -> Assessment:
    """Score a classifier beside simple ones.

    Parameters
    ----------
    classifier
        Fitted; one label a sequence.
    test
        Sequences as strings, and their labels.
    train
        Training data of the classifier. If given, the controls are trained and scored too, and
        test rows that share no 24-mer with a training row are also scored separately.

    Raises
    ------
    DataError
        If a label is not one of the classifier's classes.
    """
    predictions = {MODEL: (classifier.predict_proba(test[0]), classifier.classes_)}
    controls = [] if train is None else fit_controls(train)
    for control in controls:
        predictions[control.name] = (control.predict_proba(test[0]), control.model.classes_)
    scores = _score(predictions, test[1])
    strands = _strand_scores(classifier, controls, test)
    verdict = strand_verdict(strands[0], strands[1:])
    # A model that ignores the strand although the labels depend on it.
    blind = strands[0].symmetric and any(control.strand_specific for control in strands[1:])
    apart, notes = ({}, []) if train is None else _without_overlap(predictions, test, train)
    warnings = controls_near_model(scores) + ([verdict] if verdict and blind else [])
    notes += [verdict] if verdict and not blind else []
    return Assessment(scores, apart, strands, tuple(notes), tuple(warnings))


def assess_grouped(
    classifier: TitansDNAClassifier,
    test: LabelledData,
    train: LabelledData,
    seed: int = 0,
) -> Assessment:
    """Retrain and score a classifier on a split whose parts share no 24-mer.

    Train and test rows are pooled and split again into parts of similar sizes; a clone of the
    classifier is trained with the same settings.

    Raises
    ------
    DataError
        If too many rows overlap for such a split.
    """
    sequences, labels = [*train[0], *test[0]], np.array([*train[1], *test[1]])
    test_share = len(test[0]) / len(sequences)
    new_train, new_test = (
        ([sequences[row] for row in rows], labels[rows])
        for rows in grouped_split(sequences, labels, test_share, seed)
    )
    retrained = clone(classifier).fit(*new_train)
    return assess_classifier(retrained, new_test, new_train)


def assess_labels(
    classifier: TitansDNAClassifier,
    test: tuple[Sequence[str], npt.NDArray[Any]],
    train: tuple[Sequence[str], npt.NDArray[Any]] | None = None,
) -> Assessment:
    """Score a multi-label classifier: each label against its absence.

    Parameters
    ----------
    classifier
        Fitted on a table of 0 and 1.
    test, train
        Sequences, and a table of 0 and 1 with a column for each of ``classifier.classes_``.

    Returns
    -------
        Scores of the model and of the controls, means over labels; then those of the model for
        each label, with intervals.
    """
    chances = classifier.predict_proba(test[0])
    if np.shape(test[1]) != chances.shape:
        raise DataError(
            f"labels of shape {np.shape(test[1])} do not match predictions of shape {chances.shape}"
        )
    labels = range(chances.shape[1])
    by_label = [
        score_classifier(
            test[1][:, i].astype(int), np.stack([1 - chances[:, i], chances[:, i]], axis=1), [0, 1]
        )
        for i in labels
    ]
    scores = {MODEL: _label_mean(by_label)}
    # Controls are single-label classifiers: one set of them for each label.
    if train is not None:
        by_control: dict[str, list[Metrics]] = {}
        for i in labels:
            for control in fit_controls((train[0], train[1][:, i].astype(int))):
                predicted = control.predict_proba(test[0]), control.model.classes_
                by_control.setdefault(control.name, []).append(
                    score_classifier(test[1][:, i].astype(int), *predicted)
                )
        scores |= {name: _label_mean(each_label) for name, each_label in by_control.items()}
    names = (f"{MODEL}: {name}" for name in classifier.classes_)
    return Assessment(scores | dict(zip(names, by_label, strict=True)))


def assess_values(
    regressor: TitansDNARegressor,
    test: tuple[Sequence[str], Sequence[float]],
    train: tuple[Sequence[str], Sequence[float]] | None = None,
) -> Assessment:
    """Score a regressor beside simple ones; ``train`` is its training data."""
    scores = {MODEL: score_values(test[1], regressor.predict(test[0]))}
    if train is not None:
        data = train[0], np.asarray(train[1], dtype=np.float64)
        for control in regression_controls(train[0]):
            scores[control.name] = score_values(test[1], control.fit(data).predict(test[0]))
    return Assessment(scores, warnings=tuple(controls_near_model(scores, "r2")))


def controls_near_model(scores: Mapping[str, Metrics], headline: str = _HEADLINE) -> list[str]:
    """Return a warning if a control's score is not below the interval of the model's."""
    low, high = scores[MODEL][f"{headline}_low"], scores[MODEL][f"{headline}_high"]
    near = [
        f"{name} ({metrics[headline]:.3f})"
        for name, metrics in scores.items()
        if name != MODEL and metrics[headline] >= low
    ]
    if not near:
        return []
    return [
        f"simple models reach the interval of {MODEL}, {headline} {low:.3f} to {high:.3f}: "
        f"{', '.join(near)}; these data do not show that it is better than they are"
    ]


def _score(predictions: _Predictions, labels: Any) -> dict[str, Metrics]:
    return {name: score_classifier(labels, *pair) for name, pair in predictions.items()}


def _label_mean(by_label: Sequence[Metrics]) -> Metrics:
    """Return the means over labels, without intervals."""
    means = {name: float(np.nanmean([m[name] for m in by_label])) for name in _AVERAGED}
    return means | {"records": by_label[0]["records"]}


def _without_overlap(
    predictions: _Predictions, test: LabelledData, train: LabelledData
) -> tuple[dict[str, Metrics], list[str]]:
    """Score the rows that share no k-mer with a training row, unless that is all or too few."""
    shared = overlaps(test[0], train[0])
    note = (
        f"{shared.sum():,} of {len(shared):,} rows share a {OVERLAP_K}-letter word with a training "
        "row"
    )
    rows = np.flatnonzero(~shared)
    if not shared.any() or len(rows) < _FEWEST_ROWS:
        return {}, [note]
    subset = {name: (chances[rows], labels) for name, (chances, labels) in predictions.items()}
    return _score(subset, np.asarray(test[1])[rows]), [note]


def _strand_scores(
    classifier: TitansDNAClassifier, controls: Sequence[DNAControl], test: LabelledData
) -> tuple[StrandScores, ...]:
    """Return the scores on both strands of the model and of strand-specific controls."""
    predictors: dict[str, tuple[PredictProba, npt.NDArray[Any]]] = {
        MODEL: (classifier.predict_proba, classifier.classes_)
    }
    for control in controls:
        if control.name in (KMER_CONTROL, POSITION_CONTROL):
            predictors[control.name] = (control.predict_proba, control.model.classes_)
    return tuple(
        score_strands(name, predictor, test[0], class_indices(test[1], classes))
        for name, (predictor, classes) in predictors.items()
    )
