"""The backbone: tokens in, tokens and a state out, whatever the tokens mean."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from titans_seq.config import TitansConfig
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.nn.blocks import TitansBlock
from titans_seq.nn.norms import RMSNorm
from titans_seq.nn.packing import pack_finite, unpack
from titans_seq.nn.state import StackState
from titans_seq.nn.state_checks import check_stack, is_remembered, remember


class TitansBackbone(nn.Module):
    """A stack of Titans blocks (arXiv 2501.00663, section 4).

    Reads sequences of any length at constant state and linear cost. A sequence read in any
    number of calls, each handed the state of the one before, gives what one call gives; so
    a model trained on short sequences streams long ones.

    Parameters
    ----------
    config
        Sizes and choices, see :class:`titans_seq.TitansConfig`.

    Examples
    --------
    >>> import torch
    >>> backbone = TitansBackbone(TitansConfig(dim=16, heads=2, variant="mag"))
    >>> x = torch.randn(1, 100, 16)
    >>> whole, _ = backbone(x)
    >>> first, state = backbone(x[:, :37])
    >>> rest, state = backbone(x[:, 37:], state)
    >>> torch.allclose(torch.cat([first, rest], dim=1), whole, atol=1e-4)
    True
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(TitansBlock(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        state: StackState | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        *,
        keep_state: bool = True,
    ) -> tuple[Float[Tensor, "batch time dim"], StackState | None]:
        """Read tokens.

        Parameters
        ----------
        x
            Tokens, (batch, time, dim).
        state
            State from the previous call; ``None`` starts a new sequence.
        mask
            (batch, time), True for a real token. Masked tokens are as if absent, and their
            outputs are zero. Tokens that hold NaN or infinity are as if absent, too, and their
            outputs are NaN.
        keep_state
            Whether the state after the last token is wanted; ``False`` saves computing it,
            in training most of all.

        Returns
        -------
        outputs
            (batch, time, dim), normalised.
        state
            To go on from; ``None`` unless ``keep_state``, and from a bidirectional backbone.

        Raises
        ------
        DataError
            If the input or the mask has the wrong shape, or the state is not one that this
            backbone left after a batch of this size.
        ConfigError
            If a bidirectional backbone is given a state.
        """
        if x.dim() != 3 or x.shape[-1] != self.config.dim:
            raise DataError(
                f"backbone got tokens of shape {tuple(x.shape)}: "
                f"(batch, time, {self.config.dim}) is right"
            )
        if not x.shape[0] or not x.shape[1]:
            return x, state
        # once for the whole stack: every layer sees packed rows
        packed = pack_finite(x, mask)
        if not self.config.bidirectional:
            # a state of this backbone's own last call needs no check: streams pay nothing for it
            if state is not None and not is_remembered(self, state, x):
                mixers = [block.get_submodule("mixer") for block in self.blocks]
                check_stack(self, mixers, state, x)
            out, after = self._read(packed.tokens, packed.lengths, state, keep_state)
            if after is not None:
                remember(self, after, x)
            return unpack(out, packed, x.shape[1]), after
        if state is not None:
            raise ConfigError("a bidirectional backbone reads whole sequences: state must be None")
        forth, _ = self._read(packed.tokens, packed.lengths, None, False)
        # the same weights read both directions; outputs are turned back before the mean
        turned = reverse(packed.tokens, packed.lengths)
        back, _ = self._read(turned, packed.lengths, None, False)
        both = 0.5 * (forth + reverse(back, packed.lengths))
        return unpack(both, packed, x.shape[1]), None

    def _read(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        state: StackState | None,
        keep_state: bool,
    ) -> tuple[Tensor, StackState | None]:
        """Pass packed tokens through every block."""
        before = state.layers if state is not None else (None,) * len(self.blocks)
        after = []
        for block, layer_state in zip(self.blocks, before, strict=True):
            tokens, changed = block(tokens, lengths, layer_state, keep_state)
            after.append(changed)
        return self.norm(tokens), StackState(tuple(after)) if keep_state else None


def reverse(
    tokens: Float[Tensor, "batch time dim"], lengths: Int[Tensor, "batch"] | None
) -> Float[Tensor, "batch time dim"]:
    """Return each row's real tokens backwards; padding stays behind them."""
    if lengths is None:
        return tokens.flip(1)
    places = torch.arange(tokens.shape[1])
    # the remainder only keeps padding's indices in range; the next line replaces them
    index = (lengths.unsqueeze(1) - 1 - places) % tokens.shape[1]
    index = torch.where(places < lengths.unsqueeze(1), index, places).to(tokens.device)
    return tokens.gather(1, index.unsqueeze(-1).expand_as(tokens))
