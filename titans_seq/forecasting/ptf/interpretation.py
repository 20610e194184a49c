"""Interpretation of a model: curves of its attribution over the look-back, and their plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_forecasting.metrics import Metric
from torch import Tensor

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.ptf.base import CovariateModel
from titans_seq.forecasting.ptf.outputs import TitansInterpretedOutput

Reduction = Literal["none", "mean", "sum"]


class InterpretedModel(CovariateModel):
    """A model whose interpreted outputs can be reduced to curves and plotted."""

    def interpret_output(
        self,
        out: TitansInterpretedOutput,
        reduction: Reduction = "none",
        attention_prediction_horizon: int | None = None,
    ) -> dict[str, Any]:
        """Return the attribution of forecasts over the look-back; the last column is the last row.

        Parameters
        ----------
        out
            Of ``forward(x, interpret=True)`` or ``predict(..., mode="raw", interpret=True)``.
        reduction
            Keep the windows separate (``none``), or take their ``mean`` or ``sum``.
        attention_prediction_horizon
            Step of the horizon; None takes the mean over all.

        Returns
        -------
        curves
            ``attention``, ``memory`` and ``surprise``, each (batch, context_length), and
            ``attention_parts``, (batch, 4), as far as the variant has them; see
            :class:`titans_seq.forecasting.ptf.attribution.Attribution`. For several targets a
            mapping from their names to such curves.

        Raises
        ------
        DataError
            If the output was made without ``interpret=True``.
        """
        step = attention_prediction_horizon
        if self.n_targets == 1:
            return dict(interpretation_of(one_target(out, None), reduction, step))
        return {
            name: interpretation_of(one_target(out, index), reduction, step)
            for index, name in enumerate(self.target_names)
        }

    def plot_interpretation(self, interpretation: dict[str, Any]) -> dict[str, Any]:
        """Return figures of the curves of :meth:`interpret_output`; separate windows are averaged.

        Parameters
        ----------
        interpretation
            Result of :meth:`interpret_output`.
        """
        from titans_seq.forecasting.ptf.plots import plot_attribution

        if self.n_targets == 1:
            return dict(plot_attribution(over_windows(interpretation)))
        return {
            f"{target} {name}": figure
            for target, curves in interpretation.items()
            for name, figure in plot_attribution(over_windows(curves), title=target).items()
        }

    def plot_prediction(
        self, x: dict[str, Any], out: Any, idx: int = 0, *args: Any, **kwargs: Any
    ) -> Any:
        """Plot a forecast as the base class does, with its attribution if the output has one.

        For several targets a list of figures is returned, one a target.

        Parameters
        ----------
        x, out
            Input and output of the network.
        idx
            Window to plot.
        *args, **kwargs
            As for ``BaseModel.plot_prediction``.
        """
        if self.n_targets == 1:
            figures = [super().plot_prediction(x, out, idx, *args, **kwargs)]
        else:  # the base class draws all targets into the axes of the first one
            figures = [
                CovariateModel.plot_prediction(
                    _SingleTarget(loss), _target_of(x, index), _target_of(out, index), idx,
                    *args, **kwargs,
                )
                for index, loss in enumerate(self.loss)
            ]  # fmt: skip
        if isinstance(out, TitansInterpretedOutput):
            from titans_seq.forecasting.ptf.plots import draw_attribution

            curves = self.interpret_output(out)
            of_targets = [curves] if self.n_targets == 1 else list(curves.values())
            for figure, of_target in zip(figures, of_targets, strict=True):
                of_window = {name: values[idx] for name, values in of_target.items()}
                draw_attribution(figure.axes[0], of_window, int(x["encoder_lengths"][idx]))
        return figures[0] if self.n_targets == 1 else figures


class _SingleTarget:
    """Stand-in for a model of one target, with the methods that a plot calls."""

    def __init__(self, loss: Metric) -> None:
        self.loss = loss

    to_prediction = CovariateModel.to_prediction
    to_quantiles = CovariateModel.to_quantiles


def _target_of(fields: Any, index: int) -> dict[str, Any]:
    """Return fields with the entries of one target only."""
    return {
        name: value[index] if isinstance(value, list | tuple) else value
        for name, value in fields.items()
    }


def interpretation_of(
    out: Mapping[str, Any], reduction: Reduction, horizon_step: int | None
) -> dict[str, Tensor]:
    """Return the attribution curves of one target.

    Parameters
    ----------
    out
        Fields of a ``TitansInterpretedOutput``, for one target.
    reduction
        Keep the windows separate (``none``), or take their ``mean`` or ``sum``.
    horizon_step
        Step of the horizon; None takes the mean over all.

    Raises
    ------
    ConfigError
        If the reduction is not known.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ConfigError(f"reduction={reduction!r}: choose one of none, mean, sum")
    steps = torch.arange(out["memory"].shape[1], device=out["decoder_lengths"].device)
    real = steps < out["decoder_lengths"][:, None]
    if horizon_step is not None:
        real = real & (steps == horizon_step)
    curves = {}
    for name in ("attention", "attention_parts", "memory"):
        if out[name].shape[-1]:
            values = out[name].masked_fill(~real[..., None], torch.nan)
            curves[name] = _reduced(values.nanmean(dim=1), reduction)
    if out["surprise"].shape[-1]:
        curves["surprise"] = _reduced(out["surprise"], reduction)
    return curves


def one_target(out: Any, index: int | None) -> dict[str, Any]:
    """Return the fields of one target; ``index`` None if there is only one.

    Raises
    ------
    DataError
        If the output was not made with ``interpret=True``.
    """
    if "surprise" not in out.keys():  # noqa: SIM118 (a tuple with the keys of a mapping)
        raise DataError("the output has no attribution: predict with mode='raw', interpret=True")
    return dict(out.items()) if index is None else _target_of(out, index)


def over_windows(curves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return curves averaged over their windows, if they have an axis of windows."""
    return {
        name: values.nanmean(dim=0) if values.ndim > 1 else values
        for name, values in curves.items()
    }


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Return the mean or sum over the windows that have a value."""
    if reduction == "none":
        return values
    return values.nanmean(dim=0) if reduction == "mean" else values.nansum(dim=0)
