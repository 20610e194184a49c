"""The rates of the memory's update, read off the tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.nn.rules import LearningRule
from titans_seq.ops.rules.rule import Rates

SLOWEST_KEEP, FASTEST_KEEP = 0.999, 0.99
"""First share of the memory that stays a token, from the first head to the last."""

FIRST_MOMENTUM = 0.5
"""First share of the past surprise that stays a token."""

FIRST_STEP = 0.5
"""First step, as a share of the rule's largest."""


class MemoryGates(nn.Module):
    """Read the three rates of the memory's update off the tokens.

    The update is (arXiv 2501.00663, equations 13 and 14)::

        S[t] = momentum[t] S[t - 1] - step[t] gradient[t]
        W[t] = keep[t] W[t - 1] + S[t]

    where the paper writes eta for ``momentum``, theta for ``step`` and 1 - alpha for
    ``keep``. Logarithms come from ``logsigmoid``, which does not lose small gates. The
    paper leaves the first values open: here forgetting starts slow, a head slower than the
    next, and momentum moderate.

    Shapes
    ------
    tokens   (batch, time, dim)
    returns  :class:`titans_seq.ops.rules.rule.Rates`, each (batch, heads, time), float32 or wider
    """

    def __init__(self, dim: int, heads: int, rule: LearningRule) -> None:
        super().__init__()
        self.rule = rule
        self.project = nn.Linear(dim, 3 * heads)
        nn.init.normal_(self.project.weight, std=0.1 * dim**-0.5)
        # forgetting rates evenly spaced in the logarithm, the slowest head first
        keep = 1 - torch.logspace(
            torch.tensor(1 - SLOWEST_KEEP).log10().item(),
            torch.tensor(1 - FASTEST_KEEP).log10().item(),
            heads,
        )
        first = torch.cat(
            [keep, torch.full((heads,), FIRST_MOMENTUM), torch.full((heads,), FIRST_STEP)]
        )
        with torch.no_grad():
            # inverse of the sigmoid: with a small weight the gates start near these values
            self.project.bias.copy_(torch.logit(first))

    def forward(self, tokens: Float[Tensor, "batch time dim"]) -> Rates:
        """Return the rates of every token."""
        # a keep of 0.999 in bfloat16 is 0.996 or 1: half precision stays out of the rates
        wide = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            weight, bias = self.project.weight.to(wide), self.project.bias.to(wide)
            logits = F.linear(tokens.to(wide), weight, bias)
        keep, momentum, step = rearrange(
            logits, "batch time (rate heads) -> rate batch heads time", rate=3
        ).unbind(0)
        log_keep, log_momentum = F.logsigmoid(keep), F.logsigmoid(momentum)
        if not self.rule.forgetting:
            log_keep = torch.zeros_like(log_keep)
        if not self.rule.momentum:
            # exp(-inf) is exactly 0, so the momentum schedule needs no case of its own
            log_momentum = torch.full_like(log_momentum, -torch.inf)
        step = self.rule.max_step * step.sigmoid()
        return Rates(log_keep, log_momentum, step, torch.ones_like(step))
