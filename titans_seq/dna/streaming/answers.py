"""What a fitted estimator of DNA answers, and what its columns are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes

Values = npt.NDArray[np.float64]


class Outputs(NamedTuple):
    """What an estimator answers for a sequence."""

    names: list[str]
    """Classes, labels, or values."""

    columns: list[str]
    """What their columns in a table are called: ``p(name)`` of a probability."""

    labelled: bool
    """Whether there are probabilities, and so a label; else there are values."""


class Answers(NamedTuple):
    """What an estimator answers for some sequences."""

    values: Values
    """(sequences, outputs): probabilities, or values."""

    labels: npt.NDArray[Any] | None
    """One a sequence; None of a regressor. Several labels stand as one word, parted by ``;``."""


def outputs_of(estimator: Any) -> Outputs:
    """Return what a fitted classifier or regressor answers."""
    if hasattr(estimator, "predict_proba"):
        names = [str(name) for name in estimator.classes_]
        return Outputs(names, [f"p({name})" for name in names], True)
    names = [str(name) for name in estimator.names_]
    alone = names == ["0"]  # a value that was given no name
    return Outputs(names, ["value"] if alone else [f"value({name})" for name in names], False)


def ask(estimator: Any, rows: Sequence[Codes]) -> Answers:
    """Return the answers of a fitted classifier or regressor for some sequences."""
    if not hasattr(estimator, "predict_proba"):
        values = np.asarray(estimator.predict(rows), dtype=np.float64)
        return Answers(values.reshape(len(rows), -1), None)
    chances = estimator.predict_proba(rows)
    labels = np.asarray(estimator.decide(chances, [len(row) for row in rows]))
    if labels.ndim == 2:
        labels = _joined(labels, estimator)
    return Answers(chances, labels)


def join_answers(parts: Sequence[Answers], order: Sequence[int]) -> Answers:
    """Return answers that came in parts, in the order of the keys of their sequences."""
    places = np.argsort(np.asarray(order))
    values = np.concatenate([part.values for part in parts])[places]
    labels = [part.labels for part in parts if part.labels is not None]
    return Answers(values, np.concatenate(labels)[places] if labels else None)


def _joined(given: npt.NDArray[Any], estimator: Any) -> npt.NDArray[Any]:
    """Return the labels of each sequence as one word."""
    names = np.array([str(name) for name in estimator.classes_])
    words = [";".join(names[row.astype(bool)]) or str(estimator.unclassified) for row in given]
    return np.array(words, dtype=object)
