"""Windows of the network from batches of a pytorch-forecasting ``TimeSeriesDataSet``.

Depends on the layout of such a batch alone, not on the library. Histories are padded at the end
there, and at the front here; of the decoder only columns known ahead are read. Padding is never
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from titans_seq.exceptions import DataError
from titans_seq.forecasting.network.network import Windows


class CodeColumn(NamedTuple):
    """A categorical column."""

    position: int
    """Position among the categorical columns of a batch."""

    codes: int
    """Number of categories."""

    name: str
    """Variable of the column: its own name, or that of its group."""


class BatchReader:
    """Reads the windows of one target.

    A target that is not among the real columns, because it is categorical or because the data
    set does not list it as a covariate, has no history: its windows hold zeros.

    Parameters
    ----------
    roles
        Hyperparameters of the model: the columns of each role, in order.
    target
        Name of the target.
    context_length, horizon
        Longest encoder and decoder.
    """

    def __init__(
        self, roles: Mapping[str, Any], *, target: str, context_length: int, horizon: int
    ) -> None:
        self.context_length = context_length
        self.horizon = horizon
        reals, columns = list(roles["x_reals"]), list(roles["x_categoricals"])
        groups: Mapping[str, Sequence[str]] = roles["categorical_groups"]
        sizes: Mapping[str, Sequence[int]] = roles["embedding_sizes"]

        def codes(names: Sequence[str]) -> list[CodeColumn]:
            return [
                CodeColumn(columns.index(column), sizes[name][0], name)
                for name in names
                for column in groups.get(name, [name])
            ]

        ahead = list(roles["time_varying_reals_decoder"])
        ahead_codes = list(roles["time_varying_categoricals_decoder"])
        behind = list(roles["time_varying_reals_encoder"])
        behind_codes = list(roles["time_varying_categoricals_encoder"])
        self.target = reals.index(target) if target in reals else None
        self.past = [reals.index(name) for name in behind if name not in ahead and name != target]
        self.past_codes = codes([name for name in behind_codes if name not in ahead_codes])
        self.future = [reals.index(name) for name in ahead]
        self.future_codes = codes(ahead_codes)
        self.static = [reals.index(name) for name in roles["static_reals"]]
        self.static_codes = codes(roles["static_categoricals"])
        allowed = {*behind, *behind_codes}
        self.in_encoder = [float(name in allowed) for name in ahead]
        self.codes_in_encoder = [int(column.name in allowed) for column in self.future_codes]

    def sizes(self) -> dict[str, Any]:
        """Return the numbers of covariates and categories, as settings of the network."""
        return {
            "past_reals": len(self.past),
            "past_cardinalities": tuple(column.codes for column in self.past_codes),
            "future_reals": len(self.future),
            "future_cardinalities": tuple(column.codes for column in self.future_codes),
            "static_reals": len(self.static),
            "static_cardinalities": tuple(column.codes for column in self.static_codes),
        }

    def windows(self, x: Mapping[str, Any]) -> Windows:
        """Return the windows of a batch.

        Of an encoder longer than the model's the latest rows are read.

        Raises
        ------
        DataError
            If the decoder is longer than the model's horizon.
        """
        steps = x["decoder_cont"].shape[1]
        if steps > self.horizon:
            raise DataError(
                f"a batch has {steps} steps to forecast, the model's horizon is {self.horizon}: "
                f"give the data set max_prediction_length={self.horizon} or less"
            )
        lengths: Int[Tensor, " batch"] = x["encoder_lengths"]
        real, reals = self._align_right(x["encoder_cont"], lengths)
        _, codes = self._align_right(x["encoder_cat"], lengths)
        decoder_lengths = x["decoder_lengths"]
        ahead = self._pad_horizon(x["decoder_cont"], decoder_lengths)
        ahead_codes = self._pad_horizon(x["decoder_cat"], decoder_lengths)
        history = reals.new_zeros(real.shape) if self.target is None else reals[..., self.target]
        known, known_codes = reals[..., self.future], _columns(codes, self.future_codes)
        # Columns known ahead that the encoder may not read are zero there.
        known = known * known.new_tensor(self.in_encoder)
        known_codes = known_codes * known_codes.new_tensor(self.codes_in_encoder)
        return Windows(
            history=history,
            seen=real,
            past=reals[..., self.past],
            past_codes=_columns(codes, self.past_codes),
            future=torch.cat([known, ahead[..., self.future]], dim=1),
            future_codes=torch.cat([known_codes, _columns(ahead_codes, self.future_codes)], dim=1),
            static=ahead[:, 0][..., self.static],
            static_codes=_columns(ahead_codes[:, 0], self.static_codes),
        )

    def _align_right(
        self, rows: Tensor, lengths: Int[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, "batch context"], Tensor]:
        """Align the real rows of each history right; zeros before them."""
        positions = torch.arange(self.context_length, device=rows.device)
        source = positions - (self.context_length - lengths[:, None])
        real = source >= 0
        if rows.shape[1] == 0:
            return real, rows.new_zeros(len(rows), self.context_length, rows.shape[2])
        index = source.clamp(0, rows.shape[1] - 1)[..., None].expand(-1, -1, rows.shape[2])
        return real, rows.gather(1, index).masked_fill(~real[..., None], 0)

    def _pad_horizon(self, rows: Tensor, lengths: Int[Tensor, " batch"]) -> Tensor:
        """Pad decoders shorter than the horizon; zeros after them."""
        padding = torch.arange(rows.shape[1], device=rows.device) >= lengths[:, None]
        rows = rows.masked_fill(padding[..., None], 0)
        return functional.pad(rows, (0, 0, 0, self.horizon - rows.shape[1]))


def _columns(codes: Tensor, chosen: list[CodeColumn]) -> Tensor:
    return codes[..., [column.position for column in chosen]]
