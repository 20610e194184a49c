"""Passes of the two-layer memory's backward kernel over its hidden units: the writes.

Names as in :mod:`titans_seq.ops.gpu.deep_backward`. ``state`` is where the weights at the
chunk's start, the gradients by the state at its end, and those by the state at its start
stand in memory.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    CARRY,
    DECAY_LAST,
    KEEP,
    MIX_LAST,
    MOMENTUM,
    last_of,
    load_vector,
    product,
    store_tile,
    zero_vector,
)
from titans_seq.ops.gpu.deep import (
    activated,
    first_tile,
    second_tile,
    second_weights,
    slope_of,
)
from titans_seq.ops.gpu.deep_reads import BEHIND, BY_CHANGE, BY_READ, READ, U, ends_at, put, take


@triton.jit
def curve_of(u, plan: tl.constexpr):
    """Return the second derivative of the non-linearity."""
    if plan.gelu:
        return tl.exp(-0.5 * u * u) * 0.3989422804014327 * (2.0 - u * u)
    gate = 1.0 / (1.0 + tl.exp(-u))
    return gate * (1.0 - gate) * (2.0 + u * (1.0 - 2.0 * gate))


@triton.jit
def changes_backward(
    given, reach, measure, by_squares, state, vectors, scratch, plan: tl.constexpr
):  # fmt: skip
    """Go back through the changes; put by the gradients by them.

    Returns the gradients by errors and keys so far.
    """
    k, by_errors, by_k = given
    layers, ends, _starts = state
    weights1, momentum1, _w, _s = ends_at(ends, plan)
    c = tl.arange(0, plan.block_chunk)
    step = measure[0] * measure[1]
    mix_last = (load_vector(vectors, MIX_LAST, c, plan) * step)[:, None]
    decay_last = (load_vector(vectors, DECAY_LAST, c, plan) * step)[:, None]
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        slope = slope_of(take(scratch, U, h, plan), plan)
        change = take(scratch, BEHIND, h, plan) * slope
        by_weights = first_tile(weights1, h, plan)
        by_momentum = first_tile(momentum1, h, plan)
        by_change = 2.0 * by_squares[:, None] * change
        by_change -= product(tl.trans(reach), take(scratch, BY_READ, h, plan), plan)
        by_change -= mix_last * product(k, by_weights, plan)
        by_change -= decay_last * product(k, by_momentum, plan)
        put(scratch, BY_CHANGE, by_change, h, plan)
        by_errors += product(by_change * slope, second_weights(layers, h, plan), plan)
        by_k -= product(mix_last * change, tl.trans(by_weights), plan)
        by_k -= product(decay_last * change, tl.trans(by_momentum), plan)
    return by_errors, by_k


@triton.jit
def first_weights_backward(
    given, errors, pair, by_keys, state, vectors, scratch, plan: tl.constexpr
):  # fmt: skip
    """Go back through the keys' hidden values; write the gradients by the first layer.

    ``by_keys``: the second layer's steps, and the gradients by squares and products of the
    hidden keys. Returns the gradients by keys, and by the decays over the whole chunk.
    """
    q, k, _out, _by_alike = given
    by_errors, by_k = pair
    base1, _b, weights1, _m, _w, _s = state[0]
    c = tl.arange(0, plan.block_chunk)
    written = errors * by_keys[0][:, None]
    to_weights = load_vector(vectors, MIX_LAST, c, plan)[:, None] * written
    to_momentum = load_vector(vectors, DECAY_LAST, c, plan)[:, None] * written
    by_keep = zero_vector(plan.block_width, plan)
    by_carry = tl.zeros_like(by_keep)
    by_decay = tl.zeros_like(by_keep)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = take(scratch, U, h, plan)
        hidden = activated(take(scratch, READ, h, plan), plan)
        by_z = _hidden_keys(activated(u, plan), hidden, given, by_keys, plan)
        by_z += _keys_written(by_errors, (to_weights, to_momentum), state, h, plan)
        by_u = take(scratch, BY_CHANGE, h, plan) * take(scratch, BEHIND, h, plan)
        by_u = by_u * curve_of(u, plan) + by_z * slope_of(u, plan)
        anchored = first_tile(base1, h, plan) + first_tile(weights1, h, plan)
        by_k += product(by_u, tl.trans(anchored), plan)
        by_read = take(scratch, BY_READ, h, plan)
        anchored = product(tl.trans(k), by_u, plan)
        sums = _first_layer(q, by_read, anchored, state, h, vectors, plan)
        by_keep += sums[0]
        by_carry += sums[1]
        by_decay += sums[2]
    return by_k, (tl.sum(by_keep, axis=0), tl.sum(by_carry, axis=0), tl.sum(by_decay, axis=0))


@triton.jit
def second_weights_backward(out, errors, by_errors, state, vectors, scratch, plan: tl.constexpr):
    """Write the gradients by the second layer; return those by the decays."""
    by_keep = zero_vector(plan.block_width, plan)
    by_carry = tl.zeros_like(by_keep)
    by_decay = tl.zeros_like(by_keep)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = take(scratch, U, h, plan)
        hidden = activated(take(scratch, READ, h, plan), plan)
        by_behind = take(scratch, BY_CHANGE, h, plan) * slope_of(u, plan)
        anchored = product(tl.trans(by_behind), errors, plan)
        anchored += product(tl.trans(activated(u, plan)), by_errors, plan)
        sums = _second_layer(hidden, out, anchored, state, h, vectors, plan)
        by_keep += sums[0]
        by_carry += sums[1]
        by_decay += sums[2]
    return tl.sum(by_keep, axis=0), tl.sum(by_carry, axis=0), tl.sum(by_decay, axis=0)


@triton.jit
def _hidden_keys(z, hidden, given, by_keys, plan: tl.constexpr):
    """Return what the hidden keys get from each other, and from the hidden queries."""
    _q, _k, _out, by_alike = given
    _step, by_squares, by_products = by_keys
    both = by_products + tl.trans(by_products)
    by_z = 2.0 * by_squares[:, None] * z + product(both, z, plan)
    return by_z + product(tl.trans(by_alike), hidden, plan)


@triton.jit
def _keys_written(by_errors, to_state, state, h, plan: tl.constexpr):
    """Return what the hidden keys get from the second layer's answer and write."""
    layers, ends, _starts = state
    _w, _s, weights, momentum = ends_at(ends, plan)
    by_z = product(by_errors, tl.trans(second_weights(layers, h, plan)), plan)
    by_z -= product(to_state[0], tl.trans(second_tile(weights, h, plan)), plan)
    return by_z - product(to_state[1], tl.trans(second_tile(momentum, h, plan)), plan)


