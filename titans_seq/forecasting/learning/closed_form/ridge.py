"""Ridge regression from sums over rows, for one regression or many groups of them at once.

Coefficients ``B`` minimise ``|X B - Y|^2 + sum(ridge * B^2)``, so they solve the normal equations
``(X'X + diag(ridge)) B = X'Y``. ``X'X`` and ``X'Y`` are sums over rows: they are collected batch by
batch in double precision, added up over folds, and subtracted to leave a fold out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class RidgeSums(NamedTuple):
    """Sums over rows that ridge regressions are solved from; leading axes are groups."""

    rows: Float[Tensor, "*groups"]
    """Rows (or windows) of each group."""

    inner: Float[Tensor, "*groups inputs inputs"]
    """X'X: products of the inputs with each other."""

    outer: Float[Tensor, "*groups inputs outputs"]
    """X'Y: products of the inputs with the targets."""

    @classmethod
    def zeros(
        cls,
        groups: tuple[int, ...],
        inputs: int,
        outputs: int,
        device: torch.device | None = None,
    ) -> RidgeSums:
        """Return sums over no rows."""
        shapes = (groups, (*groups, inputs, inputs), (*groups, inputs, outputs))
        return cls(*(torch.zeros(shape, dtype=torch.double, device=device) for shape in shapes))

    def group(self, index: int | Tensor | tuple[slice | int | Tensor, ...]) -> RidgeSums:
        """Select groups by an index of the leading axes; an integer or a slice gives a view."""
        return RidgeSums(*(sums[index] for sums in self))

    def add(
        self, inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows outputs"]
    ) -> None:
        """Add rows to sums of one group, in place."""
        # The products have the precision of the rows; only the sums are always double.
        self.rows.add_(len(inputs))
        self.inner.add_(inputs.T @ inputs)
        self.outer.add_(inputs.T @ targets)

    def total(self) -> RidgeSums:
        """Sum over the first axis, that of the folds."""
        return RidgeSums(*(sums.sum(0) for sums in self))

    def leave_one_out(self) -> RidgeSums:
        """Return, for each fold along the first axis, the sums over all other folds."""
        return RidgeSums(*(sums.sum(0) - sums for sums in self))

    def solve(self, penalty: float, blocks: int = 1) -> Float[Tensor, "*groups inputs outputs"]:
        """Return the coefficients of one penalty.

        Parameters
        ----------
        penalty
            In units of the mean sum of squares of an input, so that it means the same for any
            number of rows and any scale of the inputs.
        blocks
            Equal, consecutive blocks of inputs, each penalised by its own mean square.
        """
        diagonal = self.inner.diagonal(dim1=-2, dim2=-1).unflatten(-1, (blocks, -1))
        mean_square = diagonal.mean(-1, keepdim=True)
        # Inputs that are zero throughout get coefficients of zero, not a singular system.
        ridge = penalty * torch.where(mean_square > 0, mean_square, 1.0)
        return solve_ridge(self.inner, self.outer, ridge.expand_as(diagonal).flatten(-2))

    def change_in_error(
        self, coefficients: Float[Tensor, "*groups inputs outputs"]
    ) -> Float[Tensor, "*groups"]:
        """Return the squared error with these coefficients minus that with none.

        ``|Y - X B|^2 - |Y|^2 = tr(B'X'X B) - 2 tr(B'X'Y)``, so no row is needed again.
        """
        gradient = self.inner @ coefficients - 2 * self.outer
        return (coefficients * gradient).sum((-2, -1))


def solve_ridge(
    inner: Float[Tensor, "*groups inputs inputs"],
    outer: Float[Tensor, "*groups inputs outputs"],
    ridge: Float[Tensor, "*groups inputs"],
) -> Float[Tensor, "*groups inputs outputs"]:
    """Solve the normal equations with a penalty on the square of each input's coefficients.

    Parameters
    ----------
    inner, outer
        X'X and X'Y, in double precision.
    ridge
        Penalty of each input, in units of ``inner``.
    """
    coefficients: Tensor = torch.linalg.solve(inner + torch.diag_embed(ridge), outer)
    return coefficients


def ridge_with_intercept(
    inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows outputs"], ridge: float
) -> tuple[Float[Tensor, "inputs outputs"], Float[Tensor, " outputs"]]:
    """Return the coefficients and the unpenalised intercept of a ridge regression.

    Parameters
    ----------
    inputs, targets
        All rows at once.
    ridge
        Penalty of every coefficient, in units of the inputs' sums of squares.
    """
    # With centred rows the intercept drops out of the normal equations.
    input_mean, target_mean = inputs.mean(0).double(), targets.mean(0).double()
    inputs, targets = inputs.double() - input_mean, targets.double() - target_mean
    sums = RidgeSums.zeros((), inputs.shape[1], targets.shape[1], inputs.device)
    sums.add(inputs, targets)
    coefficients = solve_ridge(*sums[1:], torch.full_like(input_mean, ridge))
    return coefficients.float(), (target_mean - input_mean @ coefficients).float()
