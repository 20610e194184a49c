"""Carry the state of the memory along a record, from window to window.

The network reads windows as usual, but its backbone treats them as one sequence: the tokens of a
batch of windows are concatenated and read from the state that the batch before left. Each letter
is read once, the state has constant size, and the result does not depend on how windows are
batched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from titans_seq.backbone import TitansBackbone
from titans_seq.exceptions import ConfigError
from titans_seq.nn.state import StackState
from titans_seq.nn.surprise import Surprise, listening

Estimator = TypeVar("Estimator")


class CarriedBackbone(nn.Module):
    """A backbone that treats consecutive batches of windows as one sequence.

    Parameters
    ----------
    backbone
        Backbone of the fitted network.
    strands
        Calls per batch of windows: one for each strand, always in the same order. Each strand
        has its own state. Windows of the reverse strand are reverse-complemented one by one
        and stay in forward order.
    recorder
        Records the surprise of the backbone's memories.
    """

    def __init__(self, backbone: TitansBackbone, strands: int, recorder: Surprise) -> None:
        super().__init__()
        self.backbone = backbone
        self.recorder = recorder
        self.states: list[StackState | None] = [None] * strands
        self.calls = 0
        self.surprises: list[npt.NDArray[np.float64]] = []

    def reset(self) -> None:
        """Reset the states at the beginning of a record."""
        self.states = [None] * len(self.states)
        self.calls = 0

    def take_surprise(self, windows: int) -> npt.NDArray[np.float64]:
        """Return the mean surprise of the forward strand in each window since the last call."""
        surprise = np.concatenate(self.surprises) if self.surprises else np.full(windows, np.nan)
        self.surprises = []
        return surprise

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
        *,
        keep_state: bool = False,
    ) -> tuple[Float[Tensor, "batch time dim"], None]:
        """Read the windows of a batch as one sequence that continues the last batch."""
        strand = self.calls % len(self.states)
        self.calls += 1
        state = self.states[strand]
        if state is not None:
            state = state.to(tokens.device)
        sequence = tokens[mask].unsqueeze(0)  # (1, tokens of all windows, dim), padding dropped
        output, self.states[strand] = self.backbone(sequence, state)
        losses = self.recorder.take(sequence.shape[1])
        if strand == 0 and losses is not None:
            by_window = losses[0].double().cpu().split(mask.sum(dim=1).tolist())
            self.surprises.append(np.array([float(window.mean()) for window in by_window]))
        windows = torch.zeros_like(tokens)
        windows[mask] = output[0].to(windows.dtype)
        return windows, None


@contextmanager
def carrying(estimator: Estimator) -> Iterator[tuple[Estimator, CarriedBackbone]]:
    """Give a copy of a fitted estimator whose memory is carried from call to call.

    The copy shares the weights; the estimator itself is unchanged. All sequences of a call must
    have one length, because only then are they read in the order given.

    Raises
    ------
    ConfigError
        If the backbone reads in both directions.
    """
    original: Any = estimator
    backbone = original.network_.titans.backbone
    if backbone.config.bidirectional:
        raise ConfigError(
            "carry=True needs a causal model; this one reads windows in both directions"
        )
    strands = 2 if original.network_.config.strands in ("average", "equivariant") else 1
    with listening(backbone) as recorder:
        carried = CarriedBackbone(backbone, strands, recorder)
        twin = copy.copy(original)
        twin.network_ = _shallow_copy(original.network_)
        twin.network_.titans = _shallow_copy(original.network_.titans)
        twin.network_.titans.backbone = carried
        yield twin, carried


def _shallow_copy(module: nn.Module) -> Any:
    """Return a copy of a module that shares its submodules, but lets them be replaced."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
