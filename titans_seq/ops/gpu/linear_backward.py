"""Backward kernel of a linear memory: the forward kernel's walk, from the last chunk back.

Each chunk is taken up from its saved starting state and its saved errors; the gradients by
weights and momentum stay in registers.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    CARRY,
    CARRY_BEFORE,
    DECAY_LAST,
    KEEP,
    KEEP_BEFORE,
    MIX_LAST,
    MOMENTUM,
    STEP,
    bound_backward,
    bound_share,
    last_of,
    load_chunk,
    load_rows,
    load_tile,
    load_vector,
    product,
    solve_transposed,
    store_rows,
    store_tile,
    store_vector,
    zero_vector,
)
from titans_seq.ops.gpu.linear import exact_system


class Backward(NamedTuple):
    """What the backward kernel is handed besides the forward kernel's tensors."""

    outputs: Any
    losses: Any
    weights: Any
    """Gradient by the last weights, (rows, width, width); turned into that by the first."""

    momentum: Any
    """As ``weights``, for the momentum."""

    previous: Any
    """Gradient by the weights at the last chunk's start."""

    base: Any
    """Gradient by the base, one a row; written."""


@triton.jit(do_not_specialize=["sizes"])
def linear_backward(tokens, scalars, base, saved, grads, written, sizes, plan: tl.constexpr):
    """Walk back over the chunks of one row.

    ``saved``: states and errors; ``written``: where the gradients by tokens and scalars go;
    ``sizes``: chunks, heads.
    """
    state, errors_at = saved
    by_tokens, by_scalars = written
    chunks, heads = sizes
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, plan.block_width)
    matrix: tl.constexpr = plan.width * plan.width
    side: tl.constexpr = plan.width
    base_tile = load_tile(base + (row % heads) * matrix, d, d, side, side)
    by_weights = load_tile(grads.weights + row * matrix, d, d, side, side)
    by_momentum = load_tile(grads.momentum + row * matrix, d, d, side, side)
    by_base = tl.zeros_like(base_tile)
    for back in range(chunks):
        at = row * chunks + chunks - 1 - back
        start = (at + row) * matrix
        weights = load_tile(state.weights + start, d, d, side, side)
        momentum = load_tile(state.momentum + start, d, d, side, side)
        states = (base_tile, weights, momentum, by_weights, by_momentum)
        here = (tokens, scalars, errors_at, grads, by_tokens, by_scalars)
        in_base, in_weights, in_momentum = _chunk_backward(at, here, states, plan)
        by_base += in_base
        by_weights, by_momentum = in_weights, in_momentum
        if back == 0:
            by_weights += load_tile(grads.previous + row * matrix, d, d, side, side)
    store_tile(grads.base + row * matrix, by_base, d, d, side, side)
    store_tile(grads.weights + row * matrix, by_weights, d, d, side, side)
    store_tile(grads.momentum + row * matrix, by_momentum, d, d, side, side)


