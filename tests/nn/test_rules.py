"""Every named rule in a layer: gradients, precision, long streams, and impossible choices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.exceptions import ConfigError
from titans_seq.nn.rules import RULES, LearningRule
from titans_seq.ops.memory import learn_and_read
from titans_seq.ops.rules.bias import Huber
from titans_seq.ops.rules.boundary import Orthogonalise
from titans_seq.ops.rules.retention import NormRetention
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule

DEPTHS = [
    (name, depth)
    for name, rule in RULES.items()
    for depth in ((1,) if rule.update.gradient_point == "token" else (1, 2))
]


def _inputs(name: str, time: int, dim: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return queries, keys, values, keep, momentum and step, for one head and sequence."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, time, dim, generator=generator, dtype=torch.float64)
    q, k = (one / one.norm(dim=-1, keepdim=True) for one in (q, k))
    keep, momentum, step = torch.rand(3, 1, 1, time, generator=generator, dtype=torch.float64)
    if not RULES[name].momentum:
        momentum = torch.zeros_like(momentum)
    return [one.to(dtype) for one in (q, k, v, 0.9 + 0.1 * keep, momentum, step)]


def _read(
    name: str, depth: int, inputs: tuple[Tensor, ...], chunk: int, start: list[Tensor]
) -> Tensor:
    q, k, v, keep, momentum, step = inputs
    rule, width = RULES[name].update, q.shape[-1]
    norm = None
    if rule.residual_norm:
        norm = OutputNorm(q.new_ones(1, width), q.new_zeros(1, width))
    rates = Rates(keep.log(), momentum.log(), step, torch.ones_like(step))
    layers = tuple(start[:depth])
    return learn_and_read(q, k, v, rates, layers, None, rule, chunk_size=chunk, norm=norm)[0]


def _start(dim: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 1, dim, dim, generator=generator, dtype=torch.float64)
    return list((weights * dim**-0.5).to(dtype))


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_gradients_are_right_once_and_twice(name: str, depth: int) -> None:
    inputs, start = _inputs(name, 4, 3), _start(3)
    # a momentum of 0 has a log whose derivative is not finite: it stays out
    leaves = [0, 1, 2, 3, 5] if not RULES[name].momentum else [0, 1, 2, 3, 4, 5]

    def read(first: Tensor, *some: Tensor) -> Tensor:
        full = list(inputs)
        for place, one in zip(leaves, some, strict=True):
            full[place] = one
        return _read(name, depth, tuple(full), 3, [first, *start[1:]])

    asked = [one.clone().requires_grad_() for one in (start[0], *(inputs[i] for i in leaves))]
    assert torch.autograd.gradcheck(read, asked, fast_mode=True)
    assert torch.autograd.gradgradcheck(read, asked, fast_mode=True)


@pytest.mark.parametrize("chunk", [8, 64])
@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_half_precision_inputs_change_little(name: str, depth: int, chunk: int) -> None:
    inputs, start = _inputs(name, 200, 16), _start(16)
    right = _read(name, depth, tuple(inputs), chunk, start)
    q, k, v, *rates = (one.float() for one in inputs)
    halves = (q.bfloat16(), k.bfloat16(), v.bfloat16(), *rates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = _read(name, depth, halves, chunk, [one.float() for one in start])
    assert (out.double() - right).abs().max() < 1e-2 * right.abs().max()


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_a_layer_in_autocast_keeps_a_float32_state(name: str, depth: int) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(32, heads=2, depth=depth, chunk_size=8, rule=name)
    x = torch.randn(2, 100, 32)
    right, _ = memory.double()(x.double())
    memory.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = memory(x)
        y.float().square().sum().backward()
    assert {one.dtype for one in state.carry.weights} == {torch.float32}
    # the projections of the layer are in bfloat16 too
    error = (y.double() - right).norm() / right.norm()
    assert error < 1e-2
    assert all(one.grad is not None and one.grad.isfinite().all() for one in memory.parameters())


def _stream(kind: str, time: int) -> Tensor:
    noise = torch.randn(1, time, 16, generator=torch.Generator().manual_seed(2))
    if kind == "one token":
        return noise[:, :1].expand_as(noise)
    if kind == "sixteen tokens":
        return noise[:, :16].repeat(1, time // 16, 1)
    return noise * (1e12 if kind == "absurd" else 1.0)


@pytest.mark.parametrize("kind", ["noise", "one token", "absurd"])
@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_long_streams_stay_finite(name: str, depth: int, kind: str) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(16, heads=1, depth=depth, rule=name)
    with torch.inference_mode():
        y, state = memory(_stream(kind, 10_000))
    assert y.isfinite().all()
    assert all(one.isfinite().all() for one in state.tensors())
    assert max(one.abs().max() for one in state.carry.weights) < 100


@pytest.mark.parametrize("kind", ["noise", "one token", "sixteen tokens"])
@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_gradients_through_a_thousand_tokens_do_not_explode(
    name: str, depth: int, kind: str
) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(16, heads=1, depth=depth, rule=name)
    y, _ = memory(_stream(kind, 1024))
    y.square().mean().backward()
    assert max(one.grad.abs().max() for one in memory.parameters()) < 10


@pytest.mark.parametrize("variant", ["lmm", "mac", "mag", "mal"])
@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_a_backbone_streams_every_rule(name: str, depth: int, variant: str) -> None:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=8, heads=2, layers=1, variant=variant, rule=name, memory_depth=depth,
        segment_len=3, window=3, chunk_size=4, persistent_tokens=2,
    )  # fmt: skip
    backbone = TitansBackbone(config).double()
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    whole, _ = backbone(x)
    parts, state = [], None
    for piece in x.split([1, 4, 6], 1):
        y, state = backbone(piece, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("update", "momentum", "match"),
    [
        ({"gradient_point": "token", "bias": Huber()}, True, "squared error"),
        ({"gradient_point": "token", "schedule": "mean"}, True, "momentum schedule"),
        ({"gradient_point": "token", "residual_norm": True}, True, "excludes residual_norm"),
        ({"schedule": "mean", "window": 2}, True, "mean schedule excludes"),
        ({"retention": NormRetention()}, True, "a retention excludes momentum"),
        (
            {"retention": NormRetention(), "boundary": Orthogonalise()},
            False,
            "a retention excludes momentum and a boundary",
        ),
        ({"window": 0}, True, "window=0 is at least 1"),
    ],
)
def test_refuses_rules_that_no_form_computes(
    update: dict[str, object], momentum: bool, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        LearningRule(name="mine", update=UpdateRule(**update), momentum=momentum)  # type: ignore[arg-type]


def test_every_rule_stands_under_its_name_and_says_where_it_is_from() -> None:
    for name, rule in RULES.items():
        assert rule.name == name
        assert "arXiv" in rule.source
