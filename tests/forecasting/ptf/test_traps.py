"""What a model must not do: see the future or the padding, remember a batch, lose the scale."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pandas as pd
import pytest
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import EncoderNormalizer, GroupNormalizer, NaNLabelEncoder
from pytorch_forecasting.metrics import MAE, CrossEntropy, NormalDistributionLoss

from titans_seq.forecasting.ptf import TitansForecastModel

Batch = dict[str, Any]

KNOWN_REALS = ("plan", "relative_time_idx", "area", "encoder_length")
KNOWN_CODES = ("day", "fair", "feast", "shop")
VARIANTS = ("mac", "mag", "mal", "lmm", "attention")


@pytest.fixture(scope="module")
def dataset(make_dataset: Any) -> TimeSeriesDataSet:
    return make_dataset()


@pytest.fixture(scope="module")
def x(dataset: TimeSeriesDataSet, batch_of: Any) -> Batch:
    """Return a batch with windows of every length."""
    batch: Batch = batch_of(dataset, 64)[0]
    assert len(batch["encoder_lengths"].unique()) > 1
    assert len(batch["decoder_lengths"].unique()) > 1
    return batch


@pytest.fixture(scope="module", params=VARIANTS)
def model(
    request: pytest.FixtureRequest, dataset: TimeSeriesDataSet, make_model: Any
) -> TitansForecastModel:
    found: TitansForecastModel = make_model(dataset, variant=request.param)
    return found


def _columns(names: list[str], chosen: tuple[str, ...]) -> list[int]:
    return [names.index(name) for name in chosen]


def _rows_of(x: Batch, rows: slice) -> Batch:
    """Return some windows of a batch, cut to their own lengths as a loader would."""
    part = {name: value[rows] for name, value in x.items() if isinstance(value, torch.Tensor)}
    for side in ("encoder", "decoder"):
        longest = int(part[f"{side}_lengths"].max())
        for kind in ("cont", "cat", "target"):
            part[f"{side}_{kind}"] = part[f"{side}_{kind}"][:, :longest]
    return part


def test_the_unknown_part_of_the_decoder_is_never_read(
    dataset: TimeSeriesDataSet, model: TitansForecastModel, x: Batch
) -> None:
    expected = model(x)["prediction"]
    known = _columns(dataset.reals, KNOWN_REALS)
    cont = torch.full_like(x["decoder_cont"], torch.nan)
    cont[..., known] = x["decoder_cont"][..., known]
    sky = dataset.flat_categoricals.index("sky")
    cat = x["decoder_cat"].clone()
    cat[..., sky] = 1 - cat[..., sky]
    scrambled = {**x, "decoder_cont": cont, "decoder_cat": cat, "decoder_target": None}
    torch.testing.assert_close(model(scrambled)["prediction"], expected, atol=0, rtol=0)


def test_padding_is_never_read(model: TitansForecastModel, x: Batch) -> None:
    expected = model(x)["prediction"]
    rubbish = dict(x)
    for side, longest in (("encoder", 16), ("decoder", 5)):
        padded = (torch.arange(longest) >= x[f"{side}_lengths"][:, None])[..., None]
        assert padded.any()
        rubbish[f"{side}_cont"] = x[f"{side}_cont"].masked_fill(padded, torch.nan)
        rubbish[f"{side}_cat"] = x[f"{side}_cat"].masked_fill(padded, 1)
    found = model(rubbish)["prediction"]
    real = torch.arange(5) < x["decoder_lengths"][:, None]
    torch.testing.assert_close(found[real], expected[real], atol=0, rtol=0)


def test_a_window_alone_is_forecast_as_among_64(model: TitansForecastModel, x: Batch) -> None:
    expected = model(x)["prediction"]
    assert len(expected) == 64
    for row in (0, 1, 37, 63):
        alone = _rows_of(x, slice(row, row + 1))
        found = model(alone)["prediction"]
        torch.testing.assert_close(
            found, expected[row : row + 1, : found.shape[1]], atol=1e-4, rtol=1e-4
        )


def test_a_batch_leaves_nothing_behind(model: TitansForecastModel, x: Batch) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = _rows_of(x, slice(0, 10)), _rows_of(x, slice(30, 60))
    expected = model(first)["prediction"]
    model(second)
    torch.testing.assert_close(model(first)["prediction"], expected, atol=0, rtol=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


@pytest.mark.parametrize("loss", [MAE(), NormalDistributionLoss()], ids=lambda one: one.name)
@pytest.mark.parametrize(
    "normalizer",
    [EncoderNormalizer(), GroupNormalizer(groups=["shop"])],
    ids=["encoder", "group"],
)
def test_a_shifted_and_stretched_target_is_forecast_shifted_and_stretched(
    make_dataset: Any,
    make_model: Any,
    batch_of: Any,
    rows: pd.DataFrame,
    loss: Any,
    normalizer: Any,
) -> None:
    forecasts = []
    for stretch, shift in ((1.0, 0.0), (250.0, 5000.0)):
        frame = rows.assign(sold=rows["sold"] * stretch + shift)
        # a normaliser that is fitted already stays as it is
        own = deepcopy(normalizer)
        dataset = make_dataset(frame, target_normalizer=own, min_encoder_length=16)
        model = make_model(dataset, loss=loss)
        torch.manual_seed(0)
        out = model(batch_of(dataset)[0])
        forecasts.append(model.to_prediction(out, use_metric=True))
    scale = float(forecasts[1].detach().std())
    torch.testing.assert_close(forecasts[1], forecasts[0] * 250 + 5000, atol=0.01 * scale, rtol=0)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("encoder", "sold"), ("encoder", "price"), ("encoder", "plan"), ("encoder", "sky"),
        ("encoder", "day"), ("encoder", "fair"), ("encoder", "feast"),
        ("decoder", "plan"), ("decoder", "day"), ("decoder", "fair"), ("decoder", "feast"),
        ("decoder", "area"), ("decoder", "shop"), ("decoder", "relative_time_idx"),
        ("decoder", "encoder_length"),
    ],
)  # fmt: skip
def test_every_role_has_an_effect(
    dataset: TimeSeriesDataSet, model: TitansForecastModel, x: Batch, part: str, name: str
) -> None:
    expected = model(x)["prediction"]
    if name in dataset.reals:
        changed = x[f"{part}_cont"].clone()
        # not a shift: the scale of a look-back is read off the target itself
        changed[..., dataset.reals.index(name)] += torch.linspace(1, 2, changed.shape[1])
        other = {**x, f"{part}_cont": changed}
    else:
        changed = x[f"{part}_cat"].clone()
        column = dataset.flat_categoricals.index(name)
        changed[..., column] = 1 - changed[..., column].clamp(max=1)
        other = {**x, f"{part}_cat": changed}
    moved = (model(other)["prediction"] - expected).abs().amax(dim=(1, 2))
    assert (moved > 1e-6).any()


def test_a_categorical_target_is_forecast_from_its_own_past(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    dataset = make_dataset(
        target="sky", target_normalizer=NaNLabelEncoder(), time_varying_unknown_reals=["price"]
    )
    model, (x, _) = make_model(dataset, loss=CrossEntropy()), batch_of(dataset)
    expected = model(x)["prediction"]
    assert expected.shape[1:] == (5, 2)
    for kind, name in (("cat", "sky"), ("cont", "price")):
        columns = dataset.flat_categoricals if kind == "cat" else dataset.reals
        changed = x[f"encoder_{kind}"].clone()
        changed[:, 0, columns.index(name)] = 1 - changed[:, 0, columns.index(name)]
        other = model({**x, f"encoder_{kind}": changed})["prediction"]
        assert (other - expected).abs().amax() > 1e-6
