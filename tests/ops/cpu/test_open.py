"""A stream read token by token: what an open chunk keeps is what the general form computes."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from titans_seq import NeuralMemory
from titans_seq.exceptions import DataError
from titans_seq.nn import memory as layer
from titans_seq.nn.rules import RULES, LearningRule
from titans_seq.nn.state import MemoryState
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.rules.rule import UpdateRule

pytestmark = pytest.mark.skipif(
    kernels.library() is None, reason="the package was installed without a C compiler"
)

DIM, BATCH, TIME = 24, 3, 19

CASES = {
    "linear": {"depth": 1, "chunk_size": 4},
    "two layers": {"depth": 2, "chunk_size": 7, "expansion": 1.7},
    "four layers": {"depth": 4, "chunk_size": 5, "expansion": 3.0},
    "a chunk of one": {"depth": 2, "chunk_size": 1},
    "a chunk never ends": {"depth": 2, "chunk_size": 64},
    "one head": {"depth": 2, "chunk_size": 4, "heads": 1},
    "exact": {"depth": 1, "chunk_size": 5, "rule": "titans-exact"},
    "gated delta": {"depth": 1, "chunk_size": 5, "rule": "gated-delta"},
    "plain steps": {
        "chunk_size": 4,
        "rule": LearningRule(
            name="plain",
            update=UpdateRule(
                step="mean", activation="gelu", gradient_bound=None, forget_to="zero"
            ),
            momentum=False,
            forgetting=False,
        ),
    },
}  # fmt: skip


def _memory(dtype: torch.dtype = torch.float64, **settings: object) -> NeuralMemory:
    torch.manual_seed(0)
    chosen = {"heads": 2, "chunk_size": 4} | settings
    memory = NeuralMemory(DIM, **chosen).to(dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        for one in memory.parameters():
            one.add_(0.05 * torch.randn_like(one))
    return memory


def _tokens(time: int = TIME, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, time, DIM, generator=generator, dtype=torch.float64)


def _stream(
    memory: NeuralMemory, tokens: Tensor, state: MemoryState | None = None
) -> tuple[Tensor, MemoryState, Tensor]:
    """Read tokens one by one."""
    outputs, losses = [], []
    with torch.no_grad():
        for token in tokens.split(1, dim=1):
            out, state, loss = memory(token, state, return_surprise=True)
            outputs.append(out)
            losses.append(loss)
    assert state is not None
    return torch.cat(outputs, 1), state, torch.cat(losses, 1)


def _generally(
    memory: NeuralMemory, tokens: Tensor, state: MemoryState | None = None
) -> tuple[Tensor, MemoryState, Tensor]:
    """Read tokens by the form that is not compiled."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(layer, "read_token", lambda *_: None)
        patch.setattr("titans_seq.ops.cpu.library.library", lambda: None)
        return memory(tokens, state, return_surprise=True)


def _alike(one: MemoryState, other: MemoryState, tolerance: float = 1e-10) -> None:
    ours, theirs = dict(one.leaves()), dict(other.leaves())
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, str):
            assert value == theirs[name]
        else:
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=tolerance, msg=name)


def _middle() -> tuple[NeuralMemory, MemoryState]:
    """Return a memory, and a state that stands two tokens into its second chunk of four."""
    memory = _memory(depth=2)
    state = _stream(memory, _tokens(6))[1]
    assert state.chunk is not None
    assert state.chunk.length == 2
    return memory, state


