"""Simple models of DNA that every score is printed beside.

They count how many public benchmarks can be answered without reading the sequence: by the
commonest label, by length, by the share of G and C, by the label of the most similar training row,
by counts of short words wherever they stand, or by single letters at fixed places.
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

from titans_seq.evaluation.dna.classification import Metrics, score_classifier
from titans_seq.evaluation.dna.words import letters_by_place, words

WORDS_CONTROL, PLACES_CONTROL = "4-letter words", "letters by place"
"""Names of the controls that can tell the strands apart."""

Labelled = tuple[Sequence[str], Any]
"""Sequences and their labels or values."""


@dataclass(frozen=True, slots=True)
class DNAControl:
    """Features of a sequence and the model that reads them."""

    name: str
    features: Callable[[Sequence[str]], Any]
    """Function of a list of sequences to a matrix, one row each."""
    model: Any
    """A classifier or a regressor of scikit-learn."""

    def fit(self, train: Labelled) -> Self:
        """Train the model."""
        self.model.fit(self.features(train[0]), np.asarray(train[1]))
        return self

    def chances(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return (sequences, classes)."""
        return np.asarray(self.model.predict_proba(self.features(sequences)))

    def values(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the values that a regressor predicts."""
        return np.asarray(self.model.predict(self.features(sequences)))


def usual_controls(sequences: Sequence[str]) -> list[DNAControl]:
    """Return the classifiers that belong beside every score.

    Parameters
    ----------
    sequences
        The train sequences: length is a control where it varies, letters by place where it
        does not.
    """
    constant = DummyClassifier(strategy="prior")
    controls = _controls(sequences, constant, _logistic, DecisionTreeClassifier)
    nearest = DNAControl("nearest training row", lambda texts: words(texts, 12), NearestRow())
    return [*controls[:-3], nearest, *controls[-3:]]


def usual_regressors(sequences: Sequence[str]) -> list[DNAControl]:
    """Return the same for values, without the nearest row."""
    return _controls(
        sequences, DummyRegressor(), lambda strength: Ridge(alpha=1 / strength),
        DecisionTreeRegressor,
    )  # fmt: skip


def _controls(
    sequences: Sequence[str], constant: Any, linear: Callable[[float], Any], tree: Any
) -> list[DNAControl]:
    """Return controls made of a constant, linear models, and a tree."""
    named = "majority" if tree is DecisionTreeClassifier else "mean"
    sparse_scale = make_pipeline(StandardScaler(with_mean=False), linear(0.001))
    controls = [
        DNAControl(named, _nothing, constant),
        DNAControl("share of G and C", _gc_share, _on_scale(linear(1e6))),
        DNAControl(WORDS_CONTROL, lambda texts: words(texts, 4).toarray(),
                   _on_scale(linear(0.001))),
        DNAControl("6-letter words, both strands",
                   lambda texts: words(texts, 6, both_strands=True), sparse_scale),
    ]  # fmt: skip
    lengths = {len(text) for text in sequences}
    if len(lengths) == 1:
        (length,) = lengths
        places = DNAControl(
            PLACES_CONTROL, lambda texts: letters_by_place(texts, length), linear(0.1)
        )
        return [*controls, places]
    of_length = tree(max_depth=4, min_samples_leaf=5, random_state=0)
    return [controls[0], DNAControl("length", _length, of_length), *controls[1:]]


def score_dna_controls(train: Labelled, test: Labelled) -> dict[str, Metrics]:
    """Train the simple classifiers and score them; what comes back is keyed by their names."""
    fitted = fit_controls(train)
    return {
        control.name: score_classifier(test[1], control.chances(test[0]), control.model.classes_)
        for control in fitted
    }


def fit_controls(train: Labelled) -> list[DNAControl]:
    """Return the simple classifiers, trained."""
    named = train[0], np.asarray(train[1]).astype(str)
    return [control.fit(named) for control in usual_controls(train[0])]


class NearestRow(ClassifierMixin, BaseEstimator):
    """Copies the label of the training row that shares most words, and is as sure as it shares.

    A high score says that test rows overlap training rows or repeat them.
    """

    def fit(self, X: sparse.csr_array, y: npt.NDArray[Any]) -> Self:
        """Remember the rows; ``X`` has the share of each word."""
        self.rows_ = X.sign().T.tocsr()
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.shares_ = np.bincount(self.labels_) / len(y)
        return self

    def predict_proba(self, X: sparse.csr_array) -> npt.NDArray[np.float64]:
        """Return (rows, classes): the copied label, as far as words are shared."""
        parts = []
        for start in range(0, X.shape[0], 256):
            some = X[start : start + 256].sign()
            shared = (some @ self.rows_).toarray()
            nearest = shared.argmax(axis=1)
            share = shared.max(axis=1) / np.maximum(some.sum(axis=1), 1)
            copied = np.eye(len(self.classes_))[self.labels_[nearest]]
            parts.append(self.shares_ + share[:, None] * (copied - self.shares_))
        return np.concatenate(parts)


def _nothing(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return one column that says nothing."""
    return np.zeros((len(sequences), 1), dtype=np.float32)


def _length(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the number of letters."""
    return np.array([[len(text)] for text in sequences], dtype=np.float32)


def _gc_share(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the share of G and C among A, C, G and T."""
    singles = words(sequences, 1).toarray()
    shares: npt.NDArray[np.float32] = singles[:, 1:3].sum(axis=1, keepdims=True)
    return shares


def _logistic(strength: float) -> LogisticRegression:
    """Return a logistic regression; a small ``strength`` keeps its weights small."""
    return LogisticRegression(C=strength, max_iter=2000)


def _on_scale(model: Any) -> Any:
    """Return a model that reads standardised features."""
    return make_pipeline(StandardScaler(), model)
