"""The regressor predicts in the values' own units, and comes back from its folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score

from titans_seq.dna import TitansDNARegressor
from titans_seq.exceptions import BundleError, DataError

TINY: dict[str, Any] = {"dim": 16, "layers": 1, "batch_size": 16, "random_state": 0}


def _sequences(count: int = 240) -> tuple[list[str], np.ndarray]:
    """Return sequences and 1000 plus ten times the number of their GGG."""
    draw = random.Random(0)
    sequences = ["".join(draw.choices("ACGT", k=20) + ["AGGGA"] * (i % 5)) for i in range(count)]
    return sequences, np.array([1000.0 + 10 * (i % 5) for i in range(count)])


@pytest.mark.slow
def test_it_learns_values_in_their_own_units(tmp_path: Path) -> None:
    sequences, values = _sequences()
    regressor = TitansDNARegressor(**TINY, max_epochs=8).fit(sequences[:180], values[:180])
    found = regressor.predict(sequences[180:])
    assert found.shape == (60,)
    assert regressor.score(sequences[180:], values[180:]) > 0.7
    assert abs(found.mean() - values[180:].mean()) < 5
    regressor.save(tmp_path / "model")
    again = TitansDNARegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(sequences[180:]), found)
    (tmp_path / "model" / "preprocess.json").write_text("{}")
    with pytest.raises(BundleError, match=r"preprocess.json is damaged, or belongs"):
        TitansDNARegressor.load(tmp_path / "model")


@pytest.mark.slow
def test_several_values_keep_their_names_and_units(tmp_path: Path) -> None:
    sequences, values = _sequences(60)
    table = pd.DataFrame({"strength": values, "share": 1e-6 * (values - 1000)})
    regressor = TitansDNARegressor(**TINY, max_epochs=2, reverse_complement="average")
    regressor.fit(sequences, table)
    assert regressor.names_.tolist() == ["strength", "share"]
    found = regressor.predict(sequences)
    assert found.shape == (60, 2)
    assert np.abs(found[:, 0] - 1020).max() < 100
    assert np.abs(found[:, 1]).max() < 1e-3


def test_parts_and_short_sequences() -> None:
    sequences, values = _sequences(40)
    regressor = TitansDNARegressor(**TINY, min_length=10)
    for _ in range(3):
        regressor.partial_fit([*sequences, "ACGT"], [*values, -1e9])
    assert regressor.n_iter_ == 3
    found = regressor.predict([*sequences[:2], "ACGT"])
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2])


@pytest.mark.slow
def test_it_works_inside_cross_validation() -> None:
    assert cross_val_score(TitansDNARegressor(**TINY, max_epochs=1), *_sequences(30), cv=2).shape


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        ([1.0, 2.0], r"4 sequences but values of shape \(2,\)"),
        ([1.0, np.nan, 2.0, 3.0], "value 1 is missing"),
        ([1.0, np.inf, 2.0, 3.0], "value 1 is infinite"),
        (["a", "b", "c", "d"], "the values are not numbers"),
    ],
)
def test_values_that_do_not_fit_are_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TitansDNARegressor(**TINY).fit(["ACGT"] * 4, y)
