"""All that is said of a DNA classifier: scores, controls, overlap with training, strands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from titans_seq.evaluation.dna.classification import Metrics, columns_of, score_classifier
from titans_seq.evaluation.dna.controls import (
    PLACES_CONTROL,
    WORDS_CONTROL,
    DNAControl,
    Labelled,
    fit_controls,
)
from titans_seq.evaluation.dna.splits import WORD, grouped_split, overlaps
from titans_seq.evaluation.dna.strands import Reader, StrandScores, score_strands, strand_verdict

if TYPE_CHECKING:
    from titans_seq.dna import TitansDNAClassifier

MODEL = "titans-seq"
"""What the model is called in a table."""

HEADLINE = "mcc"
"""Score by which a control is compared with the model."""

Answers = Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""Probabilities of each model, and the class of each column."""

_LEAST_ROWS = 20
"""Rows below which a part is not scored by itself."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was found on one set of labelled sequences."""

    scores: dict[str, Metrics]
    """By model; the first is the one that is assessed."""

    apart: dict[str, Metrics] = field(default_factory=dict)
    """The same on the rows that share no long word with a training row; may be empty."""

    strands: tuple[StrandScores, ...] = ()
    """The model, and the controls that can tell strands apart."""

    notes: tuple[str, ...] = ()
    """What a reader of the scores must know, in words."""

    warnings: tuple[str, ...] = ()
    """What speaks against the scores."""


def assess_classifier(
    classifier: TitansDNAClassifier, test: Labelled, train: Labelled | None = None
) -> Assessment:
    """Score a classifier beside simple ones.

    Parameters
    ----------
    classifier
        Fitted; one label a sequence.
    test
        Sequences as strings, and their labels.
    train
        What the classifier was trained on. With it, the controls are trained and scored, and
        the test rows that share no 24-letter word with a training row are scored by themselves.

    Raises
    ------
    DataError
        If a label is none of the classifier's classes.
    """
    chances = classifier.predict_proba(test[0])
    answers = {MODEL: (chances, classifier.classes_)}
    fitted = [] if train is None else fit_controls(train)
    for control in fitted:
        answers[control.name] = (control.chances(test[0]), control.model.classes_)
    scores = _score(answers, test[1])
    strands = _strands(classifier, fitted, test)
    verdict = strand_verdict(strands[0], strands[1:])
    blind = strands[0].symmetric and any(one.depends for one in strands[1:])
    apart, notes = ({}, []) if train is None else _apart(answers, test, train)
    warnings = near_controls(scores) + ([verdict] if verdict and blind else [])
    notes += [verdict] if verdict and not blind else []
    return Assessment(scores, apart, strands, tuple(notes), tuple(warnings))


def assess_grouped(
    classifier: TitansDNAClassifier, test: Labelled, train: Labelled, seed: int = 0
) -> Assessment:
    """Score a classifier trained anew where rows that share a 24-letter word stay together.

    Train and test rows are pooled and parted again, into parts of about the same sizes; the
    classifier is cloned and trained with its own settings.

    Raises
    ------
    DataError
        If the rows hang together too much to be parted.
    """
    texts, labels = [*train[0], *test[0]], np.array([*train[1], *test[1]])
    learn, held = grouped_split(texts, labels, len(test[0]) / len(texts), seed)
    parts: list[Labelled] = [([texts[i] for i in rows], labels[rows]) for rows in (learn, held)]
    fresh = clone(classifier).fit(*parts[0])
    return assess_classifier(fresh, parts[1], parts[0])


def near_controls(scores: Mapping[str, Metrics], headline: str = HEADLINE) -> list[str]:
    """Return a warning if controls come within the interval of the model's score."""
    own = scores[MODEL]
    low, high = own[f"{headline}_low"], own[f"{headline}_high"]
    near = [
        f"{name} ({found[headline]:.3f})"
        for name, found in scores.items()
        if name != MODEL and found[headline] >= low
    ]
    if not near:
        return []
    return [
        f"simple models come within or above the interval of {MODEL}, {headline} {low:.3f} to "
        f"{high:.3f}: {', '.join(near)}; these data do not show that it is better than they are"
    ]


def _score(answers: Answers, labels: Any) -> dict[str, Metrics]:
    return {name: score_classifier(labels, *found) for name, found in answers.items()}


def _apart(
    answers: Answers, test: Labelled, train: Labelled
) -> tuple[dict[str, Metrics], list[str]]:
    """Score the rows that share no long word with a training row, if some do share one."""
    shared = overlaps(test[0], train[0])
    note = (
        f"{shared.sum():,} of {len(shared):,} rows share a {WORD}-letter word with a training row"
    )
    rows = np.flatnonzero(~shared)
    if not shared.any() or len(rows) < _LEAST_ROWS:
        return {}, [note]
    some = {name: (found[rows], names) for name, (found, names) in answers.items()}
    return _score(some, np.asarray(test[1])[rows]), [note]


def _strands(
    classifier: TitansDNAClassifier, fitted: Sequence[DNAControl], test: Labelled
) -> tuple[StrandScores, ...]:
    """Return how the model and those controls that can do with both strands."""
    readers: dict[str, tuple[Reader, npt.NDArray[Any]]] = {
        MODEL: (classifier.predict_proba, classifier.classes_)
    }
    for control in fitted:
        if control.name in (WORDS_CONTROL, PLACES_CONTROL):
            readers[control.name] = (control.chances, control.model.classes_)
    return tuple(
        score_strands(name, reader, test[0], columns_of(test[1], classes))
        for name, (reader, classes) in readers.items()
    )
