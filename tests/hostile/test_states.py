"""States that do not fit: refused in one clear line, or read on from as the general form does.

Every case is made from its number alone. ``TITANS_SEQ_HOSTILE_CASES`` sets how many are tried;
``make fuzz`` tries thousands, and ``make sanitize`` runs them with the compiled code checked.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS
from titans_seq.exceptions import TitansSeqError
from titans_seq.nn import memory as layer
from titans_seq.nn.rules import RULES
from titans_seq.nn.state import MemoryState, StackState, State
from titans_seq.ops.state import Carry

CASES = int(os.environ.get("TITANS_SEQ_HOSTILE_CASES", "100"))

LINEAR = {"titans-exact", "gated-delta"}
"""Rules that only a linear memory can learn by."""

Module = NeuralMemory | TitansBackbone
Settings = dict[str, Any]


def _settings(chance: random.Random) -> Settings:
    rule = chance.choice(sorted(RULES))
    return {
        "kind": chance.choice([*VARIANTS, "memory", "memory", "memory"]),
        "rule": rule,
        "depth": 1 if rule in LINEAR else chance.choice([1, 2, 3]),
        "heads": chance.choice([1, 2]),
        "width": chance.choice([3, 4, 8]),
        "chunk_size": chance.choice([1, 2, 3, 4, 8, 16]),
        "window": chance.choice([3, 5]),
        "segment_len": chance.choice([4, 6]),
        "persistent": chance.choice([0, 2]),
        "layers": chance.choice([1, 2]),
        "dtype": torch.float64,
        "batch": chance.choice([1, 2, 3]),
    }


def _module(settings: Settings) -> Module:
    torch.manual_seed(0)
    dim = settings["heads"] * settings["width"]
    shared = {name: settings[name] for name in ("heads", "chunk_size", "rule")}
    module: Module
    if settings["kind"] == "memory":
        module = NeuralMemory(dim, depth=settings["depth"], **shared)
    else:
        config = TitansConfig(
            dim=dim, variant=settings["kind"], layers=settings["layers"],
            memory_depth=settings["depth"], window=settings["window"],
            segment_len=settings["segment_len"], persistent_tokens=settings["persistent"],
            **shared,
        )  # fmt: skip
        module = TitansBackbone(config)
    return module.to(settings["dtype"]).eval()


def _tokens(settings: Settings, time: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dim = settings["heads"] * settings["width"]
    tokens = torch.randn(settings["batch"], time, dim, generator=generator, dtype=torch.float64)
    return tokens.to(settings["dtype"])


def _read(
    module: Module, tokens: Tensor, state: Any, form: str, mask: Tensor | None = None
) -> tuple[Tensor, Any]:
    """Read tokens by one of the forms that compute a memory."""
    if form == "single tokens":
        outputs = []
        with torch.no_grad():
            for token in tokens.split(1, dim=1):
                out, state = module(token, state)
                outputs.append(out)
        return torch.cat(outputs, dim=1), state
    if form == "masked":
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        mask[0, tokens.shape[1] // 2] = False
    with pytest.MonkeyPatch.context() as patch, torch.set_grad_enabled(form == "gradients"):
        if form == "general":
            patch.setattr(layer, "read_token", lambda *_: None)
            patch.setattr("titans_seq.ops.cpu.library.library", lambda: None)
        out, after = module(tokens, state, mask)
        return out, after


FORMS = ("whole", "single tokens", "gradients", "masked", "general")


def _state(settings: Settings, chance: random.Random) -> Any:
    """Return what a module of these settings knows after some tokens."""
    module = _module(settings)
    time = chance.choice([1, 3, 4, 5, 8, 12, 16, 17, 48])
    tokens = _tokens(settings, time, 1)
    mask = None
    if chance.random() < 0.2 and settings["batch"] > 1:
        mask = torch.arange(time) < torch.full((settings["batch"], 1), time)
        mask[0, time // 2 :] = False
    form = "whole" if mask is not None else chance.choice(["whole", "single tokens"])
    return _read(module, tokens, None, form, mask)[1]


def _other(settings: Settings, chance: random.Random) -> Settings:
    """Return the settings with one or two of them drawn again."""
    drawn = _settings(chance) | {"dtype": chance.choice([torch.float64, torch.float32])}
    changed = chance.sample(sorted(drawn), chance.choice([1, 1, 2]))
    other = settings | {name: drawn[name] for name in changed}
    return other | {"depth": 1} if other["rule"] in LINEAR else other


def _changed(value: Any, chance: random.Random, odds: float) -> Any:
    """Return nested records with some of their values replaced by others."""
    if isinstance(value, State) or hasattr(value, "_fields"):
        names = getattr(value, "_fields", None) or [
            field.name for field in dataclasses.fields(value)
        ]
        items = {name: _changed(getattr(value, name), chance, odds) for name in names}
        return type(value)(**items)
    if isinstance(value, tuple):
        items = [_changed(item, chance, odds) for item in value]
        if items and chance.random() < odds / 2:
            chance.choice([items.pop, items.reverse, lambda: items.append(items[0])])()
        return tuple(items)
    return _replaced(value, chance) if chance.random() < odds else value


def _replaced(value: Any, chance: random.Random) -> Any:
    """Return another value in the place of a tensor or a number."""
    if not isinstance(value, Tensor):
        return chance.choice([0, 1, 2, 3, 7, -1, 10**9, 2**62, True, None, "1", 2.5, "titans"])
    changes: list[Callable[[], Any]] = [
        lambda: value[:0], lambda: value[..., :-1], lambda: value[1:], lambda: value.flatten(),
        lambda: value.transpose(0, 1), lambda: torch.cat([value, value]), lambda: value.sum(),
        lambda: value.unsqueeze(0), lambda: value.expand(2, *value.shape), lambda: None,
        value.int, value.float, value.half, value.bool, lambda: 3, lambda: value.to("meta"),
    ]  # fmt: skip
    try:
        return chance.choice(changes)()
    except (IndexError, RuntimeError):  # some need more dimensions
        return None


def _check_one_line(refusal: TitansSeqError, case: str) -> None:
    assert len(str(refusal).splitlines()) == 1, case
    assert len(str(refusal)) < 500, case


def _outcome(
    settings: Settings, state: Any, chance: random.Random, case: str
) -> tuple[Tensor, Any] | None:
    """Read on from a state; ``None`` if it was refused in one line."""
    module, form = _module(settings), chance.choice(FORMS)
    tokens = _tokens(settings, chance.choice([1, 2, 5, 40]), 2)
    try:
        out, after = _read(module, tokens, state, form)
    except TitansSeqError as refusal:
        _check_one_line(refusal, case)
        return None
    # whatever is not refused gives what the general form gives
    mask = None
    if form == "masked":
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        mask[0, tokens.shape[1] // 2] = False
    expected, general = _read(module, tokens, state, "general", mask)
    close = {"rtol": 0, "atol": 1e-9} if settings["dtype"] == torch.float64 else {}
    torch.testing.assert_close(out, expected, **close, msg=case)  # type: ignore[arg-type]
    # slots of a state that nothing reads may differ: what the states go on to read may not
    following = _tokens(settings, 6, 3)
    mine, theirs = (_read(module, following, found, "whole")[0] for found in (after, general))
    torch.testing.assert_close(mine, theirs, **close, msg=case)  # type: ignore[arg-type]
    assert out.isfinite().all(), case
    return out, after


@pytest.mark.parametrize("number", range(CASES))
def test_the_state_of_another_module_is_refused_or_read_rightly(number: int) -> None:
    chance = random.Random(number)
    settings = _settings(chance)
    state, other = _state(settings, chance), _other(settings, chance)
    if settings["kind"] == "attention" and other["kind"] == "attention":
        other["chunk_size"] = settings["chunk_size"]
    read = _outcome(other, state, chance, f"{settings} read by {other}")
    needed = ("kind", "heads", "width", "depth", "batch", "dtype", "layers")
    if any(settings[name] != other[name] for name in needed[:-1]):
        # two modules may differ in name only: a bare memory and a backbone never do
        same_sizes = settings["kind"] == other["kind"] and settings["kind"] == "attention"
        assert read is None or same_sizes, f"{settings} read by {other}"


@pytest.mark.parametrize("number", range(CASES))
def test_a_crafted_state_is_refused_or_read_rightly(number: int) -> None:
    chance = random.Random(f"crafted {number}")
    settings = _settings(chance)
    state = _state(settings, chance)
    try:
        crafted = _changed(state, chance, 0.15)
    except TypeError:
        return
    _outcome(settings, crafted, chance, f"{settings}")


def _rewritten(path: Path, chance: random.Random) -> None:
    """Change a state's file: some bytes, or its structure or tensors, with no checksum."""
    if chance.random() < 0.4:
        contents = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 1, 3])):
            contents[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del contents[chance.randrange(len(contents)) :]
        path.write_bytes(contents)
        return
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata.pop("sha256")
    structure = json.loads(metadata["structure"])
    metadata["structure"] = json.dumps(_changed_structure(structure, chance))
    for name in chance.sample(sorted(tensors), min(len(tensors), chance.choice([0, 1, 2]))):
        changed = _replaced(tensors[name], chance)
        if isinstance(changed, Tensor) and not changed.is_meta:
            tensors[name] = changed.clone().contiguous()
    save_file(tensors, path, metadata=metadata)


def _changed_structure(value: Any, chance: random.Random) -> Any:
    """Return a state's structure with some of its names and numbers changed."""
    if isinstance(value, dict):
        return {name: _changed_structure(item, chance) for name, item in value.items()}
    if isinstance(value, list):
        items = [_changed_structure(item, chance) for item in value]
        return items[: len(items) - (chance.random() < 0.1)]
    if chance.random() < 0.05:
        return chance.choice([None, -1, 0, 3, 2**70, "Carry", "MemoryState", "state", 1.5, True])
    return value


@pytest.mark.parametrize("number", range(CASES))
def test_a_crafted_file_is_refused_or_read_rightly(number: int, tmp_path: Path) -> None:
    chance = random.Random(f"file {number}")
    settings = _settings(chance)
    _state(settings, chance).save(tmp_path / "state")
    _rewritten(tmp_path / "state", chance)
    try:
        state = State.load(tmp_path / "state")
    except TitansSeqError as refusal:
        _check_one_line(refusal, f"{settings}")
        return
    _outcome(settings, state, chance, f"{settings}")


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    settings = _settings(random.Random(0)) | {"kind": "memory", "rule": "titans"}
    state = _state(settings, random.Random(0))
    state.save(tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    chance = random.Random(1)
    for _ in range(200):
        contents = bytearray(whole)
        contents[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
        (tmp_path / "state").write_bytes(contents)
        try:
            assert MemoryState.load(tmp_path / "state").equals(state)
        except TitansSeqError:
            continue


def test_a_file_without_a_checksum_is_still_read(tmp_path: Path) -> None:
    settings = _settings(random.Random(0)) | {"kind": "memory", "rule": "titans"}
    state = _state(settings, random.Random(0))
    state.save(tmp_path / "state")
    with safe_open(tmp_path / "state", framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["sha256"]
    structure = json.loads(metadata["structure"])
    assert structure.pop("optional") == {"chunk_size": settings["chunk_size"], "rule": "titans"}
    metadata["structure"] = json.dumps(structure)
    save_file(tensors, tmp_path / "state", metadata=metadata)
    older = MemoryState.load(tmp_path / "state")
    assert older.chunk_size is None
    assert older.carry.weights[0].equal(state.carry.weights[0])
    assert _outcome(settings, older, random.Random(0), "older") is not None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_is_neither_saved_nor_loaded(
    number: float, tmp_path: Path
) -> None:
    settings = _settings(random.Random(0)) | {"kind": "memory", "rule": "titans"}
    state = _state(settings, random.Random(0))
    state.save(tmp_path / "state")
    with safe_open(tmp_path / "state", framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state.carry.weights[0].view(-1)[3] = number
    with pytest.raises(TitansSeqError, match=r"carry\.weights\.0 holds NaN or infinite"):
        state.save(tmp_path / "state")
    assert isinstance(State.load(tmp_path / "state"), MemoryState)
    tensors["state.carry.weights.0"].view(-1)[3] = number
    del metadata["sha256"]
    save_file(tensors, tmp_path / "bad", metadata=metadata)
    with pytest.raises(TitansSeqError, match=r"carry\.weights\.0 holds NaN or infinite"):
        State.load(tmp_path / "bad")


def test_layers_in_another_order_are_refused() -> None:
    settings = _settings(random.Random(0)) | {"kind": "lmm", "layers": 2}
    module = _module(settings)
    _, state = _read(module, _tokens(settings, 5, 1), None, "whole")
    with pytest.raises(TitansSeqError, match=r"state\.layers\.0 is the state of another layer"):
        module(_tokens(settings, 5, 2), StackState(state.layers[::-1]))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_state_between_chunks_changes_its_chunk_size(rule: str) -> None:
    settings = _settings(random.Random(0)) | {
        "kind": "memory", "rule": rule, "depth": 1, "chunk_size": 4, "batch": 2,
    }  # fmt: skip
    memory, other = _module(settings), _module(settings | {"chunk_size": 6})
    _, state = _read(memory, _tokens(settings, 12, 1), None, "whole")
    tokens = _tokens(settings, 9, 2)
    for form in FORMS[:3]:
        out, after = _read(other, tokens, state, form)
        # the same numbers from a state that never knew another size
        carry: Carry = state.carry
        fresh = _read(other, _tokens(settings, 12, 1), None, "whole")[1].carry
        same = fresh._replace(
            weights=carry.weights, momentum=carry.momentum, kept=carry.kept,
            anchor=carry.anchor,
        )  # fmt: skip
        expected, _ = _read(other, tokens, MemoryState(same, state.convolution, 12), form)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)
        assert after.chunk_size == 6


def test_unreadable_files_end_in_our_errors(tmp_path: Path) -> None:
    (tmp_path / "nested").write_bytes(b"")
    deep = "[" * 100_000 + "]" * 100_000
    metadata = {"format": "titans-seq state", "version": "1", "structure": deep}
    try:
        save_file({"other": torch.zeros(1)}, tmp_path / "nested", metadata=metadata)
    except SafetensorError:
        pytest.skip("safetensors does not write such a file")
    with pytest.raises(TitansSeqError, match="structure does not fit"):
        State.load(tmp_path / "nested")
