from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from titans_seq.exceptions import BundleError, ConfigError, DataError
from titans_seq.language import TitansByteModel, inference
from titans_seq.language.corpus import BEGIN, random_windows, read_bytes, split_text
from titans_seq.language.needles import CUE, PASSAGE_BYTES, SECRET_LETTERS, haystacks, plant
from titans_seq.language.network import NO_TARGET, TokenNetwork, mean_nll
from titans_seq.training import mean_of

TEXT = b"".join(b"row %d of a table of squares is %d. " % (i, i * i) for i in range(300))
SMALL = {"dim": 16, "heads": 2, "window": 16, "length": 48, "batch_size": 4, "random_state": 0}


@pytest.fixture(scope="module")
def model() -> TitansByteModel:
    return TitansByteModel(steps=60, check_every=20, **SMALL).fit(TEXT)


def test_a_text_is_learnt(model: TitansByteModel) -> None:
    assert model.bits_per_byte(TEXT[-600:]) < 4.5
    assert model.history_.steps == 60
    assert [record.epoch for record in model.history_.epochs] == [1, 2, 3]


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_text_read_in_pieces_costs_what_it_costs_as_a_whole(
    model: TitansByteModel, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXT[:133]
    whole = model.surprise(text)
    assert whole.shape == (133,)
    monkeypatch.setattr(inference, "PIECE_BYTES", piece)
    np.testing.assert_allclose(model.surprise(text), whole, atol=1e-4)


def test_without_a_memory_carried_each_stretch_costs_what_it_costs_alone(
    model: TitansByteModel,
) -> None:
    text = TEXT[:133]
    alone = [model.surprise(text[at : at + 48]) for at in (0, 48, 96)]
    np.testing.assert_allclose(model.surprise(text, carry=False), np.concatenate(alone), atol=1e-4)


def test_what_is_written_is_the_likeliest_byte_after_all_before(model: TitansByteModel) -> None:
    written = model.generate(b"row 7 of", 9, temperature=0)
    text = b"row 7 of" + written
    tokens = torch.tensor([[BEGIN, *text[:-1]]])
    with torch.inference_mode():
        scores, _ = model.network_(tokens)
    assert bytes(scores[0].argmax(-1)[-9:].tolist()) == written
    drawn = [model.generate(b"", 12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_model_comes_back_from_its_folder(model: TitansByteModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = TitansByteModel.load(tmp_path / "model")
    np.testing.assert_array_equal(again.surprise(TEXT[:50]), model.surprise(TEXT[:50]))
    assert clone(again).get_params() == model.get_params()
    with pytest.raises(BundleError, match="exists already"):
        model.save(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(
        '{"format": "titans-byte-model", "version": 1, "config": {"dmi": 3}}'
    )
    with pytest.raises(BundleError, match="is damaged"):
        TitansByteModel.load(tmp_path / "model")


def test_a_file_is_read_as_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT)
    parts, same = split_text(read_bytes(tmp_path / "text")), split_text(read_bytes(TEXT))
    assert bytes(np.concatenate(parts)) == TEXT
    assert [len(part) for part in parts] == [len(part) for part in same]
    assert len(parts.test) == round(len(TEXT) * 0.05)


def test_each_sequence_counts_alike_however_much_it_is_asked(model: TitansByteModel) -> None:
    tokens = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1, 1).clone()
    targets[1, 4:] = NO_TARGET
    targets[2] = NO_TARGET
    network: TokenNetwork = model.network_
    with torch.no_grad():
        costs = -network(tokens)[0].log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])
        found = mean_of(mean_nll(network, {"tokens": tokens, "targets": targets}))
    expected = (costs[0].mean() + costs[1, :4].mean()) / 2
    torch.testing.assert_close(found, expected)


def test_the_same_epoch_holds_the_same_windows() -> None:
    words = {"length": 64, "batches": 2, "batch_size": 3, "needles": 0.5, "seed": 3}
    one, other = (random_windows(read_bytes(TEXT), **words) for _ in range(2))
    list(one)
    other.epoch = 1
    for batch, same in zip(one, other, strict=True):
        assert torch.equal(batch["targets"], same["targets"])
        asked = batch["targets"][:, :-1] != NO_TARGET
        assert torch.equal(batch["tokens"][:, 1:][asked], batch["targets"][:, :-1][asked])
        rows = asked.sum(1).tolist()
        assert set(rows) <= {63, SECRET_LETTERS}  # all of a window, or a secret's second time
        assert (batch["tokens"][:, 0] == BEGIN).all()


def test_a_secret_is_told_more_than_once_and_asked_for_from_the_second_time_on() -> None:
    draw = np.random.default_rng(0)
    times = set()
    for _ in range(50):
        window, asked = plant(np.zeros(200, np.uint8), draw)
        planted = bytes(window)
        first = planted.index(CUE)
        told = planted[first : first + PASSAGE_BYTES]
        assert planted.count(told) == planted.count(CUE)
        assert len(planted) == 200
        times.add(planted.count(CUE))
        assert bytes(window[asked]) == told[len(CUE) : -1] * (planted.count(CUE) - 1)
        assert not asked[: first + PASSAGE_BYTES].any()
    assert times == {2, 3, 4}
    text = np.zeros(100, np.uint8)
    rows = haystacks(text, 300, 4, draw)
    assert rows.shape == (4, 300 + 2 * PASSAGE_BYTES - 1)
    for row in rows:
        assert bytes(row[:PASSAGE_BYTES]) == bytes(row[-PASSAGE_BYTES + 1 :]) + b"."
    assert len({bytes(row[-SECRET_LETTERS:]) for row in rows}) == 4


class Copying(torch.nn.Module):
    """Knows every byte that was told ``gap`` bytes before."""

    def __init__(self, gap: int) -> None:
        super().__init__()
        self.gap, self.answer = gap, torch.nn.Linear(1, 1)

    def forward(self, tokens, state=None, *, keep_state=False):
        seen = tokens if state is None else torch.cat([state, tokens], dim=1)
        known = torch.nn.functional.pad(seen, (self.gap - 1, 0))[:, : seen.shape[1]]
        return torch.nn.functional.one_hot(known[:, -tokens.shape[1] :], 257).float(), seen


@pytest.mark.parametrize("gap", [5, 2048, 4091])
def test_whoever_remembers_retrieves_all(gap: int) -> None:
    rows = haystacks(read_bytes(TEXT), gap, 3, np.random.default_rng(0))
    assert inference.secret_accuracy(Copying(gap + PASSAGE_BYTES), rows) == 1.0
    assert inference.secret_accuracy(Copying(gap + PASSAGE_BYTES + 1), rows) < 0.5


@pytest.mark.parametrize(
    ("settings", "text", "error", "message"),
    [
        ({}, b"short", DataError, "has 5 bytes: at least 5,120 are needed"),
        ({}, 3, DataError, "must be bytes, the name of a file, or an array of uint8"),
        ({"steps": 0}, TEXT, ConfigError, "steps must be at least 1, got 0"),
        ({"length": 1}, TEXT, ConfigError, "length must be at least 2, got 1"),
        ({"needles": 2.0}, TEXT, ConfigError, "needles must be from 0 to 1, got 2.0"),
        ({"heads": 3}, TEXT, ConfigError, "dim must be a positive multiple of heads=3"),
    ],
)
def test_what_cannot_be_learnt_is_refused(settings, text, error, message) -> None:
    with pytest.raises(error, match=message):
        TitansByteModel(**{**SMALL, **settings}).fit(text)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="empty is empty"):
        TitansByteModel().fit(tmp_path / "empty")
