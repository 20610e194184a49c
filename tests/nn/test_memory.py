"""The memory as a layer: states, masks, surprise, and what users do with a module."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from titans_seq import NeuralMemory
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.nn.state import MemoryState

RULES = [
    ("titans", 1),
    ("titans", 2),
    ("titans", 3),
    ("titans-exact", 1),
    ("ttt", 2),
    ("gated-delta", 1),
    ("yaad", 2),
    ("moneta", 2),
    ("omega", 2),
    ("muon", 1),
    ("muon", 2),
]


def _memory(rule: str = "titans", depth: int = 2) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, depth=depth, chunk_size=4, rule=rule).double()


def _tokens(batch: int, time: int) -> Tensor:
    return torch.randn(batch, time, 8, generator=torch.Generator().manual_seed(1)).double()


def _same_state(one: MemoryState, other: MemoryState) -> None:
    for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", [[13], [1] * 13, [4, 4, 5], [3, 9, 1]])
@pytest.mark.parametrize(("rule", "depth"), RULES)
def test_any_split_gives_the_same_outputs_surprise_and_state(
    rule: str, depth: int, sizes: list[int]
) -> None:
    memory, x = _memory(rule, depth), _tokens(2, 13)
    whole, state, surprise = memory(x, return_surprise=True)
    parts, surprises, carried = [], [], None
    for piece in x.split(sizes, 1):
        y, carried, s = memory(piece, carried, return_surprise=True)
        parts.append(y)
        surprises.append(s)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat(surprises, 1), surprise, rtol=1e-10, atol=1e-10)
    _same_state(carried, state)


@pytest.mark.parametrize(("rule", "depth"), RULES)
def test_masked_tokens_are_as_if_absent(rule: str, depth: int) -> None:
    memory, x = _memory(rule, depth), _tokens(3, 20)
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[1] = True
    mask[2, 3:] = False
    rubbish = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, 1e3))
    y, state = memory(rubbish, mask=mask)
    assert (y[~mask] == 0).all()
    more, _ = memory(_tokens(3, 9), state)
    for row in range(3):
        alone, own = memory(x[row : row + 1, mask[row]])
        torch.testing.assert_close(y[row, mask[row]], alone[0], rtol=1e-10, atol=1e-10)
        goes_on, _ = memory(_tokens(3, 9)[row : row + 1], own)
        torch.testing.assert_close(more[row], goes_on[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rule", "depth"), RULES)
def test_later_tokens_change_nothing_before_them(rule: str, depth: int) -> None:
    memory, x = _memory(rule, depth), _tokens(1, 12)
    changed = x.clone()
    changed[:, 7:] += 1
    before, after = memory(x)[0], memory(changed)[0]
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_the_state_does_not_grow() -> None:
    memory = _memory()
    _, short = memory(_tokens(1, 5))
    _, long = memory(_tokens(1, 500))
    assert short.nbytes == long.nbytes > 0


def test_a_state_is_cloned_cut_off_and_cast() -> None:
    memory = _memory()
    _, state = memory(_tokens(1, 5))
    cut = state.detach()
    assert not any(one.requires_grad for one in cut.tensors())
    clone = cut.clone()
    clone.carry.weights[0].zero_()
    assert cut.carry.weights[0].abs().sum() > 0
    single = cut.to(dtype=torch.float32)
    assert single.carry.weights[0].dtype == torch.float32
    assert single.position == 5


@pytest.mark.parametrize(("rule", "depth"), RULES)
def test_reads_the_same_without_autograd(rule: str, depth: int) -> None:
    memory, x = _memory(rule, depth), _tokens(2, 9)
    with torch.inference_mode():
        quiet, _ = memory(x)
    torch.testing.assert_close(quiet.clone(), memory(x)[0].detach())


@pytest.mark.parametrize(("rule", "depth"), RULES)
def test_every_parameter_gets_a_gradient(rule: str, depth: int) -> None:
    memory = _memory(rule, depth)
    memory(_tokens(2, 9))[0].square().sum().backward()
    missing = [n for n, p in memory.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


def test_what_was_stored_surprises_less() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(16, heads=1, depth=2, chunk_size=8)
    pattern = torch.randn(1, 8, 16)
    _, _, surprise = memory(pattern.repeat(1, 6, 1), return_surprise=True)
    rounds = surprise.reshape(6, 8).mean(1)
    assert rounds[-1] < 0.5 * rounds[0]


def test_copies_and_pickles() -> None:
    memory, x = _memory(), _tokens(1, 6)
    memory(x)
    for twin in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        torch.testing.assert_close(twin(x)[0], memory(x)[0])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"heads": 3}, "dim=8 cannot be shared among heads=3"),
        ({"rule": "titan"}, "did you mean 'titans'"),
        ({"rule": "titans-exact", "depth": 2}, "depth=2 must be 1"),
        ({"depth": 5}, "1 to 4 layers"),
        ({"chunk_size": 0}, "chunk_size=0"),
    ],
)
def test_refuses_what_cannot_be_built(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        NeuralMemory(8, **settings)  # type: ignore[arg-type]


def test_refuses_a_mask_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"mask is \(batch, time\) = \(2, 5\)"):
        _memory()(_tokens(2, 5), mask=torch.ones(2, 4, dtype=torch.bool))
