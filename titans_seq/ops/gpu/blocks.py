"""What the GPU kernels of the memory share: tiles, products, and triangular systems by blocks.

A unit lower triangular system is solved by block substitution: the inverses of its diagonal
blocks of 16 rows by substitution row by row, then one block after the other. Powers of the
matrix, which overflow where keys repeat, are never formed.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

BLOCK = tl.constexpr(16)
"""Rows of a diagonal block; also the least size of a side of ``tl.dot``."""

SMALLEST_DIVISOR = tl.constexpr(1e-24)
"""As :data:`titans_seq.ops.rules.rule.SMALLEST_DIVISOR`."""

# Where each vector of a chunk stands in ``Scalars.vectors``.
KEEP = tl.constexpr(0)
CARRY = tl.constexpr(1)
MIX_LAST = tl.constexpr(2)
DECAY_LAST = tl.constexpr(3)
MOMENTUM = tl.constexpr(4)
STEP = tl.constexpr(5)
# of the exact memory: the state before each token
KEEP_BEFORE = tl.constexpr(6)
CARRY_BEFORE = tl.constexpr(7)
# of the second layer: the step it asks for, and 1 - momentum
SECOND_STEP = tl.constexpr(6)
ROOM = tl.constexpr(7)


class Plan(NamedTuple):
    """What a kernel is compiled for; every size has its padded twin, a power of two."""

    chunk: int
    width: int
    hidden: int
    block_chunk: int
    block_width: int
    block_hidden: int
    vectors: int
    """Vectors of scalars a chunk."""

    exact: bool
    """Gradient at every token instead of at the chunk's start."""

    triangular: bool
    """Whether the second layer's step is bounded by what the chunk has written."""

    bounded: bool
    bound: float
    """Bound on the size of one token's gradient."""

    gelu: bool
    product: Any
    """Type that the factors of the large products are rounded to."""

    factor: Any
    """Type in which they are multiplied: the same, but for triton's interpreter, which cannot
    multiply bfloat16."""

    state: Any
    """Type of sums, scalars and states."""

    precision: str
    """``input_precision`` of products of float32: ``ieee``, ``tf32x3`` or ``tf32``."""

    solving: str
    """The same for triangular systems: never less than float32's precision."""


class Tokens(NamedTuple):
    """Rows of tokens, or of their gradients, each (rows, chunks * chunk, width)."""

    q: Any
    k: Any
    v: Any
    """Not ``values``: triton's tuples have an attribute of that name."""


class Scalars(NamedTuple):
    """Scalars of every chunk, or their gradients."""

    vectors: Any
    """(rows, chunks, vectors, chunk)"""

    mix: Any
    """(rows, chunks, chunk, chunk)"""

    before: Any
    """``mix`` of the state before each token (exact memory), of the same shape."""


@triton.jit
def zeros(height: tl.constexpr, width: tl.constexpr, plan: tl.constexpr):
    """Return a tile of zeros in the state type."""
    return tl.zeros((height, width), dtype=plan.state)


@triton.jit
def zero_vector(size: tl.constexpr, plan: tl.constexpr):
    """Return a vector of zeros in the state type."""
    return tl.zeros((size,), dtype=plan.state)


