"""State of a stream: the last rows, the memories, and running errors.

The size of a state depends on the number of series and on the settings, never on how many rows
were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.stream.adaptation import AdaptationState
from titans_seq.forecasting.stream.phases import PhaseState
from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.forecasting.tables.arrays import BoolArray, Float32Array, IntArray


@dataclass(slots=True)
class RunningErrors:
    """Exponentially weighted averages of squared errors, on the scale of the series.

    Shapes
    ------
    ``recent``: (series, experts, 2), averaged fast and slowly;
    ``known``: (series, experts), number of errors averaged
    """

    recent: Float32Array
    known: Float32Array

    @classmethod
    def initial(cls, series: int, experts: int) -> Self:
        """Return averages of no errors; they read 1, the variance of a series."""
        return cls(
            np.ones((series, experts, 2), np.float32), np.zeros((series, experts), np.float32)
        )

    def add(self, squares: Float32Array, rates: Float32Array, chosen: BoolArray) -> None:
        """Average in one more squared error of each expert, in place.

        Parameters
        ----------
        squares, chosen
            Squared errors, and which of them are known; (series, experts).
        rates
            Forgetting rates, (2,).
        """
        self.known += chosen
        # 1 / count first: a plain mean until the count reaches 1 / rate.
        plain_mean = 1 / np.maximum(self.known, 1)
        rate = np.maximum(rates, plain_mean[..., None]) * chosen[..., None]
        self.recent += (rate * (squares[..., None] - self.recent)).astype(np.float32)


@dataclass(slots=True)
class StreamState:
    """Everything that a stream has learnt, one entry a series on the first axis."""

    rows: StreamRows
    """The last ``context + horizon`` rows."""

    static: Float[Tensor, "series static"]
    static_codes: Int[Tensor, "series static_codes"]
    phases: PhaseState
    weights: Float[Tensor, "series features outputs"]
    """Weights of the delayed association."""

    reads: Float[Tensor, "series horizon outputs"]
    """Recalls of the association after each of the last ``horizon`` rows."""

    errors: RunningErrors
    """Errors of the experts of the mixture over the horizon."""

    step_errors: RunningErrors
    """Errors of the linear experts one row ahead."""

    residual: RunningErrors
    """Errors of their mean one row ahead: of all rows, then a slot of the finest table."""

    count: IntArray
    """Rows read so far, (series,)."""

    adapted: AdaptationState | None = None
    """Bias of the gate, if it adapts."""

    def copy(self) -> Self:
        """Return an independent copy."""
        return type(self).from_tensors(
            {name: tensor.clone() for name, tensor in self.to_tensors().items()}
        )

    def select(self, series: IntArray) -> Self:
        """Return the state of some series."""
        return type(self).from_tensors(
            {name: tensor[series] for name, tensor in self.to_tensors().items()}
        )

    def concat(self, other: StreamState) -> Self:
        """Return the state of these series followed by others."""
        others = other.to_tensors()
        return type(self).from_tensors(
            {name: torch.cat([tensor, others[name]]) for name, tensor in self.to_tensors().items()}
        )

    def put(self, series: IntArray, other: StreamState) -> Self:
        """Overwrite the state of some series, in place."""
        others = other.to_tensors()
        for name, tensor in self.to_tensors().items():
            tensor[series] = others[name]
        return self

    def to_tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its name in a state file; they share memory with the state."""
        tensors = {f"rows.{name}": tensor for name, tensor in self.rows._asdict().items()}
        tensors |= {
            f"phases.{name}": torch.from_numpy(array)
            for name, array in self.phases.arrays().items()
        }
        for name in _ERRORS:
            errors: RunningErrors = getattr(self, name)
            tensors[f"{name}.recent"] = torch.from_numpy(errors.recent)
            tensors[f"{name}.known"] = torch.from_numpy(errors.known)
        if self.adapted is not None:
            tensors |= {
                f"{_ADAPTED}{name}": torch.from_numpy(array)
                for name, array in self.adapted.arrays().items()
            }
        tensors |= {name: getattr(self, name) for name in _TENSORS}
        return tensors | {"count": torch.from_numpy(self.count)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuild a state from the result of :meth:`to_tensors`.

        Raises
        ------
        KeyError
            If a tensor is missing.
        """

        def arrays(prefix: str) -> dict[str, Float32Array]:
            return {
                name.removeprefix(prefix): tensor.numpy()
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        adapted = arrays(_ADAPTED)
        errors = {
            name: RunningErrors(tensors[f"{name}.recent"].numpy(), tensors[f"{name}.known"].numpy())
            for name in _ERRORS
        }
        return cls(
            rows=StreamRows(*(tensors[f"rows.{name}"] for name in StreamRows._fields)),
            phases=PhaseState.from_arrays(arrays("phases.")),
            adapted=AdaptationState.from_arrays(adapted) if adapted else None,
            count=tensors["count"].numpy(),
            static=tensors["static"],
            static_codes=tensors["static_codes"],
            weights=tensors["weights"],
            reads=tensors["reads"],
            **errors,
        )

    @property
    def nbytes(self) -> int:
        """Size of the state in bytes; it does not grow with the rows read."""
        return sum(tensor.nbytes for tensor in self.to_tensors().values())

    def digest(self) -> str:
        """Return a hash of every number in the state."""
        return hash_tensors(self.to_tensors())


def hash_tensors(*groups: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of tensors, by name in each group."""
    total = hashlib.sha256()
    for tensors in groups:
        for name, tensor in sorted(tensors.items()):
            total.update(name.encode())
            total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


_TENSORS = ("static", "static_codes", "weights", "reads")
_ERRORS = ("errors", "step_errors", "residual")
_ADAPTED = "adapted."
