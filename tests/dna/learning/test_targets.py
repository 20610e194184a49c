"""How rows are held out and weighed."""

from __future__ import annotations

import numpy as np
import pytest

from titans_seq.dna.alphabet import decode, encode, reverse_complement
from titans_seq.dna.learning.targets import Target, row_weights, stratified_holdout


def _rows(count: int) -> list[np.ndarray]:
    letters = np.random.default_rng(0).choice(list("ACGT"), (count, 12))
    return [encode("".join(row)) for row in letters]


def test_each_class_gives_its_share_and_every_row_is_on_one_side() -> None:
    targets = np.array([0] * 80 + [1] * 20)
    learn, held = stratified_holdout(_rows(100), targets, 0.1, seed=0)
    assert sorted([*learn, *held]) == list(range(100))
    assert np.bincount(targets[held]).tolist() == [8, 2]
    assert held.tolist() == stratified_holdout(_rows(100), targets, 0.1, seed=0)[1].tolist()
    assert held.tolist() != stratified_holdout(_rows(100), targets, 0.1, seed=1)[1].tolist()


def test_equal_sequences_and_other_strands_stay_together() -> None:
    rows = _rows(40)
    everything = [*rows, *rows, *[reverse_complement(row) for row in rows]]
    learn, held = stratified_holdout(everything, np.zeros(120, dtype=np.int64), 0.3, seed=0)
    assert len(held) == 36
    known = {decode(everything[i]) for i in learn}
    assert not known & {decode(everything[i]) for i in held}


@pytest.mark.parametrize("fraction", [0.0, 0.001])
def test_nothing_is_held_out_for_no_share(fraction: float) -> None:
    learn, held = stratified_holdout(_rows(30), np.arange(30) % 2, fraction, seed=0)
    assert (len(learn), len(held)) == (30, 0)


def test_weights_have_mean_one_and_balance_classes() -> None:
    targets = np.array([0] * 30 + [1] * 10)
    target = Target("classes", targets, np.array(["a", "b"]))
    weights = row_weights(target, "balanced", None)
    assert weights.mean() == pytest.approx(1)
    assert weights[:30].sum() == pytest.approx(weights[30:].sum())
    given = np.arange(40.0)
    both = row_weights(target, {"a": 1, "b": 3}, given)
    np.testing.assert_allclose(both / both.sum(), weights * given / (weights * given).sum(), 1e-5)