@triton.jit
def _chunk_backward(at, here, states, plan: tl.constexpr):
    """Write one chunk's gradients; return those by base, weights and momentum at its start."""
    tokens, scalars, errors_at, grads, by_tokens, by_scalars = here
    _base, _weights, _momentum, by_weights, by_momentum = states
    c = tl.arange(0, plan.block_chunk)
    masks = at * plan.chunk * plan.chunk
    v_at = scalars.vectors + at * plan.vectors * plan.chunk
    g_at = by_scalars.vectors + at * plan.vectors * plan.chunk
    q, k, out, loss = load_chunk(at, tokens, grads, plan)
    errors = load_rows(errors_at, at, plan)
    step = load_vector(v_at, STEP, c, plan)
    share, k_square, e_square = _share(k, errors, plan)
    change = errors * (step * share)[:, None]
    mix = load_tile(scalars.mix + masks, c, c, plan.chunk, plan.chunk)
    by_alike, by_change = _masked_read(q, k, change, out, mix, by_scalars.mix + masks, plan)
    by_q, in_weights, in_momentum = _carried_read(q, out, states, v_at, g_at, plan)
    store_rows(by_tokens.q, at, by_q + product(by_alike, k, plan), plan)
    by_k, wrote = _state_write(k, change, by_weights, by_momentum, v_at, g_at, plan)
    by_k += product(tl.trans(by_alike), q, plan)
    by_change -= wrote

    by_step = tl.sum(by_change * errors, axis=1)
    by_errors = loss[:, None] * errors + by_change * (step * share)[:, None]
    if plan.bounded:
        by_keys, by_size = bound_backward(by_step * step, k_square, e_square, plan)
        by_errors += 2.0 * by_size[:, None] * errors
        by_k += 2.0 * by_keys[:, None] * k.to(plan.state)
    before = (scalars.before + masks, by_scalars.before + masks)
    pair = (by_k, by_step * share)
    found = _errors_backward(k, errors, by_errors, pair, states, (v_at, g_at, before), plan)
    x, by_k, more_weights, more_momentum = found
    store_rows(by_tokens.k, at, by_k, plan)
    store_rows(by_tokens.v, at, -x, plan)
    in_base = product(tl.trans(q), out, plan) + product(tl.trans(k), x, plan)
    return in_base, in_weights + more_weights, in_momentum + more_momentum


@triton.jit
def _errors_backward(k, errors, by_errors, pair, states, places, plan: tl.constexpr):
    """Go back through the errors of the keys; write the gradient by the steps.

    Returns the gradients by the values, negative, by keys, weights and momentum.
    """
    base, weights, momentum, _by_weights, _by_momentum = states
    v_at, g_at, before = places
    by_k, by_step = pair
    c = tl.arange(0, plan.block_chunk)
    if plan.exact:
        x, by_k, more_step = _solve_backward(k, errors, by_errors, by_k, v_at, before, plan)
        by_step += more_step
        more_k, in_weights, in_momentum = _before_read(k, x, states, v_at, g_at, plan)
    else:
        x = by_errors
        more_k = product(x, tl.trans(base + weights), plan)
        in_weights = product(tl.trans(k), x, plan)
        in_momentum = tl.zeros_like(momentum)
    store_vector(g_at, STEP, by_step, c, plan)
    return x, by_k + more_k, in_weights, in_momentum


@triton.jit
def _share(k, errors, plan: tl.constexpr):
    """Return the bound's share, and the squares that it is made of."""
    wide = k.to(plan.state)
    k_square = tl.sum(wide * wide, axis=1)
    e_square = tl.sum(errors * errors, axis=1)
    share = zero_vector(plan.block_chunk, plan) + 1.0
    if plan.bounded:
        share = bound_share(k_square, e_square, plan)
    return share, k_square, e_square


@triton.jit
def _masked_read(q, k, change, out, mix, by_mix, plan: tl.constexpr):
    """Go back through ``-(mix * (q k^T)) change``; write the gradient by ``mix``."""
    c = tl.arange(0, plan.block_chunk)
    alike = product(q, tl.trans(k), plan)
    reach = -product(out, tl.trans(change), plan)
    lower = c[:, None] >= c[None, :]
    store_tile(by_mix, tl.where(lower, reach * alike, 0.0), c, c, plan.chunk, plan.chunk)
    return reach * mix, -product(tl.trans(mix * alike), out, plan)


