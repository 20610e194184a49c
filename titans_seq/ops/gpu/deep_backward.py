"""Backward kernel of a memory of two layers: the forward kernel's walk, from the last chunk.

Each chunk is taken up from its saved starting state and gone through in passes over the
hidden units, since what one unit receives depends on sums over all of them. Between passes,
hidden values wait in ``scratch``. Names follow the forward kernel: u and z for the keys
before and after the non-linearity, ``read`` for the queries before it, ``change`` for the
keys' errors at the first layer. ``by_x`` is the gradient by x.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from titans_seq.ops.gpu.blocks import (
    CARRY,
    DECAY_LAST,
    KEEP,
    MIX_LAST,
    MOMENTUM,
    STEP,
    bound_backward,
    bound_share,
    load_chunk,
    load_rows,
    load_tile,
    load_vector,
    product,
    store_rows,
    store_tile,
    store_vector,
    zero_vector,
)
from titans_seq.ops.gpu.deep import answer_keys, layers_at
from titans_seq.ops.gpu.deep_reads import errors_of_changes, read_again, reads_backward
from titans_seq.ops.gpu.deep_writes import (
    changes_backward,
    first_weights_backward,
    second_weights_backward,
)
from titans_seq.ops.gpu.triangular import triangular, triangular_backward

SCRATCH = tl.constexpr(5)
"""Hidden values that wait between passes: u, errors, read, by_read, by_change."""


class DeepBackward(NamedTuple):
    """What the backward kernel is handed besides the forward kernel's tensors."""

    outputs: Any
    losses: Any
    state: Any
    """Gradients by the state, (rows, 2, ...) each; slot 0 holds those by the last."""

    base: Any
    """Gradients by the base, one a row; zero at first."""

    previous: Any
    """Gradients by both layers' weights at the last chunk's start."""

    scratch: Any
    """(rows, 5, chunk, hidden)"""


@triton.jit(do_not_specialize=["sizes"])
def deep_backward(tokens, scalars, base, state, grads, written, sizes, plan: tl.constexpr):
    """Walk back over the chunks of one row.

    ``written``: where the gradients by tokens and scalars go; ``sizes``: chunks, heads.
    """
    by_tokens, by_scalars = written
    chunks, heads = sizes
    row = tl.program_id(0).to(tl.int64)
    scratch = grads.scratch + row * SCRATCH * plan.chunk * plan.hidden
    for back in range(chunks):
        at = row * chunks + chunks - 1 - back
        layers = layers_at(base, state, row % heads, at + row, plan)
        ends = layers_at(grads.base, grads.state, row, row * 2 + back % 2, plan)
        starts = layers_at(grads.base, grads.state, row, row * 2 + (back + 1) % 2, plan)
        here = (layers, ends, starts)
        wanted = (grads, by_tokens, by_scalars)
        _chunk_backward(at, here, scratch, (tokens, scalars), wanted, plan)
        tl.debug_barrier()
        if back == 0:
            _add_previous(starts, grads.previous, row, plan)
            tl.debug_barrier()


@triton.jit
def _add_previous(starts, previous, row, plan: tl.constexpr):
    """Add the gradients by the weights at the last chunk's start."""
    _base1, _base2, weights1, _momentum1, weights2, _momentum2 = starts
    matrix: tl.constexpr = plan.width * plan.hidden
    d = tl.arange(0, plan.block_width)
    for first in range(0, plan.hidden, plan.block_hidden):
        h = first + tl.arange(0, plan.block_hidden)
        one = load_tile(weights1, d, h, plan.width, plan.hidden)
        one += load_tile(previous.first + row * matrix, d, h, plan.width, plan.hidden)
        store_tile(weights1, one, d, h, plan.width, plan.hidden)
        two = load_tile(weights2, h, d, plan.hidden, plan.width)
        two += load_tile(previous.second + row * matrix, h, d, plan.hidden, plan.width)
        store_tile(weights2, two, h, d, plan.hidden, plan.width)


