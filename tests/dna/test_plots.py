"""The picture of a classifier's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from titans_seq.dna.plots import plot_scores
from titans_seq.exceptions import DataError

pytestmark = pytest.mark.usefixtures("brief_start_of_module")


@pytest.mark.parametrize("classes", [["a", "b"], [0, 1, 2], list("abcdefgh")])
def test_it_shows_counts_and_names(tmp_path: Path, classes: list[object]) -> None:
    generator = np.random.default_rng(0)
    chances = generator.dirichlet(np.ones(len(classes)), size=50)
    labels = [classes[i] for i in generator.integers(0, len(classes), size=50)]
    path = tmp_path / "scores.png"
    figure = plot_scores(labels, chances, classes, path, title="ours")
    assert path.read_bytes().startswith(b"\x89PNG")
    scores, curves, confusion = figure.axes
    assert curves.get_xlabel() == "false positives"
    assert [tick.get_text() for tick in confusion.get_xticklabels()] == [str(c) for c in classes]
    counts = [int(text.get_text().split()[0]) for text in confusion.texts]
    assert sum(counts) == (50 if len(classes) <= 6 else 0)
    assert scores.get_ylabel() == "sequences"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 2\) for 3 labels"):
        plot_scores(["a"] * 3, np.full((2, 2), 0.5), ["a", "b"])
    with pytest.raises(DataError, match="label 'c' is not one of the classes a, b"):
        plot_scores(["a", "c"], np.full((2, 2), 0.5), ["a", "b"])
