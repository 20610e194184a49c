"""A memory that is carried along a record, from window to window.

The network reads windows as it always does, but its backbone takes them for one sequence: the
tokens of a batch of windows are read one after another, from the state that the batch before
left. Each letter is read once, the state has constant size, and the batches in which windows
come change nothing.
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
    """A backbone whose batches are parts of one sequence.

    Parameters
    ----------
    backbone
        What reads.
    strands
        Calls that a batch of windows comes in: one for each strand, in the same order every
        time. Each strand has a state of its own. The other strand's windows come in the
        order of the first's, each turned by itself.
    heard
        What the backbone's memories report.
    """

    def __init__(self, backbone: TitansBackbone, strands: int, heard: Surprise) -> None:
        super().__init__()
        self.backbone = backbone
        self.heard = heard
        self.states: list[StackState | None] = [None] * strands
        self.calls = 0
        self.surprises: list[npt.NDArray[np.float64]] = []

    def begin(self) -> None:
        """Forget what was read: another record begins."""
        self.states = [None] * len(self.states)
        self.calls = 0

    def take_surprise(self, windows: int) -> npt.NDArray[np.float64]:
        """Return the mean surprise of the first strand in each window read since the last call."""
        found = np.concatenate(self.surprises) if self.surprises else np.full(windows, np.nan)
        self.surprises = []
        return found

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
        *,
        keep_state: bool = False,
    ) -> tuple[Float[Tensor, "batch time dim"], None]:
        """Read the windows of a batch one after another, going on from the last batch."""
        strand = self.calls % len(self.states)
        self.calls += 1
        state = self.states[strand]
        if state is not None:
            state = state.to(tokens.device)
        sequence = tokens[mask].unsqueeze(0)
        out, self.states[strand] = self.backbone(sequence, state)
        losses = self.heard.take(sequence.shape[1])
        if strand == 0 and losses is not None:
            parts = losses[0].double().cpu().split(mask.sum(dim=1).tolist())
            self.surprises.append(np.array([float(part.mean()) for part in parts]))
        answer = torch.zeros_like(tokens)
        answer[mask] = out[0].to(answer.dtype)
        return answer, None


@contextmanager
def carrying(estimator: Estimator) -> Iterator[tuple[Estimator, CarriedBackbone]]:
    """Give a twin of a fitted estimator whose memory is carried from call to call.

    The twin shares the weights; the estimator itself stays as it was. Sequences of one call
    must be of one length, for then they are read in their order.

    Raises
    ------
    ConfigError
        If the backbone reads in both directions.
    """
    original: Any = estimator
    backbone = original.network_.titans.backbone
    if backbone.config.bidirectional:
        raise ConfigError("carry: this model reads windows in both directions; leave carry out")
    strands = 2 if original.network_.config.strands in ("average", "equivariant") else 1
    with listening(backbone) as heard:
        carried = CarriedBackbone(backbone, strands, heard)
        twin = copy.copy(original)
        twin.network_ = _shallow(original.network_)
        twin.network_.titans = _shallow(original.network_.titans)
        twin.network_.titans.backbone = carried
        yield twin, carried


def _shallow(module: nn.Module) -> Any:
    """Return a module with the same parts, of which some may then be exchanged."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
