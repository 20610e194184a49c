"""Simple classifiers of DNA that every score is printed beside.

They count how many public benchmarks can be answered without reading the sequence: by the
commonest label, by length, by the share of G and C, by the label of the most similar training row,
by counts of short words wherever they stand, or by single letters at fixed places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from titans_seq.evaluation.classification import Metrics, score_classifier

# A letter's number is its place in ACGT; any other letter, also U, has none and breaks a word.
_CODES = np.full(256, -1, dtype=np.int64)
for _number, _pair in enumerate(("Aa", "Cc", "Gg", "Tt")):
    for _letter in _pair:
        _CODES[ord(_letter)] = _number


@dataclass(frozen=True, slots=True)
class DNAControl:
    """Features of a sequence and the model that reads them."""

    name: str
    features: Any
    """Function of a list of sequences to a matrix, one row each."""
    model: ClassifierMixin


def usual_controls(sequences: Sequence[str]) -> list[DNAControl]:
    """Return the controls that belong beside every score.

    Parameters
    ----------
    sequences
        The train sequences: length is a control where it varies, letters by place where it
        does not.
    """
    controls = [
        DNAControl("majority", _nothing, DummyClassifier(strategy="prior")),
        DNAControl("share of G and C", _gc_share, _on_standard_scale(1e6)),
        DNAControl("nearest training row", lambda texts: words(texts, 12), NearestRow()),
        DNAControl("4-letter words", lambda texts: words(texts, 4).toarray(),
                   _on_standard_scale(0.001)),
        DNAControl("6-letter words, both strands",
                   lambda texts: words(texts, 6, both_strands=True),
                   make_pipeline(StandardScaler(with_mean=False), _logistic(0.001))),
    ]  # fmt: skip
    lengths = {len(text) for text in sequences}
    if len(lengths) == 1:
        (length,) = lengths
        controls.append(
            DNAControl(
                "letters by place", lambda texts: letters_by_place(texts, length), _logistic(0.1)
            )
        )
    else:
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
        controls.insert(1, DNAControl("length", _length, tree))
    return controls


def score_dna_controls(
    train: tuple[Sequence[str], Sequence[Any]], test: tuple[Sequence[str], Sequence[Any]]
) -> dict[str, Metrics]:
    """Train the simple classifiers and score them; what comes back is keyed by their names.

    Parameters
    ----------
    train, test
        Sequences and their labels.
    """
    labels = np.asarray(train[1]).astype(str)
    scores = {}
    for control in usual_controls(train[0]):
        control.model.fit(control.features(train[0]), labels)
        chances = control.model.predict_proba(control.features(test[0]))
        scores[control.name] = score_classifier(test[1], chances, control.model.classes_)
    return scores


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


def words(sequences: Sequence[str], length: int, *, both_strands: bool = False) -> sparse.csr_array:
    """Return the share of each word of ``length`` letters among a sequence's words.

    Parameters
    ----------
    sequences
        Sequences; a word with a letter other than A, C, G and T is left out.
    length
        Letters of a word.
    both_strands
        Whether a word counts as the same as its reverse complement.

    Returns
    -------
    csr_array
        (sequences, 4 to the power of ``length``), words in the order of the alphabet.
    """
    same = _canonical(length) if both_strands else None
    columns, counts, ends = [], [], [0]
    for text in sequences:
        codes = _codes(text)
        number = np.zeros(max(len(codes) - length + 1, 0), dtype=np.int64)
        whole = np.ones(len(number), dtype=bool)
        for offset in range(length):
            letter = codes[offset : offset + len(number)]
            number = number * 4 + letter
            whole &= letter >= 0
        kept = number[whole] if same is None else same[number[whole]]
        found, count = np.unique(kept, return_counts=True)
        columns.append(found)
        counts.append(count / max(count.sum(), 1))
        ends.append(ends[-1] + len(found))
    values = np.concatenate(counts).astype(np.float32)
    return sparse.csr_array(
        (values, np.concatenate(columns), ends), shape=(len(sequences), 4**length)
    )


def letters_by_place(sequences: Sequence[str], length: int) -> npt.NDArray[np.float32]:
    """Return (sequences, 4 * length), 1 for the letter that stands at each place.

    Of a longer sequence the rest is left out; where a shorter one has ended there is no 1.
    """
    codes = np.full((len(sequences), length), -1)
    for row, text in enumerate(sequences):
        found = _codes(text)[:length]
        codes[row, : len(found)] = found
    is_letter = codes[:, :, None] == np.arange(4)
    return np.asarray(is_letter.reshape(len(sequences), -1), dtype=np.float32)


def _canonical(length: int) -> npt.NDArray[np.int64]:
    """Return, for each word's number, the smaller of its own and its reverse complement's."""
    number = np.arange(4**length)
    left, turned = number, np.zeros_like(number)
    for _ in range(length):
        turned = turned * 4 + (3 - left % 4)
        left = left // 4
    return np.minimum(number, turned)


def _codes(text: str) -> npt.NDArray[np.int64]:
    """Return the number of each letter, -1 for other letters than A, C, G and T."""
    return _CODES[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]


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


def _on_standard_scale(strength: float) -> Any:
    """Return a logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), _logistic(strength))