@pytest.mark.parametrize("name", CASES)
def test_token_by_token_gives_what_the_general_form_gives_at_once(name: str) -> None:
    memory = _memory(**CASES[name])
    whole, after, losses = _generally(memory, _tokens())
    outputs, state, surprise = _stream(memory, _tokens())
    torch.testing.assert_close(outputs, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(surprise, losses, rtol=0, atol=1e-10)
    _alike(state, after)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cut", [1, 5, 12])
def test_goes_on_from_a_state_that_a_whole_pass_left(name: str, cut: int) -> None:
    memory, tokens = _memory(**CASES[name]), _tokens()
    whole, after, _ = _generally(memory, tokens)
    with torch.no_grad():
        _, state = memory(tokens[:, :cut])
    outputs, state, _ = _stream(memory, tokens[:, cut:], state)
    torch.testing.assert_close(outputs, whole[:, cut:], rtol=0, atol=1e-10)
    _alike(state, after)


def test_single_precision_stays_close_over_many_chunks() -> None:
    memory, tokens = _memory(torch.float32, depth=2, chunk_size=16), _tokens(400).float()
    whole, after, _ = _generally(memory, tokens)
    outputs, state, _ = _stream(memory, tokens)
    torch.testing.assert_close(outputs, whole, rtol=0, atol=2e-4)
    _alike(state, after, 2e-4)


def test_one_token_calls_take_the_compiled_form() -> None:
    memory = _memory()
    assert _stream(memory, _tokens(5))[1].chunk is not None
    ttt = _memory(rule=RULES["ttt"])
    assert _stream(ttt, _tokens(5))[1].chunk is None


def test_a_state_has_two_futures() -> None:
    memory, state = _middle()
    futures = [_tokens(5, seed) for seed in (2, 3)]
    mixed = [_stream(memory, one, state) for one in futures]
    for future, (outputs, after, _) in zip(futures, mixed, strict=True):
        whole, wanted, _ = _generally(memory, torch.cat([_tokens(6), future], dim=1))
        torch.testing.assert_close(outputs, whole[:, 6:], rtol=0, atol=1e-10)
        _alike(after, wanted)
    _alike(state, _generally(memory, _tokens(6))[1])


def test_futures_that_take_turns_do_not_meet() -> None:
    memory, state = _middle()
    tokens = [_tokens(4, seed) for seed in (2, 3, 4)]
    states = [state] * 3
    for time in range(4):
        for branch, one in enumerate(tokens):
            states[branch] = _stream(memory, one[:, time : time + 1], states[branch])[1]
    for branch, one in zip(states, tokens, strict=True):
        _alike(branch, _generally(memory, torch.cat([_tokens(6), one], dim=1))[1])


def test_threads_go_on_from_one_state_at_once() -> None:
    memory, state = _middle()
    wanted = [_generally(memory, torch.cat([_tokens(6), _tokens(5, s)], 1))[1] for s in range(8)]
    found: dict[int, MemoryState] = {}
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        barrier.wait()
        found[seed] = _stream(memory, _tokens(5, seed), state)[1]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for seed, after in enumerate(wanted):
        _alike(found[seed], after)


def test_copies_and_files_hold_the_same_numbers(tmp_path: Path) -> None:
    memory, state = _middle()
    wanted = _generally(memory, _tokens(6))[1]
    _middle()[1].save(tmp_path / "state")
    twins = {
        "deepcopy": copy.deepcopy(_middle()[1]),
        "copy": copy.copy(_middle()[1]),
        "pickle": pickle.loads(pickle.dumps(_middle()[1])),
        "clone": _middle()[1].clone(),
        "detach": _middle()[1].detach(),
        "file": MemoryState.load(tmp_path / "state"),
    }
    for twin in twins.values():
        _alike(twin, wanted)
        assert twin.equals(state)
        assert state.equals(twin)
        outputs, after, _ = _stream(memory, _tokens(3, 2), twin)
        whole, rest, _ = _generally(memory, torch.cat([_tokens(6), _tokens(3, 2)], dim=1))
        torch.testing.assert_close(outputs, whole[:, 6:], rtol=0, atol=1e-10)
        _alike(after, rest)


def test_a_saved_stream_goes_on_exactly_as_its_copy(tmp_path: Path) -> None:
    memory, state = _middle()
    state.save(tmp_path / "state")
    ours = _stream(memory, _tokens(5, 2), state)
    theirs = _stream(memory, _tokens(5, 2), MemoryState.load(tmp_path / "state"))
    assert torch.equal(ours[0], theirs[0])
    assert ours[1].equals(theirs[1])


def test_looking_at_a_state_computes_it_once_and_changes_no_number() -> None:
    memory, state = _middle()
    unseen = _stream(memory, _tokens(5, 2), _middle()[1])
    assert state.carry is state.carry
    assert state.chunk is None
    seen = _stream(memory, _tokens(5, 2), state)
    torch.testing.assert_close(seen[0], unseen[0], rtol=0, atol=1e-10)
    _alike(seen[1], unseen[1])


def test_what_is_written_into_a_state_is_gone_on_from() -> None:
    memory, state = _middle()
    cleared = _middle()[1].clone()
    for one in (state, cleared):
        for weights in (*one.carry.weights, *one.carry.momentum):
            weights.zero_()
    ours, theirs = (_stream(memory, _tokens(3, 2), one) for one in (state, cleared))
    assert torch.equal(ours[0], theirs[0])


def test_its_size_is_constant_and_asking_computes_nothing() -> None:
    memory, state, sizes = _memory(depth=2), None, set()
    with torch.no_grad():
        for token in _tokens().split(1, dim=1):
            _, state = memory(token, state)
            sizes.add(state.nbytes)
            assert state.chunk is not None
    assert state is not None
    sizes.add(sum(one.numel() * one.element_size() for one in state.tensors()))
    assert len(sizes) == 1


def test_gradients_may_be_asked_for_inside_the_chunk() -> None:
    memory, state = _middle()
    rest = _tokens(3, 2).requires_grad_()
    out, after = memory(rest, state)
    assert all(one.requires_grad for one in (out, *after.carry.weights))
    wanted = _generally(memory, _tokens(6))[1]
    expected, _ = memory(rest, wanted)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    ours, theirs = (torch.autograd.grad(one.sum(), rest)[0] for one in (out, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_a_state_that_asks_for_gradients_is_read_without_them() -> None:
    memory = _memory(depth=2)
    _, state = memory(_tokens(6))
    assert state.carry.weights[0].requires_grad
    outputs, after, _ = _stream(memory, _tokens(3, 2), state)
    assert not any(one.requires_grad for one in (outputs, *after.tensors()))


def test_several_tokens_follow_single_ones() -> None:
    memory, state = _middle()
    with torch.no_grad():
        out, after = memory(_tokens(9, 2), state)
    whole, wanted, _ = _generally(memory, torch.cat([_tokens(6), _tokens(9, 2)], dim=1))
    torch.testing.assert_close(out, whole[:, 6:], rtol=0, atol=1e-10)
    _alike(after, wanted)


def test_rows_part_ways_inside_the_chunk() -> None:
    memory, state = _middle()
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, True]])
    tokens = _tokens(3, 2)
    with torch.no_grad():
        out, after = memory(tokens, state, mask)
        for row in range(BATCH):
            real = torch.cat([_tokens(6)[row], tokens[row][mask[row]]]).unsqueeze(0)
            alone, _, _ = _generally(memory, real)
            torch.testing.assert_close(out[row][mask[row]], alone[0, 6:], rtol=0, atol=1e-10)
        assert isinstance(after.position, Tensor)
        _, after = memory(_tokens(1, 3), after)
    assert after.chunk is None