@triton.jit
def _chunk_backward(at, here, scratch, given, wanted, plan: tl.constexpr):
    """Write one chunk's gradients, and those by the state at its start."""
    layers, ends, _starts = here
    tokens, scalars = given
    grads, by_tokens, by_scalars = wanted
    c = tl.arange(0, plan.block_chunk)
    masks = at * plan.chunk * plan.chunk
    vectors = scalars.vectors + at * plan.vectors * plan.chunk
    by_vectors = by_scalars.vectors + at * plan.vectors * plan.chunk
    places = (vectors, by_vectors, by_scalars.mix + masks)
    q, k, out, loss = load_chunk(at, tokens, grads, plan)
    v = load_rows(tokens.v, at, plan).to(plan.state)
    mix = load_tile(scalars.mix + masks, c, c, plan.chunk, plan.chunk)

    errors, alike, squares = answer_keys(k, v, layers, plan)
    slopes = errors_of_changes(k, errors, layers, scratch, plan)
    first = _measure(k, slopes, load_vector(vectors, STEP, c, plan), plan)
    second = _measure(errors, squares, triangular(alike, squares, vectors, c, plan), plan)
    tl.debug_barrier()
    reach = mix * product(q, tl.trans(k), plan) * (first[0] * first[1])[None, :]
    sums = read_again((q, k), reach, layers, ends, vectors, scratch, plan)
    by_errors, by_second, by_alike = _second_read(out, errors, mix, second, sums, places, plan)
    by_errors += loss[:, None] * errors
    by_step, by_squares, by_lengths = _measure_backward(by_second, second, squares, plan)
    by_errors += 2.0 * by_lengths[:, None] * errors
    by_keys, by_norms = triangular_backward(by_step, alike, squares, vectors, by_vectors, c, plan)
    tl.debug_barrier()
    read = (q, k, out, by_alike)
    found = reads_backward(read, layers, ends, vectors, scratch, plan)
    by_q, by_k, by_slopes = _first_read(q, k, mix, first, slopes, found, places, plan)
    tl.debug_barrier()
    pair = (k, by_errors, by_k)
    pair = changes_backward(pair, reach, first, by_slopes, here, vectors, scratch, plan)
    tl.debug_barrier()
    by_hidden = (second[0] * second[1], by_squares + by_norms, by_keys)
    by_k, one = first_weights_backward(read, errors, pair, by_hidden, here, vectors, scratch, plan)
    two = second_weights_backward(out, errors, pair[0], here, vectors, scratch, plan)
    _store_decays(found, one, two, by_vectors, plan)
    store_rows(by_tokens.q, at, by_q, plan)
    store_rows(by_tokens.k, at, by_k, plan)
    store_rows(by_tokens.v, at, -pair[0], plan)


@triton.jit
def _measure(known, squares, step, plan: tl.constexpr):
    """Return a layer's steps, the bound's shares of them, and the squares of ``known``.

    A token's gradient is an outer product: ``squares`` are those of its other factor.
    """
    wide = known.to(plan.state)
    lengths = tl.sum(wide * wide, axis=1)
    share = zero_vector(plan.block_chunk, plan) + 1.0
    if plan.bounded:
        share = bound_share(lengths, squares, plan)
    return step, share, lengths


@triton.jit
def _measure_backward(grad, measure, squares, plan: tl.constexpr):
    """Return the gradients by step, by ``squares`` and by the squares of what is known."""
    step, share, lengths = measure
    by_squares = tl.zeros_like(grad)
    by_lengths = tl.zeros_like(grad)
    if plan.bounded:
        by_lengths, by_squares = bound_backward(grad * step, lengths, squares, plan)
    return grad * share, by_squares, by_lengths


