"""What the GPU kernels take on, what they are compiled for, and where they give way to torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# Read by triton when it is imported, and by every launch after that.
os.environ["TRITON_INTERPRET"] = "1"

from titans_seq.ops.call import MemoryCall
from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.gpu.memory import available, reason_against_kernels, run_kernels
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule

EXACT = UpdateRule(gradient_point="token")
TITANS = UpdateRule()


def test_a_key_repeated_through_a_long_block_does_not_overflow() -> None:
    # powers of the system would grow here like binomial coefficients
    time = 64
    key = torch.ones(1, 1, time, 1)
    value = torch.linspace(-1, 1, time).reshape(1, 1, time, 1)
    rates = Rates(*(torch.full((1, 1, time), one) for one in (0.0, float("-inf"), 1.9, 1.0)))
    start = (torch.zeros(1, 1, 1),)
    call = MemoryCall(key, key, value, rates, start, None, EXACT, chunk_size=time)
    mine, theirs = (form(call).outputs for form in (run_kernels, memory_exact))
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


def test_a_launch_that_does_not_fit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from triton.runtime.errors import OutOfResources

    from titans_seq.ops.gpu.host import fits

    def launch() -> None:
        raise OutOfResources(300_000, 232_448, "shared memory")

    assert not fits(launch)
    assert "torch computes it" in caplog.text


@pytest.mark.slow
def test_is_imported_without_triton_and_says_that_it_is_not_available() -> None:
    code = """
import sys

sys.modules["triton"] = None
from titans_seq.ops.gpu.memory import available

assert not available()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("rule", "depth", "change", "reason"),
    [
        (EXACT, 1, {}, None),
        (TITANS, 2, {"chunk_size": 8}, None),
        (TITANS, 3, {}, "1 or 2 layers, and this one has 3"),
        (TITANS, 2, {"chunk_size": 16}, "at least one chunk of 16 tokens, and the call has 8"),
        (TITANS, 2, {"norm": OutputNorm(torch.ones(2, 4), torch.zeros(2, 4))}, "LayerNorm"),
        (UpdateRule(schedule="mean"), 2, {}, "the mean schedule"),
        (UpdateRule(window=2), 2, {}, "windows of several tokens"),
        (TITANS, 2, {"queries": torch.zeros(1, 2, 8, 256)}, "up to 128 wide, and these are 256"),
        (TITANS, 2, {"queries": torch.zeros(1, 2, 8, 4).long()}, "int64"),
    ],
)
def test_says_why_it_cannot_run_a_call(
    rule: UpdateRule, depth: int, change: dict[str, Any], reason: str | None
) -> None:
    assert available()
    tokens = torch.zeros(1, 2, 8, 4)
    start = (torch.zeros(2, 4, 4),) * depth
    rates = Rates(*(torch.zeros(1, 2, 8),) * 4)
    call = MemoryCall(tokens, tokens, tokens, rates, start, None, rule, chunk_size=4)
    found = reason_against_kernels(call._replace(**change))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found
