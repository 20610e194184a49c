"""Batches of a data set, read by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from titans_seq.exceptions import DataError
from titans_seq.forecasting.ptf.windows import BatchReader

ROLES: dict[str, Any] = {
    "x_reals": ["height", "plan", "sold", "price"],
    "x_categoricals": ["shop", "fair", "feast", "sky"],
    "categorical_groups": {"days_out": ["fair", "feast"]},
    "embedding_sizes": {"shop": (5, 3), "days_out": (3, 2), "sky": (4, 2)},
    "static_reals": ["height"],
    "static_categoricals": ["shop"],
    "time_varying_reals_encoder": ["plan", "sold", "price"],
    "time_varying_reals_decoder": ["plan"],
    "time_varying_categoricals_encoder": ["sky"],
    "time_varying_categoricals_decoder": ["days_out"],
}


def _batch() -> dict[str, torch.Tensor]:
    """Return two windows: 3 and 1 rows behind, 1 and 2 ahead; 9 stands in the padding."""

    def reals(*rows: list[int]) -> torch.Tensor:
        return torch.tensor([[[10.0, 1.0 * n, 20.0 + n, 30.0 + n] for n in row] for row in rows])

    def codes(*rows: list[int]) -> torch.Tensor:
        return torch.tensor([[[4, n % 3, (n + 1) % 3, n % 4] for n in row] for row in rows])

    return {
        "encoder_cont": reals([1, 2, 3], [5, 99, 99]),
        "encoder_cat": codes([1, 2, 3], [5, 99, 99]),
        "decoder_cont": reals([4, 99], [6, 7]),
        "decoder_cat": codes([4, 99], [6, 7]),
        "encoder_lengths": torch.tensor([3, 1]),
        "decoder_lengths": torch.tensor([1, 2]),
    }


def test_each_column_comes_to_its_place() -> None:
    found = BatchReader(ROLES, target="sold", context_length=4, horizon=3).windows(_batch())
    assert found.history.tolist() == [[0, 21, 22, 23], [0, 0, 0, 25]]
    assert found.seen.tolist() == [[False, True, True, True], [False, False, False, True]]
    assert found.past[..., 0].tolist() == [[0, 31, 32, 33], [0, 0, 0, 35]]
    assert found.past_codes[..., 0].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert found.future[..., 0].tolist() == [[0, 1, 2, 3, 4, 0, 0], [0, 0, 0, 5, 6, 7, 0]]
    # a group that the encoder must not see is 0 there
    assert found.future_codes[..., 0].tolist() == [[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]
    assert found.future_codes[..., 1].tolist() == [[0, 0, 0, 0, 2, 0, 0], [0, 0, 0, 0, 1, 2, 0]]
    assert found.static.tolist() == [[10], [10]]
    assert found.static_codes.tolist() == [[4], [4]]


def test_sizes_count_columns_and_categories() -> None:
    assert BatchReader(ROLES, target="sold", context_length=4, horizon=3).sizes() == {
        "past_reals": 1,
        "past_cardinalities": (4,),
        "future_reals": 1,
        "future_cardinalities": (3, 3),
        "static_reals": 1,
        "static_cardinalities": (5,),
    }


def test_a_target_without_a_column_has_no_history() -> None:
    reader = BatchReader(ROLES, target="sky", context_length=4, horizon=3)
    found = reader.windows(_batch())
    assert not found.history.any()
    assert found.seen.sum() == 4
    assert reader.sizes()["past_reals"] == 2
    assert found.past[1, 3].tolist() == [25, 35]


def test_of_a_longer_encoder_the_latest_rows_are_read() -> None:
    found = BatchReader(ROLES, target="sold", context_length=2, horizon=3).windows(_batch())
    assert found.history.tolist() == [[22, 23], [0, 25]]


def test_a_longer_decoder_is_refused() -> None:
    reader = BatchReader(ROLES, target="sold", context_length=4, horizon=1)
    with pytest.raises(DataError, match="has 2 steps to forecast, the model's horizon is 1"):
        reader.windows(_batch())