def test_another_type_goes_on_from_the_same_numbers() -> None:
    memory, state = _middle()
    narrow = _stream(memory.float(), _tokens(3, 2).float(), state.to(dtype=torch.float32))
    wide = _stream(_memory(depth=2), _tokens(3, 2), state)
    torch.testing.assert_close(narrow[0].double(), wide[0], rtol=0, atol=1e-5)
    assert {one.dtype for one in narrow[1].tensors() if one.is_floating_point()} == {torch.float32}


def test_parameters_may_change_between_two_tokens() -> None:
    memory, state = _middle()
    twin, other = _memory(depth=2), _generally(memory, _tokens(6))[1]
    for one in (memory, twin):
        with torch.no_grad():
            one.start[1].mul_(1.5)
        one.norm = torch.nn.Parameter(one.norm.detach() * 2)
    ours, after, _ = _stream(memory, _tokens(1, 2), state)
    theirs, wanted, _ = _generally(twin, _tokens(1, 2), other)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    _alike(after, wanted)


def test_a_watched_part_is_still_called() -> None:
    memory, state = _middle()
    seen: list[Tensor] = []
    memory.gates.register_forward_hook(lambda _module, _given, rates: seen.append(rates.step))
    _stream(memory, _tokens(2, 2), state)
    assert len(seen) == 2


@pytest.mark.parametrize("part", ["project", "gate", "out"])
def test_every_projection_may_be_watched_or_have_a_bias(part: str) -> None:
    memory, state = _middle()
    twin, other = _memory(depth=2), _generally(memory, _tokens(6))[1]
    for one in (memory, twin):
        linear = getattr(one, part)
        linear.bias = torch.nn.Parameter(torch.full_like(linear.weight[:, 0], 0.1))
        getattr(one, part).register_forward_hook(lambda _module, _given, out: out * 1.5)
    ours, after, _ = _stream(memory, _tokens(2, 2), state)
    theirs, wanted, _ = _generally(twin, _tokens(2, 2), other)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    _alike(after, wanted)


def test_tokens_of_another_width_are_refused() -> None:
    memory, state = _middle()
    with torch.no_grad(), pytest.raises(DataError, match=r"expected \(batch, time, 24\)"):
        memory(torch.zeros(BATCH, 1, DIM - 1, dtype=torch.float64), state)


def test_tokens_may_lie_anyhow_in_memory() -> None:
    memory, state = _middle()
    tokens = _tokens(8, 2)
    scattered = tokens.transpose(0, 2).contiguous().transpose(0, 2)[:, 3:4]
    for strided in (tokens[:, 3:4], scattered):
        out = _stream(memory, strided, state)[0]
        torch.testing.assert_close(
            out, _stream(memory, tokens[:, 3:4].contiguous(), state)[0], rtol=0, atol=1e-12
        )


def test_reads_under_inference_mode_and_goes_on_outside() -> None:
    memory = _memory(depth=2)
    state = None
    with torch.inference_mode():
        for token in _tokens(6).split(1, dim=1):
            _, state = memory(token, state)
    assert state is not None
    _alike(_stream(memory, _tokens(3, 2), state)[1],
           _stream(memory, _tokens(3, 2), _middle()[1])[1])  # fmt: skip


def test_a_state_inside_a_chunk_of_another_size_is_refused() -> None:
    _, state = _middle()
    other = _memory(depth=2, chunk_size=3)
    with torch.no_grad(), pytest.raises(DataError, match="only after a multiple of both"):
        other(_tokens(1, 2), state)


def test_a_state_between_chunks_goes_on_in_chunks_of_another_size() -> None:
    memory, other = _memory(depth=2), _memory(depth=2, chunk_size=3)
    state = _stream(memory, _tokens(12))[1]
    out, after, _ = _stream(other, _tokens(7, 2), state)
    expected, general, _ = _generally(other, _tokens(7, 2), state)
    assert after.chunk_size == 3
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    _alike(after, general)
