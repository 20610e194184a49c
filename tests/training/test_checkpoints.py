"""A training that is stopped anywhere and goes on is the training that was never stopped."""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from titans_seq.exceptions import ConfigError, DivergedError
from titans_seq.training import History, TrainSettings, at_most, checkpointing, seeded, train
from titans_seq.training import saver as saver_module

Batch = dict[str, Tensor]


class Killed(BaseException):
    """Stands for ``kill -9``: nobody catches it."""


class Shuffled:
    """Six batches an epoch, in an order that its generator draws anew."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(6, 5, 3, generator=generator)
        self.all = [{"x": x, "y": x[:, 0] * x[:, 1]} for x in inputs]
        self.generator = np.random.default_rng(7)

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Batch]:
        for number in self.generator.permutation(len(self.all)):
            yield self.all[number]


class Run:
    """One training whose loss can be told to fail at its n-th call."""

    def __init__(self, fail_at: int | None = None, failure: BaseException | None = None) -> None:
        self.calls = 0
        self.fail_at = fail_at
        self.failure = failure or Killed()
        with seeded(0):
            self.network = nn.Sequential(
                nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1)
            )

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.failure
        return (network(batch["x"])[:, 0] - batch["y"]).square().mean()

    def __call__(self, **changes: object) -> History:
        settings = {"max_epochs": 4, "learning_rate": 0.05, "average_weights": True, **changes}
        return train(
            self.network,
            self.loss,
            Shuffled(),
            validation=Shuffled().all[:2],
            settings=TrainSettings(**settings),
            seed=3,
        )


def _weights(run: Run) -> dict[str, Tensor]:
    return dict(run.network.state_dict())


def _same(left: Run, right: Run) -> bool:
    return all(torch.equal(value, _weights(right)[name]) for name, value in _weights(left).items())


def _losses(history: History) -> list[tuple[float, float | None]]:
    return [(record.train_loss, record.validation_loss) for record in history.epochs]


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("fail_at", [1, 2, 6, 7, 8, 9, 17, 31, 32])
def test_stopped_anywhere_it_comes_to_the_same_bits(
    fail_at: int, every: float, tmp_path: Path
) -> None:
    whole = Run()
    expected = whole()
    with pytest.raises(Killed), checkpointing(tmp_path, every=every):
        Run(fail_at)()
    again = Run()
    with checkpointing(tmp_path, every=every, resume=True):
        found = again()
    assert _same(again, whole)
    assert _losses(found) == _losses(expected)
    assert (found.best_epoch, found.steps, found.stopped_by) == (
        expected.best_epoch, expected.steps, expected.stopped_by,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fail_at", [20, 26])
def test_patience_does_not_forget_what_it_waits_for(fail_at: int, tmp_path: Path) -> None:
    changes = {"max_epochs": 20, "patience": 3, "min_improvement": 0.1}
    whole, again = Run(), Run()
    expected = whole(**changes)
    assert expected.stopped_by == "patience"
    assert expected.best_epoch > len(expected.epochs) - 3  # better since, but not markedly
    with pytest.raises(Killed), checkpointing(tmp_path, every=0):
        Run(fail_at)(**changes)
    with checkpointing(tmp_path, resume=True):
        found = again(**changes)
    assert _losses(found) == _losses(expected)
    assert _same(again, whole)


def test_it_may_be_stopped_again_and_again(tmp_path: Path) -> None:
    whole = Run()
    whole()
    stops = 0
    while True:
        run = Run(fail_at=4)
        try:
            with checkpointing(tmp_path, every=0, resume=True):
                run()
        except Killed:
            stops += 1
            continue
        break
    assert stops > 5
    assert _same(run, whole)


def test_what_is_finished_is_not_trained_again(tmp_path: Path) -> None:
    first, second, again, other = Run(), Run(fail_at=3), Run(), Run()
    with pytest.raises(Killed), checkpointing(tmp_path):
        first()
        second(max_epochs=2)
    with checkpointing(tmp_path, resume=True):
        history = again()
        other(max_epochs=2)
    assert again.calls == 0
    assert history.steps == 24
    assert _same(again, first)
    assert other.calls > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_leaves_a_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    whole, run, again = Run(), Run(), Run()
    whole()
    plain = run.loss

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        if run.calls == 3:
            os.kill(os.getpid(), number)
        return plain(network, batch)

    run.loss = loss  # type: ignore[method-assign]
    before = signal.getsignal(number)
    with (
        pytest.raises(KeyboardInterrupt, match=f"a checkpoint was written to {tmp_path}"),
        checkpointing(tmp_path),
    ):
        run()
    assert signal.getsignal(number) is before
    assert run.calls == 4
    with checkpointing(tmp_path, resume=True):
        again()
    assert _same(again, whole)
    assert again.calls == whole.calls - 4


def test_where_nothing_is_trained_a_signal_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), checkpointing(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not heard")


def test_without_resume_a_checkpoint_is_of_no_account(tmp_path: Path) -> None:
    whole, run = Run(), Run()
    whole()
    with pytest.raises(Killed), checkpointing(tmp_path, every=0):
        Run(9)()
    with checkpointing(tmp_path):
        run()
    assert run.calls == whole.calls


@pytest.mark.parametrize(
    ("changes", "about", "message"),
    [
        ({"learning_rate": 0.1}, {}, r"learning_rate was 0.05, now it is 0.1; resume with"),
        ({"max_epochs": 5}, {}, "max_epochs was 4, now it is 5"),
        ({}, {"data": "b"}, "data was 'a', now it is 'b'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    changes: dict[str, object], about: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(Killed), checkpointing(tmp_path, every=0, about={"data": "a"}):
        Run(9)()
    with (
        pytest.raises(ConfigError, match=message),
        checkpointing(tmp_path, resume=True, about={"data": "a", **about}),
    ):
        Run()(**changes)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed), checkpointing(tmp_path, every=0):
        Run(9)()
    path = tmp_path / "training-1.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with (
        pytest.raises(ConfigError, match=r"training-1.safetensors is damaged .* start again"),
        checkpointing(tmp_path, resume=True),
    ):
        Run()()


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    rest = tmp_path / ".0123abcd.training-1.safetensors"
    rest.write_text("half")
    with checkpointing(tmp_path, resume=True):
        pass
    assert not rest.exists()


def test_a_full_disk_is_told_by_name_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    write = saver_module.write_state

    def full(path: Path, state: saver_module.TrainingState) -> None:
        nonlocal written
        written += 1
        if written > 4:
            monkeypatch.setattr(os, "fsync", _no_space)
        write(path, state)

    monkeypatch.setattr(saver_module, "write_state", full)
    whole, again = Run(), Run()
    with pytest.raises(OSError, match="No space left") as caught, checkpointing(tmp_path, every=0):
        Run()()
    assert str(tmp_path / "training-1.safetensors") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["training-1.safetensors"]
    monkeypatch.undo()
    whole()
    with checkpointing(tmp_path, resume=True):
        again()
    assert _same(again, whole)
    assert again.calls == whole.calls - 4


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_divergence_says_where_the_last_good_checkpoint_is(tmp_path: Path) -> None:
    run = Run()
    plain = run.loss

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        return plain(network, batch) * (math.nan if run.calls == 9 else 1.0)

    run.loss = loss  # type: ignore[method-assign]
    path = tmp_path / "training-1.safetensors"
    with (
        pytest.raises(DivergedError, match=f"the last good checkpoint is {path}"),
        checkpointing(tmp_path, every=0),
    ):
        run()
    tensors, facts = saver_module.read_state(path)
    assert facts["steps"] > 0
    assert all(value.isfinite().all() for value in tensors.values())


def test_listeners_hear_of_every_epoch_the_last_one_too(tmp_path: Path) -> None:
    heard: list[int] = []
    with checkpointing(tmp_path, listen=lambda records: heard.append(len(records))):
        Run()()
    assert heard == [1, 2, 3, 4]


def test_steps_can_be_bounded_from_outside() -> None:
    with at_most(5):
        assert Run()().steps == 5


def test_a_file_is_no_folder_of_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="taken is a file"), checkpointing(tmp_path / "taken"):
        pass
