"""pytorch-forecasting's base class for models with covariates, with its defects worked around."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_forecasting.metrics import Metric
from pytorch_forecasting.models.base import BaseModelWithCovariates
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from titans_seq.forecasting.ptf.outputs import losses_of


class CovariateModel(BaseModelWithCovariates):
    """``BaseModelWithCovariates`` whose ``predict`` changes no argument and writes no logs.

    Sums of metrics, monotone constraints and loggers without histograms also work.
    """

    def transform_output(
        self,
        prediction: Tensor | list[Tensor],
        target_scale: Tensor | list[Tensor],
        loss: Metric | None = None,
    ) -> Tensor | list[Tensor]:
        """Rescale outputs to real units; the base class cannot for a sum of metrics.

        Parameters
        ----------
        prediction
            Outputs of the network, a list of them for several targets.
        target_scale
            Centre and scale of each target.
        loss
            Loss of the outputs; the model's own by default.
        """
        losses = losses_of(self.loss if loss is None else loss)
        if not isinstance(prediction, list):
            encoder = self.output_transformer
            return _rescaled(losses[0], prediction, target_scale, encoder)
        encoders = self.output_transformer.normalizers
        targets = zip(losses, prediction, target_scale, encoders, strict=True)
        return [_rescaled(*target) for target in targets]

    def step(
        self, x: dict[str, Any], y: tuple[Any, Any], batch_idx: int, **kwargs: Any
    ) -> tuple[dict[str, Any], Any]:
        """Run the network and the loss on a batch.

        ``monotone_constraints`` differentiate twice, which fused attention cannot: the plain
        kernels are used, without cuDNN, as the base class requires.
        """
        if not (self.training and self.hparams.monotone_constraints):
            plain: tuple[dict[str, Any], Any] = super().step(x, y, batch_idx, **kwargs)
            return plain
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            constrained: tuple[dict[str, Any], Any] = super().step(x, y, batch_idx, **kwargs)
        return constrained

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Reset the loss: the graph that its last value holds prevents copying the model."""
        self.loss.reset()

    def log_gradient_flow(self, named_parameters: Any) -> None:
        """Log histograms of the gradients, if the logger takes histograms.

        Parameters
        ----------
        named_parameters
            Names and parameters.
        """
        if self._logger_supports("add_histogram"):
            super().log_gradient_flow(named_parameters)

    def predict(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Forecast, as ``BaseModel.predict`` does, on one device and without logs.

        Parameters
        ----------
        data
            Frame, data set or loader.
        *args, **kwargs
            As for ``BaseModel.predict``. The base class changes its ``trainer_kwargs``; it gets
            a copy here. ``interpret=True`` with ``mode="raw"`` also returns the input of
            ``interpret_output``.
        """
        settings = _TrainerSettings(kwargs.pop("trainer_kwargs", None) or {})
        settings.setdefault("logger", False)
        # Each of several processes would return its own share of the forecasts.
        settings.setdefault("devices", 1)
        return super().predict(data, *args, trainer_kwargs=settings, **kwargs)


def _rescaled(loss: Metric, outputs: Tensor, scale: Tensor | list[Tensor], encoder: Any) -> Tensor:
    rescaled: Tensor = loss.rescale_parameters(outputs, target_scale=scale, encoder=encoder)
    return rescaled


class _TrainerSettings(dict[str, Any]):
    """Trainer settings for a base class that drops its own callback if the user gives some."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Accept the callbacks of the base class always: they are the user's and its own."""
        if key == "callbacks":
            self[key] = default
        return super().setdefault(key, default)
