"""Gradients of what a group of chunks makes before any state: products, masks and steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_backward import ByGroup
from titans_seq.ops.fast_forward import Group
from titans_seq.ops.fast_masks import FIRST, masks_backward
from titans_seq.ops.fast_slots import Fixed
from titans_seq.ops.fast_space import Space
from titans_seq.ops.fast_steps import steps_backward


class ByTokens(NamedTuple):
    """Gradients by one group's tokens, shaped like :class:`fast_forward.Tokens`."""

    queries: Float[Tensor, "n rows chunk dim"]
    keys: Float[Tensor, "n rows chunk dim"]
    values: Float[Tensor, "n rows chunk dim"]
    log_keep: Float[Tensor, "n rows chunk"]
    log_momentum: Float[Tensor, "n rows chunk"]
    step: Float[Tensor, "n rows chunk"]


def group_backward(group: Group, by: ByGroup, fixed: Fixed, space: Space) -> ByTokens:
    """Return the gradients by a group's tokens; those that ``by`` holds are overwritten."""
    rows, chunk, widths = fixed.sizes
    n, dim, columns = len(by.left), widths[0], FIRST + chunk
    queries, keys = group.both[:, :, :chunk], group.both[:, :, chunk:]
    fade, carry = group.mix[..., :1] - 1.0, group.mix[..., 1:2]
    by_plain, by_fade, by_carry = by.left[..., : 3 * dim].split(dim, dim=-1)
    by_products = by.left[..., 3 * dim :]
    by.mix[..., 0].add_((by_fade * queries).sum(-1))
    by.mix[..., 1].add_((by_carry * queries).sum(-1))
    by.mix[..., FIRST:].addcmul_(by_products, group.cross[:, :, :chunk], value=-1)
    by_queries = torch.addcmul(by_plain, by_fade, fade).addcmul_(by_carry, carry)

    by_mix_end, by_decay_end = by.ends.split(dim, dim=-1)
    last = group.masks.decay[-1].view(n, rows, columns)[..., FIRST:]
    by_keys = by.keys.addcmul_(by_mix_end, group.mix[:, :, -1, FIRST:].unsqueeze(-1))
    by_keys.addcmul_(by_decay_end, last.unsqueeze(-1))
    by.mix[:, :, -1, FIRST:].add_((by_mix_end * keys).sum(-1))
    by.decay_last[..., FIRST:].add_((by_decay_end * keys).sum(-1))

    by_cross = space.take("by cross", group.cross.shape)
    torch.mul(by_products, group.mix[..., FIRST:], out=by_cross[:, :, :chunk]).neg_()
    by_theta, by_log_momentum = steps_backward(
        group.steps, group.demand, group.cross[:, :, chunk:].flatten(0, 1), group.system,
        (by.first_step.flatten(0, 1), by.first_square.flatten(0, 1)),
        fixed.shared, fixed.sizes.layers, by_cross[:, :, chunk:].flatten(0, 1),
    )  # fmt: skip
    by_both = torch.bmm(by_cross.flatten(0, 1), keys.flatten(0, 1)).view_as(group.both)
    by_queries.add_(by_both[:, :, :chunk])
    by_keys.add_(by_both[:, :, chunk:])
    by_keys.flatten(0, 1).baddbmm_(by_cross.flatten(0, 1).mT, group.both.flatten(0, 1))

    by_mix = space.take("by mix, time first", (chunk, n, rows, columns))
    by_mix.copy_(by.mix.permute(2, 0, 1, 3))
    by_keep, by_momentum = masks_backward(
        group.masks, by.decay_last.flatten(0, 1), by_mix.flatten(1, 2), space
    )

    def back(one: Tensor) -> Tensor:
        return one.view(chunk, n, rows).permute(1, 2, 0)

    shape = (n, rows, chunk)
    by_momentum = back(by_momentum) + by.log_momentum + by_log_momentum.view(shape)
    return ByTokens(
        by_queries, by_keys, by.values, back(by_keep), by_momentum, by.theta + by_theta.view(shape)
    )
