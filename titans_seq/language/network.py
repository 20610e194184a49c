"""A network over tokens: an embedding, the backbone, and a linear output layer."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.backbone import TitansBackbone
from titans_seq.config import TitansConfig
from titans_seq.nn.state import StackState
from titans_seq.training import Term

NO_TARGET = -100
"""Target of a token that does not count in the loss."""


class TokenNetwork(nn.Module):
    """An embedding, a backbone, and a linear layer.

    Parameters
    ----------
    config
        Settings of the backbone.
    vocabulary
        Number of different tokens.
    outputs
        Number of classes predicted at each token.

    Shapes
    ------
    tokens   (batch, time), 0 to ``vocabulary`` - 1
    returns  logits (batch, time, outputs), each from the tokens up to its own
    """

    def __init__(self, config: TitansConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.dim)
        self.backbone = TitansBackbone(config)
        self.answer = nn.Linear(config.dim, outputs)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        state: StackState | None = None,
        *,
        keep_state: bool = False,
    ) -> tuple[Float[Tensor, "batch time outputs"], StackState | None]:
        """Return the logits, and the state to continue from if ``keep_state`` is set."""
        hidden, next_state = self.backbone(self.embed(tokens), state, keep_state=keep_state)
        return self.answer(hidden), next_state


def summed_nll(network: TokenNetwork, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood (nats) of the targets, and their number.

    Parameters
    ----------
    network
        Network to score.
    batch
        ``tokens`` and ``targets``, (batch, time).
    """
    logits, _ = network(batch["tokens"])
    is_target = batch["targets"] != NO_TARGET
    loss = F.cross_entropy(logits[is_target], batch["targets"][is_target], reduction="sum")
    return loss, is_target.sum()


def mean_nll(network: TokenNetwork, batch: dict[str, Tensor]) -> list[Term]:
    """Return the negative log-likelihood (nats): the mean by sequence, then over sequences.

    So a sequence with few targets weighs as much as one with many.
    """
    logits, _ = network(batch["tokens"])
    targets = batch["targets"]
    losses = F.cross_entropy(logits.mT, targets, reduction="none", ignore_index=NO_TARGET)
    count = (targets != NO_TARGET).sum(dim=1)
    return [Term((losses.sum(dim=1) / count.clamp(min=1)).sum(), (count > 0).sum())]
