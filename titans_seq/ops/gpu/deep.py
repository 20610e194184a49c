"""Forward kernel of a memory of two layers, with the gradient at the chunk's start.

One program walks over the chunks of one row, a row being one head of one sequence. Weights
and momentum are too large for the registers: they live in memory, one slot a chunk's start,
and are taken up a tile of hidden units at a time. With A = base + W, and Z, D, E the inputs
and errors of the keys::

    Z = act(K A1)    E = Z A2 - V    D = (E A2^T) * act'(K A1)
    H = act(Q base1 + keep * (Q W1) + carry * (Q S1) - (mix * (Q K^T)) (step1 * D))
    outputs = H base2 + keep * (H W2) + carry * (H S2) - (mix * (H Z^T)) (step2 * E)
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    CARRY,
    KEEP,
    STEP,
    bound_share,
    load_rows,
    load_tile,
    load_vector,
    product,
    store_rows,
    store_tile,
    zero_vector,
    zeros,
)
from titans_seq.ops.gpu.linear import last_state
from titans_seq.ops.gpu.triangular import triangular


class DeepBase(NamedTuple):
    """Weights that forgetting leads to, (heads, ...), or the gradients by them, (rows, ...)."""

    first: Any
    second: Any


class DeepState(NamedTuple):
    """States at the chunks' starts, each (rows, slots, ...); slot 0 is given."""

    first_weights: Any
    """(rows, slots, width, hidden)"""

    first_momentum: Any
    second_weights: Any
    """(rows, slots, hidden, width)"""

    second_momentum: Any


class DeepFound(NamedTuple):
    """What the forward kernel finds."""

    outputs: Any
    losses: Any


@triton.jit(do_not_specialize=["sizes"])
def deep_forward(tokens, scalars, base, state, found, sizes, plan: tl.constexpr):
    """Walk over the chunks of one row; ``sizes``: chunks, heads, slots of ``state``."""
    row = tl.program_id(0).to(tl.int64)
    chunks, heads, slots = sizes
    c = tl.arange(0, plan.block_chunk)
    for n in range(chunks):
        at = row * chunks + n
        vectors = scalars.vectors + at * plan.vectors * plan.chunk
        q = load_rows(tokens.q, at, plan)
        k = load_rows(tokens.k, at, plan)
        v = load_rows(tokens.v, at, plan).to(plan.state)
        layers = layers_at(base, state, row % heads, row * slots + n % slots, plan)
        ends = layers_at(base, state, row % heads, row * slots + (n + 1) % slots, plan)

        errors, alike, squares = answer_keys(k, v, layers, plan)
        losses = 0.5 * tl.sum(errors * errors, axis=1)
        tl.store(found.losses + at * plan.chunk + c, losses, mask=c < plan.chunk)
        first = load_vector(vectors, STEP, c, plan)
        second = triangular(alike, squares, vectors, c, plan)
        if plan.bounded:
            wide = k.to(plan.state)
            slopes = _slope_squares(k, errors, layers, plan)
            first *= bound_share(tl.sum(wide * wide, axis=1), slopes, plan)
            second *= bound_share(squares, tl.sum(errors * errors, axis=1), plan)
        mix = load_tile(scalars.mix + at * plan.chunk * plan.chunk, c, c, plan.chunk, plan.chunk)
        out = _read_and_write((q, k), errors, (first, second), mix, layers, ends, vectors, plan)
        store_rows(found.outputs, at, out, plan)
        # the next chunk reads the state that this one wrote
        tl.debug_barrier()


@triton.jit
def layers_at(base, state, head, slot, plan: tl.constexpr):
    """Return where both layers' base, weights and momentum stand."""
    matrix: tl.constexpr = plan.width * plan.hidden
    return (
        base.first + head * matrix,
        base.second + head * matrix,
        state.first_weights + slot * matrix,
        state.first_momentum + slot * matrix,
        state.second_weights + slot * matrix,
        state.second_momentum + slot * matrix,
    )


@triton.jit
def activated(u, plan: tl.constexpr):
    """Return the non-linearity between the layers."""
    if plan.gelu:
        return 0.5 * u * (1.0 + tl.erf(u * 0.7071067811865476))
    return u / (1.0 + tl.exp(-u))


@triton.jit
def slope_of(u, plan: tl.constexpr):
    """Return the derivative of :func:`activated`."""
    if plan.gelu:
        density = tl.exp(-0.5 * u * u) * 0.3989422804014327
        return 0.5 * (1.0 + tl.erf(u * 0.7071067811865476)) + u * density
    gate = 1.0 / (1.0 + tl.exp(-u))
    return gate * (1.0 + u * (1.0 - gate))


