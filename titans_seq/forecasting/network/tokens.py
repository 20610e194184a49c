"""Patches of the rows of a window as tokens for the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


class Coded(NamedTuple):
    """A column of category codes, and the vector of each category."""

    vectors: Float[Tensor, "categories dim"]
    codes: Int[Tensor, "batch rows"]


class PatchReader(nn.Module):
    """Cut rows into patches, and make one token of each.

    Parameters
    ----------
    rows
        Rows of a window.
    patch_length
        Rows of one token.
    width
        Features of a row, the vectors of its categories included.
    dim
        Width of a token.
    at_end
        Whether to pad the first patch with zeros, where the rows do not fill all patches, so that
        the last is whole; else the last is padded.
    """

    def __init__(self, rows: int, patch_length: int, width: int, dim: int, *, at_end: bool) -> None:
        super().__init__()
        self.tokens = -(-rows // patch_length)
        self.patch_length = patch_length
        missing = self.tokens * patch_length - rows
        self.missing = (missing, 0) if at_end else (0, missing)
        self.project = nn.Linear(patch_length * width, dim)

    def forward(
        self,
        columns: Sequence[Float[Tensor, "batch rows *columns"]],
        coded: Sequence[Coded],
        chosen: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch kept dim"]:
        """Return the tokens.

        Parameters
        ----------
        columns
            Real features of each row; with the vectors of ``coded`` as many as ``width``.
        coded
            Categories of each row.
        chosen
            Patches of each window that become tokens; None takes all.
        """
        features = [select_patches(self.cut(column), chosen) for column in columns]
        for vectors, codes in coded:
            padding = len(vectors)  # one code more, whose vector is zero, for the padded rows
            cut = select_patches(self.cut(codes, padding), chosen)
            padded = functional.pad(vectors, (0, 0, 0, 1)) if any(self.missing) else vectors
            # batch, tokens, rows of a patch -> batch, tokens, rows of a patch * dim
            width = cut.shape[2] * vectors.shape[1]
            features.append(padded.index_select(0, cut.flatten()).view(*cut.shape[:2], width))
        tokens: Tensor = self.project(torch.cat(features, dim=-1))
        return tokens

    def cut(
        self, rows: Float[Tensor, "batch rows *columns"], padding: float = 0
    ) -> Float[Tensor, "batch tokens features"]:
        """Return the rows of each patch concatenated."""
        if any(self.missing):
            around = (0, 0) * (rows.dim() - 2) + self.missing
            rows = functional.pad(rows, around, value=padding)
        cut: Tensor = rows.unflatten(1, (self.tokens, self.patch_length)).flatten(2)
        return cut


def select_patches(
    patches: Float[Tensor, "batch tokens features"], chosen: Int[Tensor, "batch kept"] | None
) -> Float[Tensor, "batch kept features"]:
    """Return the chosen patches of each window."""
    if chosen is None:
        return patches
    return patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2]))
