"""Passes of the two-layer memory's backward kernel over its hidden units: the reads.

Names as in :mod:`titans_seq.ops.gpu.deep_backward`. ``layers`` and ``ends`` are where the
weights at the chunk's start, and the gradients by the state at its end, stand in memory.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    CARRY,
    KEEP,
    load_tile,
    load_vector,
    product,
    store_tile,
    zero_vector,
    zeros,
)
from titans_seq.ops.gpu.deep import (
    activated,
    first_tile,
    keys_through,
    second_tile,
    second_weights,
    slope_of,
)

# Hidden values that wait in scratch between passes.
U = tl.constexpr(0)
BEHIND = tl.constexpr(1)
READ = tl.constexpr(2)
BY_READ = tl.constexpr(3)
BY_CHANGE = tl.constexpr(4)


@triton.jit
def take(scratch, which, h, plan: tl.constexpr):
    """Take hidden values up again."""
    at = scratch + which * plan.chunk * plan.hidden
    return load_tile(at, tl.arange(0, plan.block_chunk), h, plan.chunk, plan.hidden)


@triton.jit
def put(scratch, which, tile, h, plan: tl.constexpr):
    """Put hidden values by for a later pass."""
    at = scratch + which * plan.chunk * plan.hidden
    store_tile(at, tile, tl.arange(0, plan.block_chunk), h, plan.chunk, plan.hidden)


@triton.jit
def ends_at(ends, plan: tl.constexpr):
    """Return where the gradients by the state stand, without those by the base."""
    _base1, _base2, weights1, momentum1, weights2, momentum2 = ends
    return weights1, momentum1, weights2, momentum2


@triton.jit
def errors_of_changes(k, errors, layers, scratch, plan: tl.constexpr):
    """Put by u and the errors behind the non-linearity; return the changes' squares."""
    squares = zero_vector(plan.block_chunk, plan)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = keys_through(k, layers, h, plan)
        behind = product(errors, tl.trans(second_weights(layers, h, plan)), plan)
        change = behind * slope_of(u, plan)
        squares += tl.sum(change * change, axis=1)
        put(scratch, U, u, h, plan)
        put(scratch, BEHIND, behind, h, plan)
    return squares


@triton.jit
def read_again(pair, reach, layers, ends, vectors, scratch, plan: tl.constexpr):
    """Put by the queries' hidden values.

    Returns the products of hidden queries and keys, and the hidden keys through the gradients
    by the second layer's state.
    """
    q, _k = pair
    base1, _base2, weights1, momentum1, _weights2, _momentum2 = layers
    _w, _s, by_weights2, by_momentum2 = ends_at(ends, plan)
    c = tl.arange(0, plan.block_chunk)
    keep = load_vector(vectors, KEEP, c, plan)[:, None]
    carry = load_vector(vectors, CARRY, c, plan)[:, None]
    alike = zeros(plan.block_chunk, plan.block_chunk, plan)
    to_weights = zeros(plan.block_chunk, plan.block_width, plan)
    to_momentum = zeros(plan.block_chunk, plan.block_width, plan)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = take(scratch, U, h, plan)
        z = activated(u, plan)
        change = take(scratch, BEHIND, h, plan) * slope_of(u, plan)
        read = product(q, first_tile(base1, h, plan), plan) - product(reach, change, plan)
        read += keep * product(q, first_tile(weights1, h, plan), plan)
        read += carry * product(q, first_tile(momentum1, h, plan), plan)
        put(scratch, READ, read, h, plan)
        alike += product(activated(read, plan), tl.trans(z), plan)
        to_weights += product(z, second_tile(by_weights2, h, plan), plan)
        to_momentum += product(z, second_tile(by_momentum2, h, plan), plan)
    return alike, to_weights, to_momentum


@triton.jit
def reads_backward(given, layers, ends, vectors, scratch, plan: tl.constexpr):
    """Go back through the queries' hidden values; put by the gradients by them.

    Returns the gradients by the first layer's reach, by queries, and by the decays of weights
    and momentum; and what each key's change meets in the gradients by the first layer's state.
    """
    q, k, out, by_alike = given
    base1, _base2, weights1, momentum1, _weights2, _momentum2 = layers
    end_weights1, end_momentum1, _w, _s = ends_at(ends, plan)
    c = tl.arange(0, plan.block_chunk)
    shares = (load_vector(vectors, KEEP, c, plan), load_vector(vectors, CARRY, c, plan))
    reach = zeros(plan.block_chunk, plan.block_chunk, plan)
    by_base = zeros(plan.block_chunk, plan.block_width, plan)
    by_kept = tl.zeros_like(by_base)
    by_carried = tl.zeros_like(by_base)
    by_keep = zero_vector(plan.block_chunk, plan)
    by_carry = tl.zeros_like(by_keep)
    to_weights = tl.zeros_like(by_keep)
    to_momentum = tl.zeros_like(by_keep)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = take(scratch, U, h, plan)
        change = take(scratch, BEHIND, h, plan) * slope_of(u, plan)
        read = take(scratch, READ, h, plan)
        by_hidden, kept, carried = _answers_backward(out, read, layers, shares, h, plan)
        by_keep += kept
        by_carry += carried
        by_read = (by_hidden + product(by_alike, activated(u, plan), plan)) * slope_of(read, plan)
        put(scratch, BY_READ, by_read, h, plan)
        reach -= product(by_read, tl.trans(change), plan)
        by_base += product(by_read, tl.trans(first_tile(base1, h, plan)), plan)
        by_kept += product(by_read, tl.trans(first_tile(weights1, h, plan)), plan)
        by_carried += product(by_read, tl.trans(first_tile(momentum1, h, plan)), plan)
        to_weights += _met(k, change, end_weights1, h, plan)
        to_momentum += _met(k, change, end_momentum1, h, plan)
    by_keep += tl.sum(q.to(plan.state) * by_kept, axis=1)
    by_carry += tl.sum(q.to(plan.state) * by_carried, axis=1)
    by_q = by_base + shares[0][:, None] * by_kept + shares[1][:, None] * by_carried
    return reach, by_q, by_keep, by_carry, to_weights, to_momentum


@triton.jit
def _answers_backward(out, read, layers, shares, h, plan: tl.constexpr):
    """Go back through the second layer's carried state.

    Returns the gradients by the queries' hidden values and by the decays.
    """
    _base1, base, _weights1, _momentum1, weights, momentum = layers
    hidden = activated(read, plan)
    kept = product(out, tl.trans(second_tile(weights, h, plan)), plan)
    carried = product(out, tl.trans(second_tile(momentum, h, plan)), plan)
    by_hidden = product(out, tl.trans(second_tile(base, h, plan)), plan)
    by_hidden += shares[0][:, None] * kept + shares[1][:, None] * carried
    return by_hidden, tl.sum(hidden * kept, axis=1), tl.sum(hidden * carried, axis=1)


@triton.jit
def _met(k, change, at, h, plan: tl.constexpr):
    """Return what each key's change meets in the gradients by a state."""
    return tl.sum(change * product(k, first_tile(at, h, plan), plan), axis=1)
