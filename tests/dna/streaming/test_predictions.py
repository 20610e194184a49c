"""Predictions of every kind of estimator have columns, and labels if there are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor
from titans_seq.dna.alphabet import encode
from titans_seq.dna.streaming.predictions import (
    SequencePredictions,
    concatenate_predictions,
    output_names,
    predict_sequences,
)

TEXTS = ["".join(np.random.default_rng(seed).choice(list("ACGT"), 20)) for seed in range(24)]
ROWS = [encode(text) for text in TEXTS]
SMALL = {"dim": 8, "layers": 1, "max_epochs": 1, "random_state": 0}


def test_a_classifier_may_leave_sequences_unclassified() -> None:
    labels = ["g" if text.count("G") > 5 else "other" for text in TEXTS]
    classifier = TitansDNAClassifier(**SMALL, min_length=10).fit(TEXTS, labels)
    assert output_names(classifier) == (["g", "other"], ["p(g)", "p(other)"], True)
    answers = predict_sequences(classifier, [*ROWS, encode("ACGT")])
    assert answers.labels is not None
    assert list(answers.labels) == list(classifier.predict([*TEXTS, "ACGT"]))
    assert answers.labels[-1] == "unclassified"
    np.testing.assert_allclose(answers.values[:-1], classifier.predict_proba(TEXTS), atol=1e-6)


def test_several_labels_are_one_word() -> None:
    table = pd.DataFrame({base: [int(text.count(base) > 5) for text in TEXTS] for base in "AG"})
    classifier = TitansDNAClassifier(**SMALL).fit(TEXTS, table)
    answers = predict_sequences(classifier, ROWS)
    given = classifier.predict(TEXTS)
    words = {(0, 0): "unclassified", (1, 0): "A", (0, 1): "G", (1, 1): "A;G"}
    assert answers.labels is not None
    assert list(answers.labels) == [words[tuple(row)] for row in given.tolist()]


@pytest.mark.parametrize("names", [None, ["strength"], ["left", "right"]])
def test_values_keep_their_names(names: list[str] | None) -> None:
    share = np.array([text.count("G") / 20 for text in TEXTS])
    y = share if names is None else pd.DataFrame(dict.fromkeys(names, share))
    regressor = TitansDNARegressor(**SMALL).fit(TEXTS, y)
    columns = ["value"] if names is None else [f"value({name})" for name in names]
    assert output_names(regressor).columns == columns
    answers = predict_sequences(regressor, ROWS)
    assert answers.labels is None
    found = regressor.predict(TEXTS).reshape(24, -1)
    np.testing.assert_allclose(answers.values, found, rtol=1e-5)


def test_parts_come_back_in_order() -> None:
    parts = [SequencePredictions(np.array([[3.0], [1.0]]), np.array(["d", "b"])),
             SequencePredictions(np.array([[0.0], [2.0]]), np.array(["a", "c"]))]  # fmt: skip
    joined = concatenate_predictions(parts, [3, 1, 0, 2])
    assert joined.labels is not None
    assert (joined.values[:, 0].tolist(), joined.labels.tolist()) == ([0, 1, 2, 3], list("abcd"))


def test_a_regressor_reads_along_a_record(tmp_path: Path) -> None:
    share = np.array([text.count("G") / 20 for text in TEXTS])
    regressor = TitansDNARegressor(**SMALL).fit(TEXTS, share)
    path = tmp_path / "x.fa"
    path.write_text(">a\n" + "\n".join(TEXTS) + "\n")
    rows = list(regressor.predict_stream(path, window=20))
    np.testing.assert_allclose([row.values[0] for row in rows], regressor.predict(TEXTS), rtol=1e-5)
    assert {row.label for row in rows} == {None}
