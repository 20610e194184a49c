"""Tokens in, a score for each possible answer out, with the backbone between."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.backbone import TitansBackbone
from titans_seq.config import TitansConfig
from titans_seq.nn.state import StackState
from titans_seq.training import Term

NO_ANSWER = -100
"""Target of a token that asks nothing."""


class TokenNetwork(nn.Module):
    """An embedding, a backbone, and a linear layer.

    Parameters
    ----------
    config
        Of the backbone.
    vocabulary
        Different tokens.
    answers
        Different answers at each token.

    Shapes
    ------
    tokens   (batch, time), 0 to ``vocabulary`` - 1
    returns  scores (batch, time, answers), each from the tokens up to its own
    """

    def __init__(self, config: TitansConfig, vocabulary: int, answers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.dim)
        self.backbone = TitansBackbone(config)
        self.answer = nn.Linear(config.dim, answers)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        state: StackState | None = None,
        *,
        keep_state: bool = False,
    ) -> tuple[Float[Tensor, "batch time answers"], StackState | None]:
        """Return the scores, and the state to go on from if it is wanted."""
        hidden, after = self.backbone(self.embed(tokens), state, keep_state=keep_state)
        return self.answer(hidden), after


def summed_loss(network: TokenNetwork, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood (nats) of the answers asked for, and their number.

    Parameters
    ----------
    network
        What is trained.
    batch
        ``tokens`` and ``targets``, (batch, time).
    """
    scores, _ = network(batch["tokens"])
    asked = batch["targets"] != NO_ANSWER
    loss = F.cross_entropy(scores[asked], batch["targets"][asked], reduction="sum")
    return loss, asked.sum()


def mean_loss(network: TokenNetwork, batch: dict[str, Tensor]) -> list[Term]:
    """Return the mean negative log-likelihood (nats) of the answers, each sequence counting alike.

    So few answers of one sequence weigh as much as the many of another.
    """
    scores, _ = network(batch["tokens"])
    targets = batch["targets"]
    losses = F.cross_entropy(scores.mT, targets, reduction="none", ignore_index=NO_ANSWER)
    count = (targets != NO_ANSWER).sum(dim=1)
    return [Term((losses.sum(dim=1) / count.clamp(min=1)).sum(), (count > 0).sum())]