@triton.jit
def load_tile(at, rows, columns, height, width):
    """Load a tile of a matrix (height, width); zero outside of it."""
    inside = (rows[:, None] < height) & (columns[None, :] < width)
    return tl.load(at + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def store_tile(at, tile, rows, columns, height, width):
    """Store what of a tile lies inside its matrix (height, width)."""
    inside = (rows[:, None] < height) & (columns[None, :] < width)
    where = at + rows[:, None] * width + columns[None, :]
    tl.store(where, tile.to(at.dtype.element_ty), mask=inside)


@triton.jit
def load_rows(at, chunk, plan: tl.constexpr):
    """Load one chunk's tokens."""
    c = tl.arange(0, plan.block_chunk)
    d = tl.arange(0, plan.block_width)
    return load_tile(at + chunk * plan.chunk * plan.width, c, d, plan.chunk, plan.width)


@triton.jit
def store_rows(at, chunk, rows, plan: tl.constexpr):
    """Store what stands for one chunk's tokens."""
    c = tl.arange(0, plan.block_chunk)
    d = tl.arange(0, plan.block_width)
    store_tile(at + chunk * plan.chunk * plan.width, rows, c, d, plan.chunk, plan.width)


@triton.jit
def load_chunk(chunk, tokens, grads, plan: tl.constexpr):
    """Load a chunk's queries and keys, and the gradients by its outputs and losses."""
    c = tl.arange(0, plan.block_chunk)
    loss = tl.load(grads.losses + chunk * plan.chunk + c, mask=c < plan.chunk, other=0.0)
    out = load_rows(grads.outputs, chunk, plan).to(plan.state)
    return load_rows(tokens.q, chunk, plan), load_rows(tokens.k, chunk, plan), out, loss


@triton.jit
def load_vector(at, which, places, plan: tl.constexpr):
    """Load one vector of a chunk's scalars; zero outside of it."""
    return tl.load(at + which * plan.chunk + places, mask=places < plan.chunk, other=0.0)


@triton.jit
def store_vector(at, which, vector, places, plan: tl.constexpr):
    """Store one vector of a chunk's scalars."""
    tl.store(at + which * plan.chunk + places, vector, mask=places < plan.chunk)


@triton.jit
def product(a, b, plan: tl.constexpr):
    """Return ``a @ b`` in the plan's product type, summed in its state type."""
    return tl.dot(
        a.to(plan.product).to(plan.factor),
        b.to(plan.product).to(plan.factor),
        input_precision=plan.precision,
        out_dtype=plan.state,
    )


@triton.jit
def full_product(a, b, plan: tl.constexpr):
    """Return ``a @ b`` of the state type in its full precision."""
    return tl.dot(a, b, input_precision=plan.solving, out_dtype=plan.state)


@triton.jit
def last_of(vector, places, plan: tl.constexpr):
    """Return the chunk's last entry of a vector."""
    return tl.sum(tl.where(places == plan.chunk - 1, vector, 0.0), axis=0)


@triton.jit
def block_inverse(system, plan: tl.constexpr):
    """Invert the diagonal blocks of ``I + system``; zero outside of the blocks.

    ``system`` is strictly lower triangular.
    """
    count: tl.constexpr = plan.block_chunk // BLOCK
    size: tl.constexpr = plan.block_chunk
    inside = tl.arange(0, BLOCK)
    blocks = tl.arange(0, count)
    same = (blocks[:, None] == blocks[None, :])[:, None, :, None]
    grid = tl.reshape(system, (count, BLOCK, count, BLOCK))
    diagonal = tl.sum(tl.where(same, grid, 0.0), axis=2)
    unit = tl.where(inside[:, None] == inside[None, :], 1.0, 0.0).to(plan.state)
    inverse = tl.zeros((count, BLOCK, BLOCK), dtype=plan.state) + unit[None, :, :]
    for row in range(1, BLOCK):
        here = (inside == row)[None, :, None]
        factors = tl.sum(tl.where(here, diagonal, 0.0), axis=1)
        known = tl.sum(factors[:, :, None] * inverse, axis=1)
        inverse = tl.where(here, inverse - known[:, None, :], inverse)
    spread = tl.where(same, inverse[:, :, None, :], 0.0)
    return tl.reshape(spread, (size, size))


@triton.jit
def _beyond_blocks(system, places):
    """Return what of the system stands outside of its diagonal blocks."""
    block = places // BLOCK
    return tl.where(block[:, None] == block[None, :], 0.0, system)


@triton.jit
def solve(system, right, places, plan: tl.constexpr):
    """Solve ``(I + system) x = right`` for a matrix ``right``; system strictly lower."""
    inverse = block_inverse(system, plan)
    below = full_product(inverse, _beyond_blocks(system, places), plan)
    first = full_product(inverse, right, plan)
    x = first
    for block in range(1, plan.block_chunk // BLOCK):
        found = first - full_product(below, x, plan)
        x = tl.where((places // BLOCK == block)[:, None], found, x)
    return x


@triton.jit
def solve_transposed(system, right, places, plan: tl.constexpr):
    """Solve ``(I + system)^T x = right`` for a matrix ``right``; system strictly lower."""
    count: tl.constexpr = plan.block_chunk // BLOCK
    inverse = tl.trans(block_inverse(system, plan))
    above = full_product(inverse, tl.trans(_beyond_blocks(system, places)), plan)
    first = full_product(inverse, right, plan)
    x = first
    for back in range(1, count):
        found = first - full_product(above, x, plan)
        x = tl.where((places // BLOCK == count - 1 - back)[:, None], found, x)
    return x


@triton.jit
def solve_vector(system, right, places, plan: tl.constexpr):
    """Solve ``(I + system) x = right`` for a vector ``right``; system strictly lower."""
    inverse = block_inverse(system, plan)
    below = _beyond_blocks(system, places)
    x = tl.sum(inverse * right[None, :], axis=1)
    for block in range(1, plan.block_chunk // BLOCK):
        rest = right - tl.sum(below * x[None, :], axis=1)
        found = tl.sum(inverse * rest[None, :], axis=1)
        x = tl.where(places // BLOCK == block, found, x)
    return x


@triton.jit
def solve_vector_transposed(system, right, places, plan: tl.constexpr):
    """Solve ``(I + system)^T x = right`` for a vector ``right``; system strictly lower."""
    count: tl.constexpr = plan.block_chunk // BLOCK
    inverse = block_inverse(system, plan)
    below = _beyond_blocks(system, places)
    x = tl.sum(inverse * right[:, None], axis=0)
    for back in range(1, count):
        rest = right - tl.sum(below * x[:, None], axis=0)
        found = tl.sum(inverse * rest[:, None], axis=0)
        x = tl.where(places // BLOCK == count - 1 - back, found, x)
    return x


@triton.jit
def bound_share(inputs_square, errors_square, plan: tl.constexpr):
    """Return the share of an error that a smooth bound on its gradient lets through."""
    size = tl.sqrt(inputs_square * errors_square + SMALLEST_DIVISOR)
    return plan.bound / (plan.bound + size)


@triton.jit
def bound_backward(grad, inputs_square, errors_square, plan: tl.constexpr):
    """Return the gradients of :func:`bound_share` by the two squares."""
    size = tl.sqrt(inputs_square * errors_square + SMALLEST_DIVISOR)
    share = plan.bound / (plan.bound + size)
    by_square = -grad * share * share / plan.bound * 0.5 / size
    return by_square * errors_square, by_square * inputs_square