@triton.jit
def first_tile(at, h, plan: tl.constexpr):
    """Load the columns ``h`` of a first layer's matrix."""
    return load_tile(at, tl.arange(0, plan.block_width), h, plan.width, plan.hidden)


@triton.jit
def second_tile(at, h, plan: tl.constexpr):
    """Load the rows ``h`` of a second layer's matrix."""
    return load_tile(at, h, tl.arange(0, plan.block_width), plan.hidden, plan.width)


@triton.jit
def keys_through(k, layers, h, plan: tl.constexpr):
    """Return the keys in the hidden units ``h``, before the non-linearity."""
    base, _base2, weights, _s1, _w2, _s2 = layers
    return product(k, first_tile(base, h, plan) + first_tile(weights, h, plan), plan)


@triton.jit
def second_weights(layers, h, plan: tl.constexpr):
    """Return the rows ``h`` of the second layer's weights at the chunk's start."""
    _base1, base, _w1, _s1, weights, _s2 = layers
    return second_tile(base, h, plan) + second_tile(weights, h, plan)


@triton.jit
def answer_keys(k, v, layers, plan: tl.constexpr):
    """Return the errors of the keys, the products of their hidden inputs, and the squares."""
    answer = zeros(plan.block_chunk, plan.block_width, plan)
    alike = zeros(plan.block_chunk, plan.block_chunk, plan)
    squares = zero_vector(plan.block_chunk, plan)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        z = activated(keys_through(k, layers, h, plan), plan)
        answer += product(z, second_weights(layers, h, plan), plan)
        alike += product(z, tl.trans(z), plan)
        squares += tl.sum(z * z, axis=1)
    return answer - v, alike, squares


@triton.jit
def _slope_squares(k, errors, layers, plan: tl.constexpr):
    """Return the squared length of each key's error at the first layer."""
    squares = zero_vector(plan.block_chunk, plan)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        slope = slope_of(keys_through(k, layers, h, plan), plan)
        error = product(errors, tl.trans(second_weights(layers, h, plan)), plan) * slope
        squares += tl.sum(error * error, axis=1)
    return squares


@triton.jit
def _read_and_write(pair, errors, steps, mix, layers, ends, vectors, plan: tl.constexpr):
    """Return the answers to the queries, and write the state after the chunk."""
    q, k = pair
    base1, base2, weights1, momentum1, weights2, momentum2 = layers
    _base1, _base2, end_weights1, end_momentum1, end_weights2, end_momentum2 = ends
    c = tl.arange(0, plan.block_chunk)
    d = tl.arange(0, plan.block_width)
    keep = load_vector(vectors, KEEP, c, plan)[:, None]
    carry = load_vector(vectors, CARRY, c, plan)[:, None]
    first_step, second_step = steps
    reach = mix * product(q, tl.trans(k), plan) * first_step[None, :]
    written = errors * second_step[:, None]
    out = zeros(plan.block_chunk, plan.block_width, plan)
    alike = zeros(plan.block_chunk, plan.block_chunk, plan)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        u = keys_through(k, layers, h, plan)
        z = activated(u, plan)
        change = product(errors, tl.trans(second_weights(layers, h, plan)), plan)
        change *= slope_of(u, plan)
        w = first_tile(weights1, h, plan)
        s = first_tile(momentum1, h, plan)
        read = product(q, first_tile(base1, h, plan), plan) - product(reach, change, plan)
        read += keep * product(q, w, plan) + carry * product(q, s, plan)
        w, s = last_state(k, change * first_step[:, None], w, s, vectors, c, plan)
        store_tile(end_weights1, w, d, h, plan.width, plan.hidden)
        store_tile(end_momentum1, s, d, h, plan.width, plan.hidden)

        read = activated(read, plan)
        alike += product(read, tl.trans(z), plan)
        w = second_tile(weights2, h, plan)
        s = second_tile(momentum2, h, plan)
        out += product(read, second_tile(base2, h, plan), plan)
        out += keep * product(read, w, plan) + carry * product(read, s, plan)
        w, s = last_state(z, written, w, s, vectors, c, plan)
        store_tile(end_weights2, w, h, d, plan.hidden, plan.width)
        store_tile(end_momentum2, s, h, d, plan.hidden, plan.width)
    return out - product(mix * alike, written, plan)
