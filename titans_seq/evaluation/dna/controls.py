"""Simple baselines that every DNA score is printed beside.

They show how far a benchmark can be solved without a sequence model: by class frequencies, length,
GC content, the label of the most similar training sequence, k-mer counts, or position-specific
letters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from titans_seq.evaluation.dna.classification import score_classifier
from titans_seq.evaluation.dna.features import (
    gc_content,
    kmer_features,
    no_features,
    positional_one_hot,
    sequence_length,
)
from titans_seq.evaluation.scores.report import Metrics

KMER_CONTROL, POSITION_CONTROL = "4-letter words", "letters by place"
"""Names of the controls whose features distinguish the two strands."""

LabelledData = tuple[Sequence[str], Any]
"""Sequences and their labels or values."""

_BATCH_ROWS = 256
"""Sequences whose similarity to all training sequences is computed at once."""


@dataclass(frozen=True, slots=True)
class DNAControl:
    """A scikit-learn model on simple features of a sequence."""

    name: str
    features: Callable[[Sequence[str]], Any]
    """Function of a list of sequences to a matrix, one row each."""
    model: Any
    """A classifier or a regressor of scikit-learn."""

    def fit(self, train: LabelledData) -> Self:
        """Train the model."""
        self.model.fit(self.features(train[0]), np.asarray(train[1]))
        return self

    def predict_proba(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return class probabilities, (sequences, classes)."""
        return np.asarray(self.model.predict_proba(self.features(sequences)))

    def predict(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the predicted values of a regressor."""
        return np.asarray(self.model.predict(self.features(sequences)))


def classification_controls(sequences: Sequence[str]) -> list[DNAControl]:
    """Return the classifiers that belong beside every score, not yet trained.

    Parameters
    ----------
    sequences
        The training sequences: length is a control if it varies, letters by position if it does
        not.
    """
    constant = DummyClassifier(strategy="prior")
    controls = _controls(sequences, constant, _logistic_regression, DecisionTreeClassifier)
    nearest = DNAControl("nearest training row", lambda s: kmer_features(s, 12), NearestRow())
    return [*controls[:-3], nearest, *controls[-3:]]


def regression_controls(sequences: Sequence[str]) -> list[DNAControl]:
    """Return the same as regressors, without the nearest training sequence."""
    return _controls(
        sequences, DummyRegressor(), lambda strength: Ridge(alpha=1 / strength),
        DecisionTreeRegressor,
    )  # fmt: skip


def _controls(
    sequences: Sequence[str], constant: Any, linear: Callable[[float], Any], tree: Any
) -> list[DNAControl]:
    """Return controls built from a constant predictor, linear models, and a tree."""
    constant_name = "majority" if tree is DecisionTreeClassifier else "mean"
    # Sparse features cannot be centred without becoming dense.
    on_sparse = make_pipeline(StandardScaler(with_mean=False), linear(0.001))
    controls = [
        DNAControl(constant_name, no_features, constant),
        DNAControl("share of G and C", gc_content, _standardised(linear(1e6))),
        DNAControl(KMER_CONTROL, lambda s: kmer_features(s, 4).toarray(),
                   _standardised(linear(0.001))),
        DNAControl("6-letter words, both strands",
                   lambda s: kmer_features(s, 6, canonical=True), on_sparse),
    ]  # fmt: skip
    # Positions are comparable only between sequences of the same length.
    lengths = {len(text) for text in sequences}
    if len(lengths) == 1:
        (length,) = lengths
        by_position = DNAControl(
            POSITION_CONTROL, lambda s: positional_one_hot(s, length), linear(0.1)
        )
        return [*controls, by_position]
    of_length = tree(max_depth=4, min_samples_leaf=5, random_state=0)
    return [controls[0], DNAControl("length", sequence_length, of_length), *controls[1:]]


def score_dna_controls(train: LabelledData, test: LabelledData) -> dict[str, Metrics]:
    """Train the simple classifiers and return their scores by name."""
    return {
        control.name: score_classifier(
            test[1], control.predict_proba(test[0]), control.model.classes_
        )
        for control in fit_controls(train)
    }


def fit_controls(train: LabelledData) -> list[DNAControl]:
    """Return the simple classifiers, trained."""
    text_labels = train[0], np.asarray(train[1]).astype(str)
    return [control.fit(text_labels) for control in classification_controls(train[0])]


class NearestRow(ClassifierMixin, BaseEstimator):
    """Predicts the label of the training row with most k-mers in common.

    The probability is a mixture of that label and the class frequencies, weighted by the share of
    k-mers in common. A high score indicates that test rows overlap or repeat training rows.
    """

    def fit(self, X: sparse.csr_array, y: npt.NDArray[Any]) -> Self:
        """Store the training rows; ``X`` holds k-mer frequencies."""
        self.rows_ = X.sign().T.tocsr()
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.class_frequencies_ = np.bincount(self.labels_) / len(y)
        return self

    def predict_proba(self, X: sparse.csr_array) -> npt.NDArray[np.float64]:
        """Return class probabilities, (rows, classes)."""
        batches = []
        for start in range(0, X.shape[0], _BATCH_ROWS):
            batch = X[start : start + _BATCH_ROWS].sign()
            in_common = (batch @ self.rows_).toarray()  # (batch, training rows)
            nearest = in_common.argmax(axis=1)
            share = in_common.max(axis=1) / np.maximum(batch.sum(axis=1), 1)
            # From the class frequencies towards the copied label, by the share in common.
            copied = np.eye(len(self.classes_))[self.labels_[nearest]]
            prior = self.class_frequencies_
            batches.append(prior + share[:, None] * (copied - prior))
        return np.concatenate(batches)


def _logistic_regression(strength: float) -> LogisticRegression:
    """Return a logistic regression; a small ``strength`` means strong regularisation."""
    return LogisticRegression(C=strength, max_iter=2000)


def _standardised(model: Any) -> Any:
    """Return the model behind a ``StandardScaler``."""
    return make_pipeline(StandardScaler(), model)