@triton.jit
def _carried_read(q, out, states, v_at, g_at, plan: tl.constexpr):
    """Go back through the read of the carried state, and the decay of it over the chunk."""
    base, weights, momentum, by_weights, by_momentum = states
    c = tl.arange(0, plan.block_chunk)
    keep = load_vector(v_at, KEEP, c, plan)
    carry = load_vector(v_at, CARRY, c, plan)
    decay = load_vector(v_at, MOMENTUM, c, plan)
    last = c == plan.chunk - 1
    through = product(out, tl.trans(weights), plan)
    behind = product(out, tl.trans(momentum), plan)
    wide = q.to(plan.state)
    by_keep = tl.sum(wide * through, axis=1)
    by_keep += tl.where(last, tl.sum(tl.sum(by_weights * weights, axis=1), axis=0), 0.0)
    by_carry = tl.sum(wide * behind, axis=1)
    by_carry += tl.where(last, tl.sum(tl.sum(by_weights * momentum, axis=1), axis=0), 0.0)
    ended = tl.sum(tl.sum(by_momentum * momentum, axis=1), axis=0)
    store_vector(g_at, KEEP, by_keep, c, plan)
    store_vector(g_at, CARRY, by_carry, c, plan)
    store_vector(g_at, MOMENTUM, tl.where(last, ended, 0.0), c, plan)
    by_q = product(out, tl.trans(base), plan) + keep[:, None] * through + carry[:, None] * behind
    in_weights = last_of(keep, c, plan) * by_weights
    in_weights += product(tl.trans(q), keep[:, None] * out, plan)
    in_momentum = last_of(carry, c, plan) * by_weights + last_of(decay, c, plan) * by_momentum
    in_momentum += product(tl.trans(q), carry[:, None] * out, plan)
    return by_q, in_weights, in_momentum


@triton.jit
def _state_write(k, change, by_weights, by_momentum, v_at, g_at, plan: tl.constexpr):
    """Go back through the chunk's write to the state; return what the keys and changes get."""
    c = tl.arange(0, plan.block_chunk)
    mix_last = load_vector(v_at, MIX_LAST, c, plan)
    decay_last = load_vector(v_at, DECAY_LAST, c, plan)
    to_weights = product(k, by_weights, plan)
    to_momentum = product(k, by_momentum, plan)
    store_vector(g_at, MIX_LAST, -tl.sum(change * to_weights, axis=1), c, plan)
    store_vector(g_at, DECAY_LAST, -tl.sum(change * to_momentum, axis=1), c, plan)
    by_k = -product(mix_last[:, None] * change, tl.trans(by_weights), plan)
    by_k -= product(decay_last[:, None] * change, tl.trans(by_momentum), plan)
    return by_k, mix_last[:, None] * to_weights + decay_last[:, None] * to_momentum


@triton.jit
def _solve_backward(k, errors, by_errors, by_k, v_at, state_before, plan: tl.constexpr):
    """Go back through the exact memory's system; write the gradient by ``before``."""
    before, by_before = state_before
    c = tl.arange(0, plan.block_chunk)
    factors, alike = exact_system(k, v_at, before, c, plan)
    x = solve_transposed(factors * alike, by_errors, c, plan)
    below = c[:, None] > c[None, :]
    by_system = tl.where(below, -product(x, tl.trans(errors), plan), 0.0)
    step = load_vector(v_at, STEP, c, plan)
    mix = load_tile(before, c, c, plan.chunk, plan.chunk)
    by_factors = by_system * alike
    store_tile(by_before, by_factors * step[None, :], c, c, plan.chunk, plan.chunk)
    by_alike = by_system * factors
    by_k += product(by_alike + tl.trans(by_alike), k, plan)
    return x, by_k, tl.sum(by_factors * mix, axis=0)


@triton.jit
def _before_read(k, x, states, v_at, g_at, plan: tl.constexpr):
    """Go back through the keys' pass through the state before each token."""
    base, weights, momentum, _by_weights, _by_momentum = states
    c = tl.arange(0, plan.block_chunk)
    keep = load_vector(v_at, KEEP_BEFORE, c, plan)
    carry = load_vector(v_at, CARRY_BEFORE, c, plan)
    through = product(x, tl.trans(weights), plan)
    behind = product(x, tl.trans(momentum), plan)
    wide = k.to(plan.state)
    store_vector(g_at, KEEP_BEFORE, tl.sum(wide * through, axis=1), c, plan)
    store_vector(g_at, CARRY_BEFORE, tl.sum(wide * behind, axis=1), c, plan)
    by_k = product(x, tl.trans(base), plan) + keep[:, None] * through + carry[:, None] * behind
    in_weights = product(tl.trans(k), keep[:, None] * x, plan)
    return by_k, in_weights, product(tl.trans(k), carry[:, None] * x, plan)
