"""Pre-training learns, goes on where it was cut off, and gives the classifier a beginning."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from titans_seq.bundles import load_bundle
from titans_seq.dna import (
    LanguageConfig,
    PretrainSettings,
    TitansDNAClassifier,
    TitansDNARegressor,
    pretrain,
)
from titans_seq.dna.alphabet import encode, reverse_complement
from titans_seq.dna.learning.pretraining import (
    held_out_batches,
    scored_bases,
    split_corpus,
    window_batches,
)
from titans_seq.exceptions import BundleError, ConfigError, DataError
from titans_seq.training.task import Task

TINY = LanguageConfig(dim=8, layers=1, heads=2, motifs=8, context=6, dropout=0.1)
SHORT = PretrainSettings(window=64, batch_size=4, steps=6, check_every=2)


def genome(letters: int, seed: int = 0) -> str:
    """Random words of a small vocabulary: there is something to learn."""
    draw = random.Random(seed)
    return "".join(draw.choice(["ATTGCA", "GGC", "TACCAT"]) for _ in range(letters // 3))[:letters]


def test_windows_are_held_out_whole_and_the_same_each_time() -> None:
    rows = [encode(genome(9000, seed)) for seed in range(3)]
    corpus = split_corpus(rows, 64, 0.1, seed=0)
    again = split_corpus(rows, 64, 0.1, seed=0)
    assert [one.tobytes() for one in corpus.validation] == [
        one.tobytes() for one in again.validation
    ]
    assert sum(map(len, corpus.validation)) + corpus.letters > 0.99 * sum(map(len, rows))
    assert 0.05 < sum(map(len, corpus.validation)) / sum(map(len, rows)) < 0.2
    assert max(map(len, corpus.validation)) == 64
    with pytest.raises(DataError, match="too few letters"):
        split_corpus([encode("ACGT" * 9)], 64, 0.1, seed=0)


@pytest.mark.parametrize("share", [None, 0.2])
def test_an_epoch_depends_on_its_number_alone(share: float | None) -> None:
    learn = split_corpus([encode(genome(4000))], 64, 0.1, seed=0).train
    make = lambda: window_batches(  # noqa: E731
        learn, window=64, batch_size=4, batches=3, seed=1, mask_share=share
    )
    straight, resumed = make(), make()
    epochs = [list(straight) for _ in range(3)]
    resumed.epoch = 2
    for one, other in zip(epochs[2], resumed, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(epochs[0][0]["targets"], epochs[1][0]["targets"])
    batch = epochs[0][0]
    asked = batch["scored"]
    hidden = batch["codes"] != batch["targets"]
    assert torch.equal(hidden, asked if share else torch.zeros_like(asked))
    strands = {row.tobytes() for one in learn for row in (one, reverse_complement(one))}
    assert all(any(row.numpy().tobytes() in s for s in strands) for row in batch["targets"])


def test_held_windows_say_which_letters_are_asked_for() -> None:
    rows = [encode(genome(40)), encode(genome(50, 1))]
    windows = held_out_batches(rows, 2, 0.3)
    assert sorted(len(row) for row, _ in scored_bases(windows)) == [40, 50]
    batch = next(iter(windows))
    assert int(batch["scored"].sum()) == sum(int(asked.sum()) for _, asked in scored_bases(windows))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["next", "masked"])
def test_it_learns_what_is_there_to_learn(objective: str, tmp_path: Path) -> None:
    config = LanguageConfig(dim=16, layers=1, heads=2, motifs=16, objective=objective)
    settings = PretrainSettings(window=128, batch_size=8, steps=60, check_every=60)
    found = pretrain([genome(40_000)], tmp_path / "model", config=config, settings=settings)
    assert found.perplexity < 3
    assert json.loads((tmp_path / "model" / "metrics.json").read_text())["perplexity"] == (
        pytest.approx(found.perplexity)
    )
    assert not (tmp_path / "model.checkpoints").exists()


def test_what_was_cut_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [genome(6000)]
    whole = pretrain(rows, tmp_path / "whole", config=TINY, settings=SHORT)
    close = Task._close_epoch

    def cut(task: Task, loss: float | None) -> None:
        if task.epoch == 2:
            raise KeyboardInterrupt
        close(task, loss)

    monkeypatch.setattr(Task, "_close_epoch", cut)
    folder = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        pretrain(rows, folder, config=TINY, settings=SHORT)
    monkeypatch.undo()
    assert not folder.exists()
    names = {path.name for path in (tmp_path / "model.checkpoints").iterdir()}
    assert names == {"training-1.safetensors"}
    with pytest.raises(ConfigError, match="contains an interrupted training: resume it"):
        pretrain(rows, folder, config=TINY, settings=SHORT)
    other = PretrainSettings(window=64, batch_size=4, steps=8, check_every=2)
    with pytest.raises(ConfigError, match=r"settings\.steps was '6', now it is '8'"):
        pretrain(rows, folder, config=TINY, settings=other, resume=True)
    resumed = pretrain(rows, folder, config=TINY, settings=SHORT, resume=True)
    assert resumed.perplexity == whole.perplexity
    for one, two in zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    assert [epoch.train_loss for epoch in resumed.history.epochs] == [
        epoch.train_loss for epoch in whole.history.epochs
    ]
    assert not (tmp_path / "model.checkpoints").exists()
    with pytest.raises(BundleError, match="exists already"):
        pretrain(rows, folder, config=TINY, settings=SHORT)


def test_a_damaged_checkpoint_is_refused_and_can_be_left(tmp_path: Path) -> None:
    folder = tmp_path / "model.checkpoints"
    folder.mkdir()
    (folder / "training-1.safetensors").write_text("half")
    with pytest.raises(ConfigError, match=r"training-1\.safetensors is damaged"):
        pretrain([genome(6000)], tmp_path / "model", config=TINY, settings=SHORT, resume=True)
    pretrain([genome(6000)], tmp_path / "model", config=TINY, settings=SHORT, force=True)
    assert (tmp_path / "model" / "card.md").is_file()


@pytest.mark.slow
def test_estimators_begin_with_what_was_learnt(tmp_path: Path) -> None:
    config = LanguageConfig(dim=8, layers=1)
    pretrain([genome(6000)], tmp_path / "model", config=config, settings=SHORT)
    tensors = load_bundle(tmp_path / "model", "titans-dna-pretrained").tensors
    sizes: dict[str, Any] = {"dim": 8, "layers": 1, "max_epochs": 1, "learning_rate": 1e-9}
    sequences, labels = [genome(60, seed) for seed in range(8)], ["a", "b"] * 4
    classifier = TitansDNAClassifier(**sizes, init=tmp_path / "model", random_state=0)
    classifier.fit(sequences, labels)
    found = classifier.network_.titans.state_dict()
    for name, value in tensors.items():
        if name.startswith(("tokens.", "backbone.")):
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)
    classifier.save(tmp_path / "fitted")
    assert TitansDNAClassifier.load(tmp_path / "fitted").init == str(tmp_path / "model")
    TitansDNARegressor(**sizes, init=str(tmp_path / "model")).fit(sequences, np.arange(8.0))
    with pytest.raises(ConfigError, match=r"was pre-trained with dim=8, layers=1: set the same"):
        TitansDNAClassifier(max_epochs=1, init=tmp_path / "model").fit(sequences, labels)
    with pytest.raises(BundleError, match="is a model of kind"):
        TitansDNAClassifier(**sizes, init=tmp_path / "fitted").fit(sequences, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 8}, "window must be at least 32, got 8"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"mask_share": 1.0}, "mask_share must be between 0 and 1, got 1.0"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainSettings(**changes)
