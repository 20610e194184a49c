"""Batches of a pytorch-forecasting ``TimeSeriesDataSet`` as windows of the network.

Knows the layout of such a batch and nothing of the library itself. Histories come padded
behind and are moved to the end here; of the decoder only columns known ahead are read. What
stands in the padding of either is never read.
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
    """One column of codes."""

    place: int
    """Where it stands among a batch's columns of codes."""

    codes: int
    """How many there are."""

    name: str
    """Variable that it belongs to: its own name, or that of its group."""


class BatchReader:
    """Read the windows of one target.

    A target that is not among the real columns, because it is categorical or because the data
    set does not list it as a covariate, has no history of its own: its windows hold zeros.

    Parameters
    ----------
    roles
        Hyperparameters of the model: which column plays which role, in which order.
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
        self.past = [reals.index(n) for n in behind if n not in ahead and n != target]
        self.past_codes = codes([n for n in behind_codes if n not in ahead_codes])
        self.future = [reals.index(n) for n in ahead]
        self.future_codes = codes(ahead_codes)
        self.static = [reals.index(n) for n in roles["static_reals"]]
        self.static_codes = codes(roles["static_categoricals"])
        allowed = {*behind, *behind_codes}
        self.in_encoder = [float(n in allowed) for n in ahead]
        self.codes_in_encoder = [int(one.name in allowed) for one in self.future_codes]

    def sizes(self) -> dict[str, Any]:
        """Return how many covariates and categories there are, for the network."""
        return {
            "past_reals": len(self.past),
            "past_cardinalities": tuple(one.codes for one in self.past_codes),
            "future_reals": len(self.future),
            "future_cardinalities": tuple(one.codes for one in self.future_codes),
            "static_reals": len(self.static),
            "static_cardinalities": tuple(one.codes for one in self.static_codes),
        }

    def windows(self, x: Mapping[str, Any]) -> Windows:
        """Return the windows of a batch.

        Of an encoder that is longer than the model's the latest rows are read.

        Raises
        ------
        DataError
            If a decoder is longer than the model's horizon.
        """
        steps = x["decoder_cont"].shape[1]
        if steps > self.horizon:
            raise DataError(
                f"a batch asks for {steps} steps ahead: the model forecasts {self.horizon}; give "
                f"its data set max_prediction_length={self.horizon} or less"
            )
        lengths: Int[Tensor, " batch"] = x["encoder_lengths"]
        real, reals = self._to_end(x["encoder_cont"], lengths)
        _, codes = self._to_end(x["encoder_cat"], lengths)
        to_come = x["decoder_lengths"]
        ahead = self._longest(x["decoder_cont"], to_come)
        ahead_codes = self._longest(x["decoder_cat"], to_come)
        history = reals.new_zeros(real.shape) if self.target is None else reals[..., self.target]
        known, known_codes = reals[..., self.future], _columns(codes, self.future_codes)
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

    def _to_end(
        self, rows: Tensor, lengths: Int[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, "batch context"], Tensor]:
        """Move what is real of each row's history to the end; zeros stand before it."""
        places = torch.arange(self.context_length, device=rows.device)
        source = places - (self.context_length - lengths[:, None])
        real = source >= 0
        if rows.shape[1] == 0:
            return real, rows.new_zeros(len(rows), self.context_length, rows.shape[2])
        index = source.clamp(0, rows.shape[1] - 1)[..., None].expand(-1, -1, rows.shape[2])
        return real, rows.gather(1, index).masked_fill(~real[..., None], 0)

    def _longest(self, rows: Tensor, lengths: Int[Tensor, " batch"]) -> Tensor:
        """Fill up decoders that are shorter than the horizon; zeros stand behind them."""
        padding = torch.arange(rows.shape[1], device=rows.device) >= lengths[:, None]
        rows = rows.masked_fill(padding[..., None], 0)
        return functional.pad(rows, (0, 0, 0, self.horizon - rows.shape[1]))


def _columns(codes: Tensor, chosen: list[CodeColumn]) -> Tensor:
    return codes[..., [one.place for one in chosen]]