@triton.jit
def _carried(x, grad, by_weights, by_momentum, vectors, plan: tl.constexpr):
    """Return the gradients by a layer's base, weights and momentum at the chunk's start."""
    c = tl.arange(0, plan.block_chunk)
    keep = load_vector(vectors, KEEP, c, plan)
    carry = load_vector(vectors, CARRY, c, plan)
    decay = last_of(load_vector(vectors, MOMENTUM, c, plan), c, plan)
    turned = tl.trans(x)
    in_weights = last_of(keep, c, plan) * by_weights
    in_weights += product(turned, keep[:, None] * grad, plan)
    in_momentum = last_of(carry, c, plan) * by_weights + decay * by_momentum
    in_momentum += product(turned, carry[:, None] * grad, plan)
    return product(turned, grad, plan), in_weights, in_momentum


@triton.jit
def _first_layer(q, by_read, anchored, state, h, vectors, plan: tl.constexpr):
    """Write the gradients by the first layer's columns ``h``; return those by the decays."""
    layers, ends, starts = state
    _base1, _base2, weights, momentum, _w2, _s2 = layers
    by_base, _by2, end_weights, end_momentum, _ew2, _es2 = ends
    _sb1, _sb2, start_weights, start_momentum, _sw2, _ss2 = starts
    d = tl.arange(0, plan.block_width)
    by_weights = first_tile(end_weights, h, plan)
    by_momentum = first_tile(end_momentum, h, plan)
    in_base, in_weights, in_momentum = _carried(q, by_read, by_weights, by_momentum, vectors, plan)
    in_base += anchored + first_tile(by_base, h, plan)
    store_tile(by_base, in_base, d, h, plan.width, plan.hidden)
    store_tile(start_weights, in_weights + anchored, d, h, plan.width, plan.hidden)
    store_tile(start_momentum, in_momentum, d, h, plan.width, plan.hidden)
    w = first_tile(weights, h, plan)
    s = first_tile(momentum, h, plan)
    by_keep = tl.sum(by_weights * w, axis=1)
    return by_keep, tl.sum(by_weights * s, axis=1), tl.sum(by_momentum * s, axis=1)


@triton.jit
def _second_layer(hidden, out, anchored, state, h, vectors, plan: tl.constexpr):
    """Write the gradients by the second layer's rows ``h``; return those by the decays."""
    layers, ends, starts = state
    _base1, _base2, _w1, _s1, weights, momentum = layers
    _by1, by_base, _ew1, _es1, end_weights, end_momentum = ends
    _sb1, _sb2, _sw1, _ss1, start_weights, start_momentum = starts
    d = tl.arange(0, plan.block_width)
    by_weights = second_tile(end_weights, h, plan)
    by_momentum = second_tile(end_momentum, h, plan)
    in_base, in_weights, in_momentum = _carried(hidden, out, by_weights, by_momentum, vectors, plan)
    in_base += anchored + second_tile(by_base, h, plan)
    store_tile(by_base, in_base, h, d, plan.hidden, plan.width)
    store_tile(start_weights, in_weights + anchored, h, d, plan.hidden, plan.width)
    store_tile(start_momentum, in_momentum, h, d, plan.hidden, plan.width)
    w = second_tile(weights, h, plan)
    s = second_tile(momentum, h, plan)
    by_keep = tl.sum(by_weights * w, axis=0)
    return by_keep, tl.sum(by_weights * s, axis=0), tl.sum(by_momentum * s, axis=0)
