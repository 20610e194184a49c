"""Forward kernel of a linear memory: exact, or with the gradient at the chunk's start.

One program walks over the chunks of one row, a row being one head of one sequence; weights
and momentum stay in registers, and their value at each chunk's start is written out for the
backward kernel. With W the difference of the weights from the base that forgetting leads to::

    E = errors of the keys: K (base + W) - V, or the solution of the exact memory's system
    D = step * bound * E
    outputs = Q base + keep * (Q W) + carry * (Q S) - (mix * (Q K^T)) D
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
    bound_share,
    last_of,
    load_rows,
    load_tile,
    load_vector,
    product,
    solve,
    store_rows,
    store_tile,
)


class LinearState(NamedTuple):
    """States at the chunks' starts, each (rows, slots, width, width); slot 0 is given."""

    weights: Any
    momentum: Any


class Found(NamedTuple):
    """What the forward kernel finds, or the gradients by it."""

    outputs: Any
    """(rows, chunks * chunk, width)"""

    losses: Any
    """(rows, chunks * chunk)"""

    errors: Any
    """(rows, chunks * chunk, width), for the backward kernel"""


@triton.jit(do_not_specialize=["sizes"])
def linear_forward(tokens, scalars, base, state, found, sizes, plan: tl.constexpr):
    """Walk over the chunks of one row; ``sizes``: chunks, heads, slots of ``state``."""
    row = tl.program_id(0).to(tl.int64)
    chunks, heads, slots = sizes
    d = tl.arange(0, plan.block_width)
    side: tl.constexpr = plan.width
    matrix: tl.constexpr = side * side
    base_tile = load_tile(base + (row % heads) * matrix, d, d, side, side)
    weights = load_tile(state.weights + row * slots * matrix, d, d, side, side)
    momentum = load_tile(state.momentum + row * slots * matrix, d, d, side, side)
    for n in range(chunks):
        now = (base_tile, weights, momentum)
        weights, momentum = _chunk_forward(row * chunks + n, tokens, scalars, now, found, plan)
        after = (row * slots + (n + 1) % slots) * matrix
        store_tile(state.weights + after, weights, d, d, side, side)
        store_tile(state.momentum + after, momentum, d, d, side, side)


@triton.jit
def _chunk_forward(at, tokens, scalars, now, found, plan: tl.constexpr):
    """Read and write one chunk; return weights and momentum after it."""
    base, weights, momentum = now
    c = tl.arange(0, plan.block_chunk)
    vectors = scalars.vectors + at * plan.vectors * plan.chunk
    masks = at * plan.chunk * plan.chunk
    q = load_rows(tokens.q, at, plan)
    k = load_rows(tokens.k, at, plan)
    v = load_rows(tokens.v, at, plan).to(plan.state)
    if plan.exact:
        errors = _solve_errors(k, v, now, vectors, scalars.before + masks, c, plan)
    else:
        errors = product(k, base + weights, plan) - v
    store_rows(found.errors, at, errors, plan)
    losses = 0.5 * tl.sum(errors * errors, axis=1)
    tl.store(found.losses + at * plan.chunk + c, losses, mask=c < plan.chunk)

    change = errors * allowed_step(k, errors, vectors, c, plan)[:, None]
    mix = load_tile(scalars.mix + masks, c, c, plan.chunk, plan.chunk)
    reach = mix * product(q, tl.trans(k), plan)
    out = product(q, base, plan) - product(reach, change, plan)
    out += load_vector(vectors, KEEP, c, plan)[:, None] * product(q, weights, plan)
    out += load_vector(vectors, CARRY, c, plan)[:, None] * product(q, momentum, plan)
    store_rows(found.outputs, at, out, plan)
    return last_state(k, change, weights, momentum, vectors, c, plan)


@triton.jit
def allowed_step(k, errors, vectors, c, plan: tl.constexpr):
    """Return each token's step, times the bound's share where there is a bound."""
    step = load_vector(vectors, STEP, c, plan)
    if plan.bounded:
        wide = k.to(plan.state)
        squares = tl.sum(wide * wide, axis=1)
        step = step * bound_share(squares, tl.sum(errors * errors, axis=1), plan)
    return step


@triton.jit
def exact_system(k, vectors, before, c, plan: tl.constexpr):
    """Return ``before * step`` below the diagonal, and the products of the keys."""
    step = load_vector(vectors, STEP, c, plan)
    mix = load_tile(before, c, c, plan.chunk, plan.chunk)
    factors = tl.where(c[:, None] > c[None, :], mix * step[None, :], 0.0)
    return factors, product(k, tl.trans(k), plan)


@triton.jit
def _solve_errors(k, v, now, vectors, before, c, plan: tl.constexpr):
    """Solve for every token's error at the weights that the tokens before it have left."""
    base, weights, momentum = now
    keep = load_vector(vectors, KEEP_BEFORE, c, plan)
    carry = load_vector(vectors, CARRY_BEFORE, c, plan)
    right = product(k, base, plan) - v
    right += keep[:, None] * product(k, weights, plan)
    right += carry[:, None] * product(k, momentum, plan)
    factors, alike = exact_system(k, vectors, before, c, plan)
    return solve(factors * alike, right, c, plan)


@triton.jit
def last_state(k, change, weights, momentum, vectors, c, plan: tl.constexpr):
    """Return weights and momentum after the chunk's last token."""
    keep = last_of(load_vector(vectors, KEEP, c, plan), c, plan)
    carry = last_of(load_vector(vectors, CARRY, c, plan), c, plan)
    decay = last_of(load_vector(vectors, MOMENTUM, c, plan), c, plan)
    to_weights = load_vector(vectors, MIX_LAST, c, plan)[:, None] * change
    to_momentum = load_vector(vectors, DECAY_LAST, c, plan)[:, None] * change
    weights = keep * weights + carry * momentum - product(tl.trans(k), to_weights, plan)
    return weights, decay * momentum - product(tl.trans(k), to_momentum, plan)
