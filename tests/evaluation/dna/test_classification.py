import numpy as np
import pytest
from sklearn import metrics

from titans_seq.evaluation.dna.classification import score_classifier
from titans_seq.evaluation.scores.intervals import wilson_interval
from titans_seq.exceptions import DataError


def two_classes(records=400, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, records)
    chance = 1 / (1 + np.exp(-(labels - 0.5) * 2 - generator.normal(size=records)))
    return labels, np.stack([1 - chance, chance], axis=1)


def test_two_classes_agree_with_scikit_learn():
    labels, chances = two_classes()
    scores = score_classifier(labels, chances, [0, 1])
    guess = chances.argmax(axis=1)
    assert scores["accuracy"] == metrics.accuracy_score(labels, guess)
    assert scores["f1"] == pytest.approx(metrics.f1_score(labels, guess, average="macro"))
    assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, guess))
    assert scores["auroc"] == pytest.approx(metrics.roc_auc_score(labels, chances[:, 1]))
    assert scores["auprc"] == pytest.approx(metrics.average_precision_score(labels, chances[:, 1]))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(labels, chances))
    assert scores["records"] == 400


def test_three_classes_agree_with_scikit_learn():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 300)
    chances = generator.dirichlet(np.ones(3), 300) + np.eye(3)[labels]
    chances /= chances.sum(axis=1, keepdims=True)
    scores = score_classifier([f"c{one}" for one in labels], chances, ["c0", "c1", "c2"])
    expected = metrics.roc_auc_score(labels, chances, multi_class="ovr", average="macro")
    assert scores["auroc"] == pytest.approx(expected)
    assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, chances.argmax(axis=1)))


def test_intervals_hold_the_score_and_narrow_with_more_records():
    few = score_classifier(*two_classes(100), [0, 1])
    many = score_classifier(*two_classes(2000), [0, 1])
    for scores in (few, many):
        assert scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"]
        assert scores["mcc_low"] < scores["mcc"] < scores["mcc_high"]
    assert many["mcc_high"] - many["mcc_low"] < (few["mcc_high"] - few["mcc_low"]) / 2


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_interval(right, count, low, high):
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=1e-3)


def test_calibration_error_is_zero_where_confidence_is_right_and_large_where_not():
    labels = np.array([0] * 70 + [1] * 30)
    honest = np.tile([0.7, 0.3], (100, 1))
    sure = np.tile([1.0, 0.0], (100, 1))
    assert score_classifier(labels, honest, [0, 1])["ece"] == pytest.approx(0)
    assert score_classifier(labels, sure, [0, 1])["ece"] == pytest.approx(0.3)


def test_one_class_alone_has_no_area():
    scores = score_classifier(["a", "a"], [[0.9, 0.1], [0.8, 0.2]], ["a", "b"])
    assert np.isnan(scores["auroc"])
    assert scores["accuracy"] == 1
    assert scores["mcc"] == 0


@pytest.mark.parametrize(
    ("labels", "chances", "message"),
    [
        (["a"], [[0.5, 0.5], [0.5, 0.5]], "1 labels and 2 classes do not match"),
        ([], np.zeros((0, 2)), "0 labels"),
        (["a", "c"], [[0.5, 0.5], [0.5, 0.5]], "label 'c' is not one of the model's classes: a, b"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, chances, message):
    with pytest.raises(DataError, match=message):
        score_classifier(labels, chances, ["a", "b"])
