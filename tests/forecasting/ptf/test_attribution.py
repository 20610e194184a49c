"""Attribution of forecasts, against what the layers themselves compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_forecasting.data import EncoderNormalizer, MultiNormalizer, NaNLabelEncoder
from pytorch_forecasting.metrics import CrossEntropy, MultiLoss, QuantileLoss

from titans_seq import TitansBackbone, TitansConfig
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import ForecastNetwork, Windows
from titans_seq.forecasting.ptf.attribution import ATTENTION_PARTS, attribute
from titans_seq.forecasting.ptf.recording import (
    record_activations,
    segment_weights,
    sliding_weights,
    without_write,
)
from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.context import ContextMixer

VARIANTS = ("mac", "mag", "mal", "lmm", "attention")


@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize(("time", "window"), [(1, 4), (7, 64), (40, 5)])
def test_sliding_weights_reproduce_the_layer(time: int, window: int, persistent: int) -> None:
    torch.manual_seed(0)
    layer = SlidingAttention(16, heads=2, window=window).double()
    tokens, learned = torch.randn(3, time, 16).double(), torch.randn(persistent, 16).double()
    expected, _ = layer(tokens, learned)
    weights = sliding_weights(layer, tokens, learned)
    values = weights.tokens @ layer.heads.split(tokens)[2]
    prefix = layer.heads.prefix(learned)
    if prefix is not None:
        values = values + weights.persistent @ prefix[1]
    torch.testing.assert_close(layer.heads.join(values), expected)
    total = weights.tokens.sum(-1) + weights.persistent.sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("time", [1, 4, 11])
def test_segment_weights_reproduce_the_layer(time: int) -> None:
    torch.manual_seed(0)
    config = TitansConfig(dim=16, heads=2, segment_len=4, persistent_tokens=2, variant="mac")
    mixer = ContextMixer(config).double()
    tokens = torch.randn(3, time, 16).double()
    contexts: list[torch.Tensor] = []
    joined: list[torch.Tensor] = []
    mixer.norm.register_forward_hook(lambda *seen: contexts.append(seen[2]))
    mixer.join.register_forward_hook(lambda *seen: joined.append(seen[1][0]))
    mixer(tokens, None, None, False)
    weights = segment_weights(mixer, tokens, contexts)
    recalled = torch.cat([mixer.attention.keys_values(one)[1] for one in contexts], dim=2)
    prefix = mixer.attention.prefix(mixer.tokens)
    assert prefix is not None
    values = (
        weights.tokens @ mixer.attention.split(tokens)[2]
        + weights.context @ recalled
        + weights.persistent @ prefix[1]
    )
    torch.testing.assert_close(mixer.attention.join(values), joined[0])


@pytest.mark.parametrize("variant", ["mac", "mag", "mal", "lmm"])
@pytest.mark.parametrize("padded", [False, True])
def test_surprise_is_the_loss_that_the_memory_had(variant: Any, padded: bool) -> None:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=16, heads=2, layers=2, segment_len=4, chunk_size=3, window=4, variant=variant
    )
    backbone = TitansBackbone(config).double()
    x = torch.randn(3, 11, 16).double()
    mask = torch.ones(3, 11, dtype=torch.bool)
    if padded:
        mask[0, :6] = mask[1, 4] = False
    seen: list[list[torch.Tensor]] = []
    for block in backbone.blocks:
        memory = block.mixer.memory
        own: list[torch.Tensor] = []
        seen.append(own)
        original = memory.read_packed

        def noting(*args: Any, _own: Any = own, _original: Any = original, **kw: Any) -> Any:
            found = _original(*args, **kw)
            _own.append(found[2])
            return found

        memory.read_packed = noting
    with record_activations(backbone) as record:
        backbone(x, mask=mask, keep_state=False)
    for block, own in zip(backbone.blocks, seen, strict=True):
        during = torch.cat(own, dim=1)
        found = record.surprise(block.mixer.memory)
        skipped = during.shape[1] - int(mask.sum(1).max())
        for row in range(3):
            count = int(mask[row].sum())
            torch.testing.assert_close(
                found[row][mask[row]], during[row, skipped : skipped + count]
            )
        assert not found[~mask].any()


@pytest.mark.parametrize("variant", ["mac", "mag", "mal", "lmm"])
def test_a_skipped_write_changes_later_tokens_only(variant: Any) -> None:
    torch.manual_seed(0)
    config = TitansConfig(dim=16, heads=2, segment_len=4, chunk_size=2, variant=variant)
    backbone = TitansBackbone(config).double()
    x = torch.randn(2, 10, 16).double()
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, :5] = False
    with record_activations(backbone) as record:
        expected, _ = backbone(x, mask=mask, keep_state=False)
    with without_write(record, 6):
        found, _ = backbone(x, mask=mask, keep_state=False)
    moved = (found - expected).abs().amax(-1)
    assert not moved[:, :6].any()
    assert (moved[:, 7:] > 0).all()
    with without_write(record, 2):  # which the second row does not have
        found, _ = backbone(x, mask=mask, keep_state=False)
    torch.testing.assert_close(found[1], expected[1], atol=0, rtol=0)
    assert (found[0, 3:] - expected[0, 3:]).abs().amax() > 0
    again, _ = backbone(x, mask=mask, keep_state=False)
    torch.testing.assert_close(again, expected, atol=0, rtol=0)


def _network(variant: Any, windows: Windows) -> ForecastNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(
        context_length=13, horizon=7, patch_length=3, variant=variant, dim=8, heads=2, layers=2,
        past_reals=2, past_cardinalities=(4,), future_reals=1, future_cardinalities=(4, 4),
        static_reals=1, static_cardinalities=(4, 4),
    )  # fmt: skip
    network = ForecastNetwork(config)
    torch.nn.init.normal_(network.point.weight)
    return network.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_attribution_adds_up(variant: Any, windows: Windows) -> None:
    network = _network(variant, windows)
    expected = network(windows).point
    found = attribute(network, windows, lambda forecast: forecast.point[..., None])
    torch.testing.assert_close(network(windows).point, expected, atol=0, rtol=0)
    if variant != "lmm":
        assert found.parts.shape == (5, 7, len(ATTENTION_PARTS))
        torch.testing.assert_close(found.parts.sum(-1), torch.ones(5, 7))
        torch.testing.assert_close(found.attention.sum(-1), found.parts[..., 0])
        assert not found.attention[:, :, ~windows.seen.any(0)].any()
        assert bool(found.parts[..., ATTENTION_PARTS.index("memory")].any()) == (variant == "mac")
    if variant != "attention":
        assert torch.equal(found.surprise.isnan(), ~windows.seen)
        assert (found.surprise[windows.seen] > 0).all()
        assert (found.memory.sum(-1) > 0).all()
        assert not found.memory.masked_select(~windows.seen[:, None]).any()
    widths = [one.shape[-1] for one in (found.attention, found.memory, found.surprise)]
    has = [variant != "lmm", variant != "attention", variant != "attention"]
    assert widths == [13 * one for one in has]


def test_attribution_leaves_a_model_in_training_mode(windows: Windows) -> None:
    network = _network("mag", windows).train()
    attribute(network, windows, lambda forecast: forecast.point[..., None])
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_attributes_its_forecasts(make_dataset: Any, make_model: Any, variant: str) -> None:
    dataset = make_dataset(min_encoder_length=12)
    model = make_model(dataset, variant=variant)
    cpu = {"accelerator": "cpu"}
    raw = model.predict(dataset, mode="raw", interpret=True, batch_size=64, trainer_kwargs=cpu)
    plain = model.predict(dataset, mode="raw", batch_size=64, trainer_kwargs=cpu)
    torch.testing.assert_close(raw.prediction, plain.prediction, equal_nan=True)
    each = model.interpret_output(raw)
    names = {"attention", "attention_parts", "memory", "surprise"}
    if variant == "lmm":
        names -= {"attention", "attention_parts"}
    if variant == "attention":
        names -= {"memory", "surprise"}
    assert set(each) == names
    mean, total = (model.interpret_output(raw, reduction=one) for one in ("mean", "sum"))
    for name in names - {"attention_parts"}:
        assert each[name].shape == (len(dataset), 16)
        torch.testing.assert_close(each[name].nanmean(0), mean[name])
        torch.testing.assert_close(each[name].nansum(0), total[name])
    first = model.interpret_output(raw, attention_prediction_horizon=0)
    for name in names - {"attention_parts", "surprise"}:
        torch.testing.assert_close(first[name], raw[name][:, 0])
    assert set(model.plot_interpretation(mean)) == names
    assert set(model.plot_interpretation(each)) == names


def test_several_targets_have_attributions_of_their_own(make_dataset: Any, make_model: Any) -> None:
    dataset = make_dataset(
        target=["sold", "sky"], min_encoder_length=16, min_prediction_length=5,
        target_normalizer=MultiNormalizer([EncoderNormalizer(), NaNLabelEncoder()]),
    )  # fmt: skip
    model = make_model(dataset, loss=MultiLoss([QuantileLoss([0.1, 0.5, 0.9]), CrossEntropy()]))
    raw = model.predict(dataset, mode="raw", interpret=True, trainer_kwargs={"accelerator": "cpu"})
    found = model.interpret_output(raw, reduction="mean")
    assert list(found) == ["sold", "sky"]
    assert not torch.allclose(found["sold"]["surprise"], found["sky"]["surprise"])
    figures = model.plot_interpretation(found)
    assert "sky memory" in figures
    assert len(figures) == 8


def test_a_forecast_is_plotted_with_its_attribution(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    dataset = make_dataset()
    model, (x, _) = make_model(dataset), batch_of(dataset, 20)
    figure = model.plot_prediction(x, model(x), idx=3)
    assert len(figure.axes) == 1
    interpreted = model.plot_prediction(x, model(x, interpret=True), idx=3, add_loss_to_title=True)
    behind = interpreted.axes[1]
    assert {line.get_label() for line in behind.lines} == {"attention", "memory", "surprise"}
    rows = int(x["encoder_lengths"][3])
    for line in behind.lines:
        assert list(line.get_xdata()) == list(range(-rows, 0))
        assert max(line.get_ydata()) == pytest.approx(1)
    pyplot.close("all")


def test_several_targets_are_plotted_separately(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    dataset = make_dataset(target=["sold", "price"])
    model, (x, _) = make_model(dataset), batch_of(dataset, 20)
    figures = model.plot_prediction(x, model(x), idx=3, add_loss_to_title=True)
    assert len(set(figures)) == 2
    steps = int(x["encoder_lengths"][3])
    for figure, actual in zip(figures, x["encoder_target"], strict=True):
        (axes,) = figure.axes
        assert axes.lines[0].get_ydata().tolist() == actual[3, :steps].tolist()
        assert float(axes.get_title().removeprefix("Loss ")) > 0
    looked = model.plot_prediction(x, model(x, interpret=True), idx=3)
    assert [len(figure.axes) for figure in looked] == [2, 2]
    pyplot.close("all")


def test_an_output_without_attribution_is_refused(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    dataset = make_dataset()
    model, (x, _) = make_model(dataset), batch_of(dataset, 4)
    with pytest.raises(DataError, match="predict with mode='raw', interpret=True"):
        model.interpret_output(model(x))
    with pytest.raises(ConfigError, match="reduction='median': choose one of"):
        model.interpret_output(model(x, interpret=True), reduction="median")
