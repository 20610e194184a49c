"""Scikit-learn's own checks: those that fit strings on the estimators themselves, and all of
them through subclasses that turn tables of numbers into sequences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor
from titans_seq.dna.base import TitansDNAEstimator

TINY: dict[str, Any] = {
    "dim": 4, "layers": 1, "variant": "attention", "max_epochs": 2, "batch_size": 8,
    "learning_rate": 0.1, "weight_decay": 0.0, "dropout": 0.0, "validation_fraction": 0.0,
    "random_state": 0, "device": "cpu",
}  # fmt: skip

FOR_STRINGS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_n_features_in_after_fitting",
    "check_mixin_order",
    "check_supervised_y_no_nan",
    "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
)
"""The checks that hand no numbers to an estimator whose inputs are strings."""

NOT_MET = {
    "check_sample_weight_equivalence_on_dense_data": "batches are drawn at random: a row of weight "
    "2 is not seen as two rows would be",
}
"""Checks that are expected to fail, and why."""


def letters(table: npt.NDArray[np.float64]) -> list[str]:
    """Return each row as a sequence: four letters a number, the coarsest first."""
    level = ((np.arctan(table) / np.pi + 0.5) * 256).astype(int).clip(0, 255)
    digits = level[:, :, None] // np.array([64, 16, 4, 1]) % 4
    return ["".join(row) for row in np.array(list("ACGT"))[digits.reshape(len(table), -1)]]


class Quantised(TitansDNAEstimator):
    """Mixed in, takes tables of numbers."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        return super().fit(self._table(X, reset=True), y, sample_weight)

    def partial_fit(self, X: Any, y: Any, *more: Any, **words: Any) -> Any:
        reset = not hasattr(self, "network_")
        return super().partial_fit(self._table(X, reset=reset), y, *more, **words)

    def _predict_outputs(self, X: Any) -> Any:
        check_is_fitted(self)
        # The checks compare to 1e-7, which single precision does not reach.
        self.network_.double()
        return super()._predict_outputs(self._table(X, reset=False))

    def _table(self, X: Any, reset: bool) -> list[str]:
        return letters(validate_data(self, X, reset=reset, dtype="float64"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        return tags


class QuantisedClassifier(Quantised, TitansDNAClassifier):
    pass


class QuantisedRegressor(Quantised, TitansDNARegressor):
    pass


@pytest.mark.parametrize("name", FOR_STRINGS)
@pytest.mark.parametrize("kind", [TitansDNAClassifier, TitansDNARegressor])
def test_checks_for_strings_pass(kind: type[TitansDNAEstimator], name: str) -> None:
    getattr(estimator_checks, name)(kind.__name__, kind(**TINY))


@pytest.mark.slow
@pytest.mark.usefixtures("brief_start")
def test_all_checks_pass_for_the_classifier_on_tables_of_numbers() -> None:
    _assert_all_checks_pass(QuantisedClassifier(**TINY))


@pytest.mark.slow
def test_all_checks_pass_for_the_regressor_on_tables_of_numbers() -> None:
    _assert_all_checks_pass(QuantisedRegressor(**TINY | {"max_epochs": 5, "batch_size": 16}))


def _assert_all_checks_pass(estimator: TitansDNAEstimator) -> None:
    found = estimator_checks.check_estimator(
        estimator,
        expected_failed_checks=NOT_MET,
        on_fail=None,
        on_skip=None,
    )
    failed = {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"}
    assert not failed
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == set(NOT_MET)
    assert len(found) > 50
