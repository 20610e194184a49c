"""What a score is worth: controls, overlap with training rows, and the strand."""

import random
import re

import numpy as np
import pandas as pd
import pytest

from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor
from titans_seq.dna.alphabet import reverse_complement_text
from titans_seq.evaluation import (
    assess_classifier,
    assess_grouped,
    assess_labels,
    assess_values,
)
from titans_seq.evaluation.dna.regression import score_values
from titans_seq.evaluation.dna.strands import StrandScores, strand_verdict
from titans_seq.exceptions import DataError

TINY = {"dim": 8, "layers": 1, "max_epochs": 3, "batch_size": 16, "random_state": 0}


def rows(count, seed=0):
    """Sequences rich in AAC, or their other strand."""
    draw = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        text = "".join(draw.choice(["AAC", "ACA", "GTC", "TAC"]) for _ in range(14))
        labels.append("forward" if number % 2 else "backward")
        texts.append(text if number % 2 else reverse_complement_text(text))
    return texts, labels


@pytest.mark.slow
def test_averaging_over_strands_fails_on_labels_of_the_strand_and_that_is_said():
    train, test = rows(120), rows(80, seed=1)
    blind = TitansDNAClassifier(**TINY, reverse_complement="average").fit(*train)
    found = assess_classifier(blind, test, train)
    model, control = found.strands[:2]
    assert model.symmetric
    assert model.agreement == 1
    assert model.given < 0.65
    assert control.given > 0.95
    assert control.other < 0.05
    (said,) = [one for one in found.warnings if "cannot distinguish" in one]
    assert (
        "averaging over strands cannot distinguish them; train with reverse_complement=none" in said
    )
    assert any("4-letter words (1.000)" in one for one in found.warnings)

    seeing = TitansDNAClassifier(**TINY).fit(*train)
    found = assess_classifier(seeing, test, train)
    assert found.strands[0].given > 0.9 > 0.2 > found.strands[0].other
    assert any("give sequences as they were in training" in one for one in found.notes)
    assert not any("cannot distinguish" in one for one in found.warnings)


def scores(given, other, *, gap=0.5, name="x"):
    return StrandScores(name, given, other, 0.5, gap, 0.5, 1000)


@pytest.mark.parametrize(
    ("model", "controls", "words"),
    [
        (scores(0.9, 0.89), [scores(0.85, 0.84)], "average or equivariant would use both"),
        (scores(0.9, 0.9, gap=0), [scores(0.85, 0.84)], r"do not depend on the strand \(x"),
        (scores(0.9, 0.1), [], "give sequences as they were"),
        (scores(0.5, 0.5, gap=0), [scores(0.87, 0.13)], "cannot distinguish them"),
    ],
)
def test_the_strand_is_judged_by_whoever_can_tell(model, controls, words):
    assert re.search(words, strand_verdict(model, controls))


def test_nothing_is_said_where_nobody_can_tell():
    assert strand_verdict(scores(0.9, 0.9, gap=0), []) is None
    assert strand_verdict(scores(0.5, 0.5), [scores(0.51, 0.5)]) is None


@pytest.mark.slow
def test_rows_that_overlap_training_rows_are_scored_apart():
    draw = random.Random(0)
    texts = ["".join(draw.choices("ACGT", k=50)) for _ in range(160)]
    labels = [draw.choice("ab") for _ in texts]
    train = texts[:100], labels[:100]
    # Half of the test rows repeat training rows; nothing else can be known of the labels.
    test = texts[40:160], labels[40:160]
    classifier = TitansDNAClassifier(**TINY).fit(*train)
    found = assess_classifier(classifier, test, train)
    assert found.apart["nearest training row"]["records"] == 60
    assert found.scores["nearest training row"]["accuracy"] > 0.7
    assert found.apart["nearest training row"]["accuracy"] < 0.7
    assert found.notes[0] == "60 of 120 rows share a 24-letter word with a training row"
    again = assess_grouped(classifier, test, train)
    assert again.notes[0].startswith("0 of ")
    assert again.apart == {}


@pytest.mark.slow
def test_without_training_rows_only_the_model_is_scored():
    test = rows(40)
    found = assess_classifier(TitansDNAClassifier(**TINY).fit(*test), test)
    assert list(found.scores) == ["titans-seq"]
    assert found.apart == {}
    own = found.scores["titans-seq"]
    for name in ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece"):
        assert own[f"{name}_low"] <= own[name] <= own[f"{name}_high"] + 1e-9


@pytest.mark.slow
def test_several_labels_are_scored_one_by_one():
    texts, labels = rows(100)
    table = np.stack([np.array(labels) == "forward", np.arange(100) % 3 == 0], axis=1).astype(int)
    classifier = TitansDNAClassifier(**TINY).fit(texts, pd.DataFrame(table, columns=["f", "x"]))
    found = assess_labels(classifier, (texts, table), (texts, table))
    assert next(iter(found.scores)) == "titans-seq"
    assert {"titans-seq: f", "titans-seq: x", "majority"} < set(found.scores)
    each = [found.scores[f"titans-seq: {name}"]["auroc"] for name in "fx"]
    assert found.scores["titans-seq"]["auroc"] == pytest.approx(np.mean(each))
    with pytest.raises(DataError, match="labels of shape"):
        assess_labels(classifier, (texts, table[:, :1]))


@pytest.mark.slow
def test_values_are_scored_beside_controls():
    draw = random.Random(0)
    texts = ["".join(draw.choices("ACGT", k=20) + ["G"] * draw.randrange(40)) for _ in range(120)]
    values = [float(len(text)) for text in texts]
    regressor = TitansDNARegressor(**TINY).fit(texts, values)
    found = assess_values(regressor, (texts, values), (texts, values))
    assert found.scores["length"]["r2"] > 0.95
    assert found.scores["mean"]["r2"] == pytest.approx(0)
    assert any("r2" in one and "length (" in one for one in found.warnings)


def test_values_without_a_prediction_are_left_out():
    found = score_values([1.0, 2.0, 3.0, 4.0], [1.1, np.nan, 2.9, 4.2])
    assert found["records"] == 3
    assert found["mae"] == pytest.approx((0.1 + 0.1 + 0.2) / 3)
    with pytest.raises(DataError, match="at least 3 rows with a prediction are required, got 2"):
        score_values([1.0, 2.0], [1.0, 2.0])
