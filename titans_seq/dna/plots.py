"""Plots of a classifier's scores, and sequence logos of explanations."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from titans_seq.dna.explaining import Explanation

_MAX_CURVES = 6
_MAX_LETTERS = 1000
_LETTERS_PER_LINE = 100
_Y_LABELS = {
    "mutagenesis": "contribution to the score",
    "gradient": "contribution by gradient",
    "surprise": "surprise",
}
_BINS = np.linspace(0, 1, 26)


def plot_scores(
    labels: Sequence[Any],
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[Any],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw scores by class, ROC curves, and the confusion matrix, side by side.

    Parameters
    ----------
    labels
        True label of each sequence.
    probabilities
        (sequences, classes), as returned by ``predict_proba``.
    classes
        Label of each column of ``probabilities``.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    title
        Heading of the figure.

    Raises
    ------
    DataError
        If labels, probabilities and classes do not match.
    MissingExtraError
        If matplotlib is not installed.
    """
    actual = _class_indices(labels, probabilities, classes)
    names = [str(name) for name in classes]
    figure = _figure(4.2)
    scores, curves, confusion = figure.subplots(1, 3)
    _draw_scores(scores, actual, probabilities, names)
    _draw_curves(curves, actual, probabilities, names)
    _draw_confusion(confusion, actual, probabilities.argmax(axis=1), names)
    if title:
        figure.suptitle(title)
    if path is not None:
        figure.savefig(Path(path), dpi=150)
    return figure


def plot_logo(
    explanation: Explanation,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw a sequence logo whose letters are as tall as important, in lines of 100 letters.

    Parameters
    ----------
    explanation
        Explanation of one sequence by :func:`titans_seq.dna.explain`. Of more than 1,000 letters,
        a curve is drawn.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    title
        Heading of the figure.

    Raises
    ------
    MissingExtraError
        If matplotlib or logomaker is not installed.
    """
    count = len(explanation.sequence)
    lines = -(-count // _LETTERS_PER_LINE) if count <= _MAX_LETTERS else 1
    figure = _figure(0.6 + 1.5 * lines)
    axes = figure.subplots(lines, 1, sharey=True, squeeze=False)[:, 0]
    if count > _MAX_LETTERS:
        positions = explanation.start + 1 + np.arange(count)
        axes[0].plot(positions, explanation.importance, linewidth=0.6)
    else:
        for line, axis in enumerate(axes):
            _draw_letters(axis, explanation, line * _LETTERS_PER_LINE)
    axes[-1].set_xlabel("position")
    axes[0].set_ylabel(_Y_LABELS[explanation.method])
    if title:
        figure.suptitle(title)
    if path is not None:
        figure.savefig(Path(path), dpi=150)
    return figure


def _figure(height: float) -> Figure:
    """Return an empty figure, 13 inches wide."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="dna") from error
    return Figure(figsize=(13, height), layout="constrained")


def _draw_letters(axes: Axes, explanation: Explanation, begin: int) -> None:
    """Draw one line of letters."""
    import pandas as pd

    try:
        import logomaker
    except ImportError as error:
        raise MissingExtraError("logomaker", extra="dna") from error
    letters = explanation.sequence[begin : begin + _LETTERS_PER_LINE]
    heights = explanation.importance[begin : begin + len(letters)]
    index = explanation.start + begin + 1 + np.arange(len(letters))
    columns = sorted(set("ACGT") | set(letters))
    table = pd.DataFrame(0.0, index=index, columns=columns)
    for position, letter, height in zip(index, letters, heights, strict=True):
        table.loc[position, letter] = height
    with warnings.catch_warnings():  # logomaker warns if all heights are zero
        warnings.simplefilter("ignore", UserWarning)
        logomaker.Logo(table, ax=axes, shade_below=0.3, fade_below=0.3)
    width = min(_LETTERS_PER_LINE, len(explanation.sequence))
    axes.set_xlim(index[0] - 0.5, index[0] + width - 0.5)
    axes.axhline(0, color="0.7", linewidth=0.5)


def _class_indices(
    labels: Sequence[Any],
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[Any],
) -> npt.NDArray[np.int64]:
    """Return the column of each label."""
    columns = {str(name): i for i, name in enumerate(classes)}
    if probabilities.shape != (len(labels), len(columns)):
        raise DataError(
            f"probabilities of shape {probabilities.shape} for {len(labels)} labels and "
            f"{len(columns)} classes"
        )
    unknown = sorted({str(label) for label in labels} - columns.keys())
    if unknown:
        raise DataError(f"label {unknown[0]!r} is not one of the classes {', '.join(columns)}")
    return np.array([columns[str(label)] for label in labels], dtype=np.int64)


def _draw_scores(
    axes: Axes,
    actual: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
) -> None:
    """Draw a histogram of the probabilities by true class."""
    binary = len(names) == 2
    for index, name in enumerate(names[:_MAX_CURVES]):
        of_class = probabilities[actual == index, 1 if binary else index]
        axes.hist(of_class, bins=_BINS.tolist(), alpha=0.55, label=f"{name} ({len(of_class):,})")
    axes.set(
        xlabel=f"probability of {names[1]}" if binary else "probability of the true class",
        ylabel="sequences",
        title="Scores by true class",
    )
    axes.legend(frameon=False)


def _draw_curves(
    axes: Axes,
    actual: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
) -> None:
    """Draw a ROC curve of each class against the others; of two classes, one curve."""
    from sklearn.metrics import auc, roc_curve

    for index in [1] if len(names) == 2 else range(min(len(names), _MAX_CURVES)):
        positive = actual == index
        if positive.any() and not positive.all():
            false, true, _ = roc_curve(positive, probabilities[:, index])
            axes.plot(false, true, label=f"{names[index]}: area {auc(false, true):.3f}")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    axes.set(xlabel="false positives", ylabel="true positives", title="ROC", aspect="equal")
    axes.legend(frameon=False, loc="lower right")


def _draw_confusion(
    axes: Axes,
    actual: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    names: Sequence[str],
) -> None:
    """Draw the confusion matrix, coloured by the share of each true class."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _MAX_CURVES:
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{count:,}\n{share:.0%}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    accuracy = float((actual == predicted).mean())
    axes.set_xticks(range(len(names)), names, rotation=30)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"Accuracy {accuracy:.1%}")
