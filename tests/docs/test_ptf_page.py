"""The page on pytorch-forecasting: its examples run, and its tables are complete."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytorch_forecasting")

from titans_seq.forecasting.ptf import TitansForecastModel
from titans_seq.forecasting.ptf.attribution import Attribution

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "pytorch-forecasting.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(page: str) -> dict[str, Any]:
    """Names that the page's code defines; the code has assertions of its own."""
    names: dict[str, Any] = {"__name__": "ptf_page"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "docs/pytorch-forecasting.md", "exec", dont_inherit=True), names)
    return names


def test_the_forecast_of_the_example_beats_the_mean(example: dict[str, Any]) -> None:
    quantiles, index = example["forecast"].output, example["forecast"].index
    assert list(index["shop"]) == ["north", "south", "west"]
    rows = example["rows"]
    actual = rows[rows["time_idx"] >= 110]["sold"].to_numpy().reshape(3, 10)
    error = abs(quantiles[..., 1].numpy() - actual).mean()
    assert error < abs(actual - actual.mean()).mean()
    assert (quantiles.diff(dim=-1) > 0).all()


def test_the_curves_of_the_example_cover_the_look_back(example: dict[str, Any]) -> None:
    interpretation = example["interpretation"]
    assert set(interpretation) == {"attention", "attention_parts", "memory", "surprise"}
    assert interpretation["surprise"].shape == (36,)
    assert set(example["figures"]) == set(interpretation)
    assert len(example["prediction_plot"].axes) == 2


def test_the_page_names_every_setting_of_the_model(page: str) -> None:
    ours = ("variant", "dim", "layers", "heads", "patch_length", "normalise", "dropout")
    assert set(ours) <= set(inspect.signature(TitansForecastModel.__init__).parameters)
    table = page.split("| setting |")[1].split("\n\n")[0]
    assert all(f"`{name}`" in table for name in ours)


def test_the_page_names_every_curve(page: str) -> None:
    assert all(f"`{name}`" in page for name in Attribution._fields if name != "parts")
