import numpy as np
import pytest
from sklearn import metrics

from titans_seq.dna.learning.calibration import calibration_error
from titans_seq.evaluation.scores.intervals import _scores_of_samples, bootstrap_intervals


def problem(classes, rows=150, seed=0):
    generator = np.random.default_rng(seed)
    actual = generator.integers(0, classes, rows)
    chances = generator.dirichlet(np.ones(classes), rows) + 0.5 * np.eye(classes)[actual]
    # Rounded, so that some scores are equal.
    chances = np.round(chances / chances.sum(axis=1, keepdims=True), 2)
    return actual, chances / chances.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_counts_are_those_of_the_rows_drawn(classes):
    actual, chances = problem(classes)
    rows = np.random.default_rng(1).integers(0, len(actual), len(actual))
    counts = np.bincount(rows, minlength=len(actual))[None] * 1.0
    found = {name: value[0] for name, value in _scores_of_samples(actual, chances, counts).items()}
    truth, said = actual[rows], chances[rows]
    columns = [1] if classes == 2 else range(classes)
    roc = np.mean([metrics.roc_auc_score(truth == c, said[:, c]) for c in columns])
    precision = np.mean([metrics.average_precision_score(truth == c, said[:, c]) for c in columns])
    assert found["auroc"] == pytest.approx(roc)
    assert found["auprc"] == pytest.approx(precision)
    assert found["log_loss"] == pytest.approx(
        metrics.log_loss(truth, np.clip(said, 1e-12, 1), labels=range(classes)), abs=1e-6
    )
    assert found["ece"] == pytest.approx(calibration_error(said, truth))


def test_intervals_hold_the_score_and_narrow_with_more_rows():
    few, many = (bootstrap_intervals(*problem(2, rows)) for rows in (60, 2000))
    actual, chances = problem(2, 2000)
    low, high = many["auroc"]
    assert low < metrics.roc_auc_score(actual, chances[:, 1]) < high
    assert high - low < (few["auroc"][1] - few["auroc"][0]) / 2


def test_a_missing_class_has_no_area():
    found = bootstrap_intervals(np.zeros(10, dtype=np.int64), np.full((10, 2), 0.5), samples=5)
    assert np.isnan(found["auroc"]).all()
    assert np.isfinite(found["log_loss"]).all()
