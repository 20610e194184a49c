"""What the GPU kernels take on, what they are compiled for, and where they give way to torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# Read by triton when it is imported, and by every launch after that.
os.environ["TRITON_INTERPRET"] = "1"

from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.gpu.memory import available, memory_exact_triton, supports
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import first_carry

EXACT = UpdateRule(gradient_point="token")
TITANS = UpdateRule()


def test_a_key_repeated_through_a_long_block_does_not_overflow() -> None:
    # powers of the system would grow here like binomial coefficients
    time = 64
    key = torch.ones(1, 1, time, 1)
    value = torch.linspace(-1, 1, time).reshape(1, 1, time, 1)
    rates = Rates(*(torch.full((1, 1, time), one) for one in (0.0, float("-inf"), 1.9, 1.0)))
    start = (torch.zeros(1, 1, 1),)
    carry = first_carry(start, EXACT, 1, time)
    given = (key, key, value, rates, start, carry, EXACT)
    mine, theirs = (
        form(*given, block_size=time)[0] for form in (memory_exact_triton, memory_exact)
    )
    assert mine.isfinite().all()
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_backward_kernels_save_room_in_float32_alone() -> None:
    from titans_seq.ops.gpu.host import backward_plan, make_plan

    for width, kind, hidden, precision in (
        (32, torch.float32, 32, "tf32x3"),
        (64, torch.float32, 32, "bf16x3"),
        (64, torch.bfloat16, 64, "tf32x3"),
    ):
        plan = make_plan(torch.zeros(1, 64, width, dtype=kind), torch.zeros(1, 1, 8, 64), 256)
        backward = backward_plan(plan)
        assert (backward.block_hidden, backward.precision) == (hidden, precision)


def test_a_launch_that_does_not_fit_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    from triton.runtime.errors import OutOfResources

    from titans_seq.ops.gpu.host import fits

    def launch() -> None:
        raise OutOfResources(300_000, 232_448, "shared memory")

    assert not fits(launch)
    assert "torch computes it" in caplog.text


def test_is_imported_without_triton_and_says_that_it_is_not_available() -> None:
    code = """
import sys

sys.modules["triton"] = None
from titans_seq.ops.gpu.memory import available

assert not available()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_says_what_it_supports() -> None:
    queries = torch.zeros(1, 2, 8, 4)
    norm = OutputNorm(torch.ones(2, 4), torch.zeros(2, 4))
    assert available()
    assert supports(EXACT, 1, queries, chunk_size=4)
    assert supports(TITANS, 2, queries, chunk_size=8)
    assert not supports(TITANS, 3, queries, chunk_size=4)
    assert not supports(TITANS, 2, queries, chunk_size=16), "less than a chunk"
    assert not supports(TITANS, 2, queries, chunk_size=4, norm=norm)
    assert not supports(UpdateRule(schedule="mean"), 2, queries, chunk_size=4)
    assert not supports(UpdateRule(window=2), 2, queries, chunk_size=4)
    assert not supports(TITANS, 2, torch.zeros(1, 2, 8, 256), chunk_size=4), "too wide"
    assert not supports(TITANS, 2, queries.long(), chunk_size=4)
