"""States that layers carry: saved and loaded exactly, moved, copied, and refused if unfit."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS
from titans_seq.exceptions import DataError
from titans_seq.nn.rules import RULES
from titans_seq.nn.state import FORMAT, MemoryState, StackState, State

DIM = 8


def _backbone(variant: str = "mac", **settings: object) -> TitansBackbone:
    torch.manual_seed(0)
    chosen = {
        "heads": 2, "segment_len": 6, "window": 5, "chunk_size": 4, "persistent_tokens": 3,
    } | settings  # fmt: skip
    config = TitansConfig(dim=DIM, variant=variant, **chosen)  # type: ignore[arg-type]
    return TitansBackbone(config).eval()


def _tokens(batch: int = 2, time: int = 9) -> Tensor:
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(1))


def _uneven(time: int = 9) -> Tensor:
    return torch.arange(time) < torch.tensor([[time], [4]])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_state_comes_back_exactly_and_goes_on(
    variant: str, masked: bool, tmp_path: Path
) -> None:
    backbone = _backbone(variant)
    _, state = backbone(_tokens(), mask=_uneven() if masked else None)
    state.save(tmp_path / "state")
    again = StackState.load(tmp_path / "state")
    assert again.equals(state)
    assert not any(one.requires_grad for one in again.tensors())
    torch.testing.assert_close(backbone(_tokens(), again)[0], backbone(_tokens(), state)[0])
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_state_of_every_rule_is_saved(rule: str, tmp_path: Path) -> None:
    memory = NeuralMemory(DIM, heads=2, depth=1, chunk_size=4, rule=rule)
    _, state = memory(_tokens())
    state.save(tmp_path / "state")
    again = MemoryState.load(tmp_path / "state")
    assert again.equals(state)
    torch.testing.assert_close(memory(_tokens(), again)[0], memory(_tokens(), state)[0])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_numbers_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    _, state = _backbone()(_tokens())
    state.to(dtype=dtype).save(tmp_path / "state")
    again = StackState.load(tmp_path / "state")
    assert {one.dtype for one in again.tensors() if one.is_floating_point()} == {dtype}


def test_a_file_is_replaced_and_its_size_does_not_grow(tmp_path: Path) -> None:
    sizes, state = [], None
    for _ in range(3):
        _, state = _backbone()(_tokens(time=12), state)
        state.save(tmp_path / "state")
        sizes.append((tmp_path / "state").stat().st_size)
    assert max(sizes) - min(sizes) < 16  # digits of the position


def test_refuses_what_is_no_state_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        State.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="text is no state file, or is damaged"):
        State.load(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights")
    with pytest.raises(DataError, match=r"weights holds no state: name a file that State\.save"):
        State.load(tmp_path / "weights")


@pytest.mark.parametrize(
    ("head", "match"),
    [
        ({"version": "2"}, "layout '2', this titans-seq reads 1"),
        ({"structure": "[}"}, "structure does not fit"),
        ({"structure": json.dumps({"tensor": "state.keys"})}, "structure does not fit"),
        ({"structure": json.dumps({"record": "Path", "fields": {}})}, "structure does not fit"),
        ({"structure": json.dumps({"record": "Carry", "fields": {"x": 1}})}, "does not fit"),
        ({"structure": "3"}, "not that of a state"),
    ],
)
def test_refuses_a_damaged_or_later_file(head: dict[str, str], match: str, tmp_path: Path) -> None:
    whole = {"format": FORMAT, "version": "1", "structure": "3"} | head
    save_file({"other": torch.zeros(1)}, tmp_path / "state", metadata=whole)
    with pytest.raises(DataError, match=match):
        State.load(tmp_path / "state")


def test_refuses_a_state_of_another_kind_than_asked_for(tmp_path: Path) -> None:
    _, state = _backbone()(_tokens())
    state.save(tmp_path / "state")
    with pytest.raises(DataError, match="holds a StackState, not a MemoryState"):
        MemoryState.load(tmp_path / "state")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_float32_state_goes_on_in_double_precision(variant: str) -> None:
    backbone = _backbone(variant)
    _, state = backbone(_tokens())
    y, _ = backbone(_tokens(), state)
    fine, after = backbone.double()(_tokens().double(), state.to(dtype=torch.float64))
    torch.testing.assert_close(fine.float(), y, rtol=1e-4, atol=1e-4)
    assert {one.dtype for one in after.tensors() if one.is_floating_point()} == {torch.float64}


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_are_equal_and_share_no_memory(variant: str) -> None:
    _, state = _backbone(variant)(_tokens())
    cut = state.detach()
    for twin in (copy.deepcopy(cut), pickle.loads(pickle.dumps(cut)), cut.clone()):
        assert twin.equals(cut)
        next(twin.tensors()).add_(1)
        assert not twin.equals(cut)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_does_not_keep_the_sequence_alive(variant: str) -> None:
    with torch.no_grad():
        short, long = (_backbone(variant)(_tokens(time=time))[1] for time in (7, 307))
    sizes = []
    for state in (short, long):
        buffer = io.BytesIO()
        torch.save(list(state.tensors()), buffer)
        sizes.append(buffer.tell())
    assert short.nbytes == long.nbytes
    assert sizes[1] <= sizes[0] + 64


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"variant": "mag", "window": 9}, r"layers\.0\.layers\.0\.keys has shape \(2, 2, 8, 4\), "
         r"expected \(2, 2, 4, 4\)"),
        ({"variant": "mag", "memory_depth": 1}, r"layers\.0\.layers\.1\.carry\.weights\.0 has"),
        ({"variant": "mag", "memory_depth": 3}, "shape"),
        ({"variant": "mag", "layers": 1}, "state has 1 layers, this backbone 2"),
        ({"variant": "mal"}, "must hold a AttentionState and a MemoryState"),
        ({"variant": "lmm"}, r"layers\.0 is a MemoryState, this layer needs a StackState"),
    ],
)  # fmt: skip
def test_a_backbone_refuses_the_state_of_another(settings: dict[str, object], match: str) -> None:
    _, state = _backbone(**settings)(_tokens())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=match):
        _backbone("mag")(_tokens(), state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_backbone_refuses_a_state_of_another_batch_or_type(variant: str) -> None:
    backbone = _backbone(variant)
    _, state = backbone(_tokens())
    with pytest.raises(DataError, match="or to a batch of another size"):
        backbone(_tokens(batch=3), state)
    with pytest.raises(DataError, match=r"is torch.float64 .* move it by state.to"):
        backbone(_tokens(), state.to(dtype=torch.float64))


def test_a_backbone_refuses_the_state_of_one_layer() -> None:
    backbone = _backbone("lmm")
    _, state = backbone(_tokens())
    with pytest.raises(DataError, match="a MemoryState, a backbone needs a StackState"):
        backbone(_tokens(), state.layers[0])


def test_states_of_other_numbers_or_kinds_are_not_equal() -> None:
    _, one = _backbone("mag")(_tokens())
    _, other = _backbone("mag")(_tokens(time=8))
    _, wide = _backbone("attention")(_tokens())
    assert one.equals(one)
    assert not one.equals(other)
    assert not one.equals(wide)
    assert not one.equals(one.to(dtype=torch.float64))
