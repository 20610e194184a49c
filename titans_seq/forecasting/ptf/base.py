"""The library's base class for models with covariates, mended where it stumbles."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_forecasting.metrics import Metric
from pytorch_forecasting.models.base import BaseModelWithCovariates
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from titans_seq.forecasting.ptf.outputs import losses_of


class CovariateModel(BaseModelWithCovariates):
    """``BaseModelWithCovariates`` whose ``predict`` leaves its arguments and the folder alone.

    Sums of metrics, monotone constraints and loggers without histograms work besides.
    """

    def transform_output(
        self,
        prediction: Tensor | list[Tensor],
        target_scale: Tensor | list[Tensor],
        loss: Metric | None = None,
    ) -> Tensor | list[Tensor]:
        """Bring outputs to real units; the base cannot for a sum of metrics.

        Parameters
        ----------
        prediction
            Outputs of the network, a list of them for several targets.
        target_scale
            Centre and scale of each target.
        loss
            Loss that they are for; the model's own if left out.
        """
        losses = losses_of(self.loss if loss is None else loss)
        if not isinstance(prediction, list):
            encoder = self.output_transformer
            return _rescaled(losses[0], prediction, target_scale, encoder)
        parts = zip(
            losses, prediction, target_scale, self.output_transformer.normalizers, strict=True
        )
        return [_rescaled(*part) for part in parts]

    def step(
        self, x: dict[str, Any], y: tuple[Any, Any], batch_idx: int, **kwargs: Any
    ) -> tuple[dict[str, Any], Any]:
        """Run the network and the loss on a batch.

        ``monotone_constraints`` differentiate twice, which fused attention does not do; the
        plain kernels take its place, and cuDNN is left out, as the base asks.
        """
        if not (self.training and self.hparams.monotone_constraints):
            found: tuple[dict[str, Any], Any] = super().step(x, y, batch_idx, **kwargs)
            return found
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            constrained: tuple[dict[str, Any], Any] = super().step(x, y, batch_idx, **kwargs)
        return constrained

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Let the loss forget its last value: with the graph it holds, nothing can be copied."""
        self.loss.reset()

    def log_gradient_flow(self, named_parameters: Any) -> None:
        """Log how large gradients are, where the logger takes histograms.

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
            As for ``BaseModel.predict``. The base adds to the ``trainer_kwargs`` that it is
            handed; it gets a copy here. ``interpret=True`` with ``mode="raw"`` returns also
            what ``interpret_output`` reads.
        """
        given = _TrainerSettings(kwargs.pop("trainer_kwargs", None) or {})
        given.setdefault("logger", False)
        # each of several processes would return its own part of the forecasts
        given.setdefault("devices", 1)
        return super().predict(data, *args, trainer_kwargs=given, **kwargs)


def _rescaled(loss: Metric, outputs: Tensor, scale: Tensor | list[Tensor], encoder: Any) -> Tensor:
    found: Tensor = loss.rescale_parameters(outputs, target_scale=scale, encoder=encoder)
    return found


class _TrainerSettings(dict[str, Any]):
    """Settings of a trainer, for a base that forgets its own callback when it is given some."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Take the base's callbacks, which are the user's and its own, in any case."""
        if key == "callbacks":
            self[key] = default
        return super().setdefault(key, default)
