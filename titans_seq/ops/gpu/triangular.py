"""The triangular step of a memory's second layer inside a kernel, and its backward.

The formulas are those of :mod:`titans_seq.ops.rules.triangular_step`; ``alike`` holds the products
of the layer's inputs with each other, ``squares`` their squared lengths.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    ROOM,
    SECOND_STEP,
    SMALLEST_DIVISOR,
    load_vector,
    solve_vector,
    solve_vector_transposed,
    store_vector,
    zero_vector,
)

LAYERS = tl.constexpr(2)
"""Layers that share a correction."""


@triton.jit
def _units(alike, squares, c):
    """Return the cosines below the diagonal, and one over each length."""
    scale = 1.0 / tl.sqrt(squares + SMALLEST_DIVISOR)
    cosines = alike * scale[:, None] * scale[None, :]
    return tl.where(c[:, None] > c[None, :], cosines, 0.0), scale


@triton.jit
def _demand(squares, vectors, c, plan: tl.constexpr):
    """Return step, room, the limit that the step is held to, and the correction it wants."""
    step = load_vector(vectors, SECOND_STEP, c, plan)
    room = load_vector(vectors, ROOM, c, plan)
    demand = step * squares
    limit = tl.maximum(tl.maximum(demand, room), SMALLEST_DIVISOR)
    return step, room, limit, demand / limit / LAYERS


@triton.jit
def triangular(alike, squares, vectors, c, plan: tl.constexpr):
    """Return the second layer's steps."""
    if not plan.triangular:
        return load_vector(vectors, SECOND_STEP, c, plan)
    cosines, _scale = _units(alike, squares, c)
    step, room, limit, wanted = _demand(squares, vectors, c, plan)
    ones = zero_vector(plan.block_chunk, plan) + 1.0
    left = solve_vector(cosines * cosines * wanted[None, :], ones, c, plan)
    return step * room / (limit * LAYERS) * tl.maximum(left, 0.0)


@triton.jit
def triangular_backward(grad, alike, squares, vectors, by_vectors, c, plan: tl.constexpr):
    """Write the gradients by step and room; return those by ``alike`` and ``squares``."""
    if not plan.triangular:
        store_vector(by_vectors, SECOND_STEP, grad, c, plan)
        store_vector(by_vectors, ROOM, tl.zeros_like(grad), c, plan)
        return tl.zeros_like(alike), tl.zeros_like(squares)
    cosines, scale = _units(alike, squares, c)
    step, room, limit, wanted = _demand(squares, vectors, c, plan)
    ones = zero_vector(plan.block_chunk, plan) + 1.0
    system = cosines * cosines * wanted[None, :]
    left = solve_vector(system, ones, c, plan)
    positive = tl.maximum(left, 0.0)
    by_left = tl.where(left >= 0, grad * step * room / (limit * LAYERS), 0.0)
    x = solve_vector_transposed(system, by_left, c, plan)
    by_system = -x[:, None] * left[None, :]
    by_wanted = tl.sum(by_system * cosines * cosines, axis=0)
    by_cosines = 2.0 * by_system * cosines * wanted[None, :]

    by_limit = -(grad * step * room / (limit * LAYERS) * positive + by_wanted * wanted) / limit
    demand = step * squares
    larger = tl.where(demand > room, 1.0, tl.where(demand == room, 0.5, 0.0))
    by_limit = tl.where(tl.maximum(demand, room) >= SMALLEST_DIVISOR, by_limit, 0.0)
    by_demand = by_wanted / (limit * LAYERS) + by_limit * larger
    per_step = grad * positive / (limit * LAYERS)
    store_vector(by_vectors, SECOND_STEP, per_step * room + by_demand * squares, c, plan)
    store_vector(by_vectors, ROOM, per_step * step + by_limit * (1.0 - larger), c, plan)
    turned = by_cosines * cosines
    by_lengths = tl.sum(turned, axis=0) + tl.sum(turned, axis=1)
    by_squares = by_demand * step - 0.5 * by_lengths * scale * scale
    return by_cosines * scale[:, None] * scale[None, :], by_squares
