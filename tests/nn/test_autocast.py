"""Under bfloat16 autocast a layer, and a backbone, stay within a hundredth of float64.

The error is the length of the difference over the length of float64's outputs, all batches,
tokens and channels together: what the three roundings of a bfloat16 product (its two inputs and
its output, a few thousandths each) leave of an output. Single numbers near zero may be wrong by
more of themselves.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS, Variant
from titans_seq.nn.rules import RULES

LARGEST_ERROR = 1e-2

LAYERS = [
    (name, depth)
    for name, rule in RULES.items()
    for depth in (1, 2)
    if depth == 1 or rule.update.gradient_point == "chunk"
]


def _error(model: nn.Module, x: Tensor, cut: int) -> float:
    """Return the relative error of two calls, the second going on from the first's state."""
    with torch.no_grad():
        exact, _ = copy.deepcopy(model).double()(x.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            first, state = model(x[:, :cut])
            second, _ = model(x[:, cut:], state)
    y = torch.cat([first, second], dim=1).double()
    return float((y - exact).norm() / exact.norm())


@pytest.mark.parametrize("chunk", [8, 64])
@pytest.mark.parametrize(("rule", "depth"), LAYERS)
def test_a_layer_of_any_rule(rule: str, depth: int, chunk: int) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(32, heads=2, depth=depth, chunk_size=chunk, rule=rule)
    assert _error(memory, torch.randn(2, 150, 32), 83) < LARGEST_ERROR


@pytest.mark.parametrize(("dim", "layers"), [(32, 2), (64, 1)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_backbone_of_any_variant(variant: Variant, dim: int, layers: int) -> None:
    torch.manual_seed(0)
    backbone = TitansBackbone(TitansConfig(dim=dim, layers=layers, variant=variant)).eval()
    assert _error(backbone, torch.randn(2, 150, dim), 83) < LARGEST_ERROR
