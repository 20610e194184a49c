"""Rows of several series side by side, and what a stream keeps of those it has read.

The size of a state depends on the number of series and on the settings, never on how many rows
were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.stream.phases import Floats, PhaseState
from titans_seq.forecasting.stream.trust import Adapted


class Rows(NamedTuple):
    """Rows of several series, each from the left; what follows its last one is not ``real``."""

    value: Float[Tensor, "series rows"]
    """Target on the scale of its series, 0 where it is missing."""

    seen: Bool[Tensor, "series rows"]
    """False where the target is missing."""

    real: Bool[Tensor, "series rows"]
    """False before a series began, and after its last row."""

    past: Float[Tensor, "series rows past"]
    past_codes: Int[Tensor, "series rows past_codes"]
    future: Float[Tensor, "series rows future"]
    future_codes: Int[Tensor, "series rows future_codes"]
    slots: Int[Tensor, "series rows tables"]
    """Place of the row in each table of the phase memory."""

    def span(self, begin: int, end: int) -> Rows:
        """Return some of the rows of every series."""
        return Rows(*(one[:, begin:end] for one in self))

    def take(self, places: Int[Tensor, "series chosen"]) -> Rows:
        """Return the rows of each series at its own places."""
        series = torch.arange(len(places))[:, None]
        return Rows(*(one[series, places] for one in self))

    def then(self, more: Rows) -> Rows:
        """Return these rows and ``more`` after them."""
        return Rows(*(torch.cat(pair, dim=1) for pair in zip(self, more, strict=True)))

    def series(self, chosen: Tensor) -> Rows:
        """Return the rows of some series."""
        return Rows(*(one[chosen] for one in self))


@dataclass(slots=True)
class Errors:
    """How wrong each expert has been of late, on the scale of the series.

    Shapes
    ------
    ``recent``: (series, experts, 2), squared errors averaged fast and slowly;
    ``known``: (series, experts), how many were averaged
    """

    recent: Floats
    known: Floats

    def add(self, squares: Floats, rates: Floats, chosen: npt.NDArray[np.bool_]) -> None:
        """Average one more squared error of each expert in, in place.

        Parameters
        ----------
        squares, chosen
            (series, experts): the errors, and which of them there are.
        rates
            (2,) how fast the averages forget.
        """
        self.known += chosen
        first = 1 / np.maximum(self.known, 1)
        rate = np.maximum(rates, first[..., None]) * chosen[..., None]
        self.recent += (rate * (squares[..., None] - self.recent)).astype(np.float32)

    def copy(self) -> Errors:
        """Return averages of their own."""
        return Errors(self.recent.copy(), self.known.copy())


@dataclass(slots=True)
class StreamState:
    """Everything that a stream knows, one entry a series."""

    rows: Rows
    """The last ``context + horizon`` rows."""

    static: Float[Tensor, "series static"]
    static_codes: Int[Tensor, "series static_codes"]
    phases: PhaseState
    weights: Float[Tensor, "series features outputs"]
    """Of the delayed association."""

    reads: Float[Tensor, "series horizon outputs"]
    """What the association answered after each of the last ``horizon`` rows."""

    errors: Errors
    """Of the experts that the forecast is mixed from."""

    step_errors: Errors
    """Of the linear experts, one row ahead."""

    residual: Errors
    """Of their mixture, one row ahead: (series, 1 + slots of the finest table, 2)."""

    count: npt.NDArray[np.int64]
    """Rows read so far, (series,)."""

    adapted: Adapted | None = None
    """How far the experts are trusted, where that is to move too."""

    def copy(self) -> Self:
        """Return a state of its own."""
        return replace(
            self,
            rows=Rows(*(one.clone() for one in self.rows)),
            static=self.static.clone(),
            static_codes=self.static_codes.clone(),
            phases=self.phases.copy(),
            weights=self.weights.clone(),
            reads=self.reads.clone(),
            errors=self.errors.copy(),
            step_errors=self.step_errors.copy(),
            residual=self.residual.copy(),
            count=self.count.copy(),
            adapted=None if self.adapted is None else self.adapted.copy(),
        )

    def take(self, places: npt.NDArray[np.int64]) -> Self:
        """Return the state of some series."""
        own = {name: one[places] for name, one in self.to_tensors().items()}
        return type(self).from_tensors(own)

    def joined(self, other: StreamState) -> Self:
        """Return the state of these series and then of others."""
        more = other.to_tensors()
        own = {name: torch.cat([one, more[name]]) for name, one in self.to_tensors().items()}
        return type(self).from_tensors(own)

    def put(self, places: npt.NDArray[np.int64], other: StreamState) -> Self:
        """Write the state of some series into this one, in place."""
        more = other.to_tensors()
        for name, one in self.to_tensors().items():
            one[places] = more[name]
        return self

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        tensors = {f"rows.{name}": one for name, one in self.rows._asdict().items()}
        tensors |= {
            f"phases.{name}": torch.from_numpy(one) for name, one in self.phases.arrays().items()
        }
        for name in _ERRORS:
            held: Errors = getattr(self, name)
            tensors[f"{name}.recent"] = torch.from_numpy(held.recent)
            tensors[f"{name}.known"] = torch.from_numpy(held.known)
        if self.adapted is not None:
            own = self.adapted.arrays().items()
            tensors |= {f"{_ADAPTED}{name}": torch.from_numpy(one) for name, one in own}
        plain = ("static", "static_codes", "weights", "reads")
        tensors |= {name: getattr(self, name) for name in plain}
        return tensors | {"count": torch.from_numpy(self.count)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the state that :meth:`to_tensors` took apart.

        Raises
        ------
        KeyError
            If a part is missing.
        """
        phases = {
            field.name: tensors[f"phases.{field.name}"].numpy() for field in fields(PhaseState)
        }
        errors = {
            name: Errors(tensors[f"{name}.recent"].numpy(), tensors[f"{name}.known"].numpy())
            for name in _ERRORS
        }
        adapted = {
            name.removeprefix(_ADAPTED): one.numpy()
            for name, one in tensors.items()
            if name.startswith(_ADAPTED)
        }
        return cls(
            adapted=Adapted.from_arrays(adapted) if adapted else None,
            rows=Rows(*(tensors[f"rows.{name}"] for name in Rows._fields)),
            static=tensors["static"],
            static_codes=tensors["static_codes"],
            phases=PhaseState.from_arrays(phases),
            weights=tensors["weights"],
            reads=tensors["reads"],
            count=tensors["count"].numpy(),
            **errors,
        )

    @property
    def nbytes(self) -> int:
        """Size of the state in bytes; it does not grow with the rows read."""
        return sum(one.numel() * one.element_size() for one in self.to_tensors().values())

    def digest(self) -> str:
        """Return a hash of every number in the state."""
        total = hashlib.sha256()
        for name, one in sorted(self.to_tensors().items()):
            total.update(name.encode())
            total.update(one.contiguous().numpy().tobytes())
        return total.hexdigest()


_ADAPTED = "adapted."

_ERRORS = ("errors", "step_errors", "residual")
"""Parts of a state that are averages of errors."""