@triton.jit
def _second_read(out, errors, mix, measure, sums, places, plan: tl.constexpr):
    """Go back through the second layer's read of the chunk, and its write to the state.

    Returns the gradients by errors, by the steps times the shares, and by the products of
    hidden queries and keys.
    """
    vectors, by_vectors, by_mix = places
    alike, to_weights, to_momentum = sums
    c = tl.arange(0, plan.block_chunk)
    step = measure[0] * measure[1]
    mix_last = load_vector(vectors, MIX_LAST, c, plan)[:, None]
    decay_last = load_vector(vectors, DECAY_LAST, c, plan)[:, None]
    reach = -product(out, tl.trans(errors), plan)
    grad = tl.where(c[:, None] >= c[None, :], reach * alike * step[None, :], 0.0)
    store_tile(by_mix, grad, c, c, plan.chunk, plan.chunk)
    wrote = mix_last * to_weights + decay_last * to_momentum
    by_step = tl.sum(reach * mix * alike, axis=0) - tl.sum(errors * wrote, axis=1)
    by_errors = -product(tl.trans(mix * alike * step[None, :]), out, plan)
    by_errors -= step[:, None] * wrote
    store_vector(by_vectors, MIX_LAST, -step * tl.sum(errors * to_weights, axis=1), c, plan)
    store_vector(by_vectors, DECAY_LAST, -step * tl.sum(errors * to_momentum, axis=1), c, plan)
    return by_errors, by_step, reach * mix * step[None, :]


@triton.jit
def _first_read(q, k, mix, measure, slopes, found, places, plan: tl.constexpr):
    """Go back through the first layer's read of the chunk, its write, and its steps.

    Adds to what the second layer has stored; returns the gradients by queries and keys, and
    by the squares of the errors.
    """
    vectors, by_vectors, by_mix = places
    reach, by_q, _keep, _carry, to_weights, to_momentum = found
    c = tl.arange(0, plan.block_chunk)
    step = measure[0] * measure[1]
    alike = product(q, tl.trans(k), plan)
    grad = tl.where(c[:, None] >= c[None, :], reach * alike * step[None, :], 0.0)
    grad += load_tile(by_mix, c, c, plan.chunk, plan.chunk)
    store_tile(by_mix, grad, c, c, plan.chunk, plan.chunk)
    mix_last = load_vector(by_vectors, MIX_LAST, c, plan) - step * to_weights
    decay_last = load_vector(by_vectors, DECAY_LAST, c, plan) - step * to_momentum
    store_vector(by_vectors, MIX_LAST, mix_last, c, plan)
    store_vector(by_vectors, DECAY_LAST, decay_last, c, plan)
    wrote = load_vector(vectors, MIX_LAST, c, plan) * to_weights
    wrote += load_vector(vectors, DECAY_LAST, c, plan) * to_momentum
    by_step = tl.sum(reach * mix * alike, axis=0) - wrote
    by_step, by_slopes, by_lengths = _measure_backward(by_step, measure, slopes, plan)
    store_vector(by_vectors, STEP, by_step, c, plan)
    by_alike = reach * mix * step[None, :]
    by_k = product(tl.trans(by_alike), q, plan) + 2.0 * by_lengths[:, None] * k.to(plan.state)
    return by_q + product(by_alike, k, plan), by_k, by_slopes


@triton.jit
def _store_decays(found, one, two, by_vectors, plan: tl.constexpr):
    """Store the gradients by what decays the carried state of both layers."""
    c = tl.arange(0, plan.block_chunk)
    last = c == plan.chunk - 1
    by_keep = found[2] + tl.where(last, one[0] + two[0], 0.0)
    by_carry = found[3] + tl.where(last, one[1] + two[1], 0.0)
    store_vector(by_vectors, KEEP, by_keep, c, plan)
    store_vector(by_vectors, CARRY, by_carry, c, plan)
    store_vector(by_vectors, MOMENTUM, tl.where(last, one[2] + two[2], 0.0), c, plan)
