"""Two processes are one with the doubled batch: the same weights, losses and predictions."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from titans_seq.exceptions import ConfigError, DeviceError
from titans_seq.training import distributed, pick_device, world
from titans_seq.training.batches import shard_batch
from titans_seq.training.ranks import World, in_world, single_process

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("several.py")

TOLERANCE = {
    "mean": 1e-12,
    "seen": 1e-12,
    "forecaster": 1e-9,
    "classifier": 1e-5,
    "language": 1e-5,
}
"""Relative and absolute: the first three are trained in float64, the others in float32."""


@pytest.fixture(scope="module")
def several() -> Any:
    spec = importlib.util.spec_from_file_location("several", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Path]:
    """What two processes come to, the first of them, and where."""
    out = tmp_path_factory.mktemp("two")
    answer = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(WORKER), str(out)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return load_file(out / "0.safetensors"), out


def test_two_processes_come_to_the_model_of_one_with_the_doubled_batch(
    several: Any, two: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    expected = several.all_trainings(2, tmp_path / "language")
    whole = {name: value for name, value in two[0].items() if not name.startswith("shares/")}
    shares = {
        name.removeprefix("shares/"): value
        for name, value in two[0].items() if name.startswith("shares/")
    }  # fmt: skip
    assert whole.keys() == expected.keys()
    _compare(whole, expected)
    assert {name.partition("/")[0] for name in shares} == {"seen", "forecaster"}
    _compare(shares, {name: expected[name] for name in shares})


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        tolerance = TOLERANCE[name.partition("/")[0]]
        torch.testing.assert_close(
            found[name], value, rtol=tolerance, atol=tolerance, equal_nan=True,
            msg=lambda text, n=name: f"{n}: {text}",
        )  # fmt: skip


def test_both_processes_hold_the_same_model(two: tuple[dict[str, Tensor], Path]) -> None:
    first, out = two
    second = load_file(out / "1.safetensors")
    for name, value in first.items():
        assert torch.equal(value.nan_to_num(), second[name].nan_to_num()), name


def test_only_the_first_process_writes_files(two: tuple[dict[str, Tensor], Path]) -> None:
    names = {path.name for path in two[1].iterdir()}
    assert names == {"0.safetensors", "1.safetensors", "language", "checkpoints", "shares"}
    assert [path.name for path in (two[1] / "checkpoints").iterdir()] == ["training-1.safetensors"]


LEAVE = """
import time
from pathlib import Path
from titans_seq.training import process_group
from titans_seq.training.ranks import World

def threads():
    # Counted, not told by their names: one is there before it has named itself.
    return len(list(Path("/proc/self/task").iterdir()))

alone = threads()
process_group._init_process_group(World())
within = threads()
import torch.distributed.nn  # as training does
process_group._destroy_process_group()
until = time.monotonic() + 10
while threads() > alone and time.monotonic() < until:
    time.sleep(0.01)
print(alone, within, threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed by /proc")
def test_no_thread_outlives_the_group() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    answer = subprocess.run(
        [sys.executable, "-c", LEAVE], env=os.environ | place,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    alone, within, after = map(int, answer.stdout.split())
    assert within > alone
    assert after <= alone


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 16])
def test_every_row_is_dealt_once_and_both_halves_alike(rows: int, size: int) -> None:
    batch = {"row": torch.arange(rows), "pair": (torch.arange(rows), "word")}
    shares = [shard_batch(batch, World(rank, size)) for rank in range(size)]
    own = [share.batch["row"].tolist() for share in shares if share.rows]
    assert sorted(row for part in own for row in part) == list(range(rows))
    assert sum(share.rows for share in shares) == rows
    half = -(-rows // 2)
    for share in (share for share in shares if share.rows):
        first = share.batch["row"][: -(-share.rows // 2)]
        assert (first < half).all()
        assert torch.equal(share.batch["pair"][0], share.batch["row"])
    for share in (share for share in shares if not share.rows):
        assert len(share.batch["row"]) == 1


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with distributed() as mine:
        assert mine == world() == World()


def test_alone_a_process_keeps_its_rank_and_its_device() -> None:
    with in_world(World(3, 4, 1, 2)), single_process():
        assert world() == World(3, 1, 1, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"nodes": 2, "devices": 4}, "torchrun --nnodes 2 --nproc-per-node 4"),
        ({"devices": 0}, "devices must be a positive integer, got 0"),
        ({"strategy": "dpp"}, "strategy must be one of auto, ddp, fsdp, got 'dpp'"),
    ],
)
def test_what_cannot_be_started_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message), distributed(**words):
        pass


def test_numbers_that_the_launcher_did_not_start_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
             "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # fmt: skip
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"devices must be 2, .*; got 3"), distributed(devices=3):
        pass
    with pytest.raises(ConfigError, match=r"nodes must be 2, .*; got 1"), distributed(nodes=1):
        pass


def test_several_processes_cannot_share_one_device() -> None:
    from titans_seq.training.trainer import trainer_arguments

    with pytest.raises(DeviceError, match="cuda:1"):
        trainer_arguments(World(0, 2, 0, 2), torch.device("cuda:1"))
    with pytest.raises(DeviceError, match="cpu or cuda"):
        trainer_arguments(World(0, 2, 0, 2), torch.device("mps"))
    with in_world(World(1, 2, 1, 2)), pytest.raises(DeviceError, match="cuda:1"):
        pick_device("cuda")
