"""What bases are worth: exact where the network is simple, and found where it is planted."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor, explain
from titans_seq.dna.learning.network import BRANCHES
from titans_seq.dna.plots import plot_logo
from titans_seq.exceptions import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("brief_start_of_module")

TINY: dict[str, Any] = {"dim": 8, "layers": 1, "max_epochs": 3, "batch_size": 16, "random_state": 0}


def sequences(count: int = 80) -> tuple[list[str], list[str]]:
    draw = random.Random(0)
    labels = ["motif" if i % 2 else "other" for i in range(count)]
    found = []
    for label in labels:
        letters = draw.choices("ACGT", k=48)
        letters[20:26] = "TATAAA" if label == "motif" else draw.choices("ACG", k=6)
        found.append("".join(letters))
    return found, labels


@pytest.fixture(scope="module")
def fitted() -> TitansDNAClassifier:
    return TitansDNAClassifier(**TINY | {"max_epochs": 8, "dim": 16}).fit(*sequences())


def only(reader: str, **changes: Any) -> TitansDNAClassifier:
    """Return a classifier whose answer is that of one reader, with weights that are not zero."""
    classifier = TitansDNAClassifier(**TINY | {"max_epochs": 1} | changes).fit(*sequences(16))
    network = classifier.network_
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.mixing.copy_(torch.tensor([float(name == reader) for name in BRANCHES]))
        for table in (network.words.table, network.places.start, network.places.end):
            table.copy_(torch.randn(table.shape, generator=generator))
    return classifier


def test_mutagenesis_is_the_change_of_the_score(fitted: TitansDNAClassifier) -> None:
    text = sequences(2)[0][1]
    (found,) = explain(fitted, [text], target="motif", region=(21, 24))
    assert found.sequence == text[20:24]
    assert found.start == 20
    before = fitted.decision_function([text])[0] * (1 if fitted.classes_[1] == "motif" else -1)
    for place in range(20, 24):
        for base, letter in enumerate("ACGT"):
            mutant = text[:place] + letter + text[place + 1 :]
            score = fitted.decision_function([mutant])[0]
            score *= 1 if fitted.classes_[1] == "motif" else -1
            assert found.changes is not None
            assert found.changes[place - 20, base] == pytest.approx(score - before, abs=1e-4)


@pytest.mark.parametrize("method", ["mutagenesis", "gradient"])
def test_a_planted_motif_is_found(fitted: TitansDNAClassifier, method: Any) -> None:
    texts = sequences(120)[0][81::2]  # those that it was not trained on
    found = explain(fitted, texts, method=method, target="motif")
    worth = np.mean([one.importance for one in found], axis=0)
    assert worth[20:26].mean() > 4 * np.abs(np.delete(worth, range(20, 26))).mean()
    assert worth[20:26].mean() > 0


@pytest.mark.parametrize("reader", ["words", "places"])
@pytest.mark.parametrize("strands", ["none", "average", "equivariant"])
def test_slopes_are_exact_where_the_score_is_linear_in_each_letter(
    reader: str, strands: Any
) -> None:
    classifier = only(reader, reverse_complement=strands)
    text = sequences(1)[0]
    (measured,) = explain(classifier, text, target="motif")
    (slope,) = explain(classifier, text, method="gradient", target="motif")
    assert measured.changes is not None
    assert np.abs(measured.changes).max() > 0.1
    np.testing.assert_allclose(slope.changes, measured.changes, atol=2e-4)
    np.testing.assert_allclose(slope.importance, measured.importance, atol=2e-4)


def test_an_ambiguous_letter_is_worth_its_share() -> None:
    classifier = only("places")
    text = "ACGTN" + sequences(1)[0][0][5:]
    (found,) = explain(classifier, [text], target="motif")
    assert found.changes is not None
    assert found.changes[4].sum() == pytest.approx(0, abs=1e-5)
    assert found.importance[4] == pytest.approx(0, abs=1e-5)
    assert (found.changes[:4] == 0).sum() == 4


@pytest.mark.parametrize("variant", ["mag", "mac", "mal", "lmm"])
def test_surprise_is_the_inner_loss_of_the_memories(variant: Any) -> None:
    classifier = TitansDNAClassifier(**TINY | {"variant": variant, "layers": 2, "max_epochs": 1})
    classifier.fit(*sequences(16))
    text = "ACGGT" * 50
    (found,) = explain(classifier, [text], method="surprise")
    assert found.importance.shape == (250,)
    assert (found.importance >= 0).all()
    assert found.importance.max() > 0
    assert found.changes is None
    stride = classifier.network_.titans.tokens.stride
    assert len(set(found.importance[:stride])) == 1
    (part,) = explain(classifier, [text], method="surprise", region=(13, 40))
    np.testing.assert_array_equal(part.importance, found.importance[12:40])
    (other,) = explain(classifier, [text[:120] + "A" * 130], method="surprise")
    np.testing.assert_allclose(other.importance[:108], found.importance[:108], rtol=1e-4)
    assert np.abs(other.importance[130:] - found.importance[130:]).max() > 1e-6


def test_values_are_explained_in_their_own_units() -> None:
    texts = [text[: 20 + i % 20] for i, text in enumerate(sequences(60)[0])]
    regressor = TitansDNARegressor(**TINY).fit(texts, [1000.0 * len(text) for text in texts])
    (found,) = explain(regressor, texts[:1])
    assert found.target == 0
    text = texts[0]
    mutant = ("A" if text[0] != "A" else "C") + text[1:]
    change = regressor.predict([mutant])[0] - regressor.predict([text])[0]
    assert found.changes is not None
    assert found.changes[0, "ACGT".index(mutant[0])] == pytest.approx(change, rel=1e-3, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"method": "guess"}, ConfigError, "method must be one of mutagenesis"),
        ({"target": "exon"}, ConfigError, "target must be one of motif, other, got 'exon'"),
        ({"region": (0, 3)}, ConfigError, "region must be 1 <= first <= last, got 0-3"),
        ({"region": (60, 80)}, DataError, "sequence 0 has 48 letters and ends before 60-80"),
    ],
)
def test_what_cannot_be_explained_is_named(
    fitted: TitansDNAClassifier, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        explain(fitted, sequences(2)[0], **changes)


def test_without_a_memory_there_is_no_surprise() -> None:
    classifier = TitansDNAClassifier(**TINY | {"variant": "attention", "max_epochs": 1})
    with pytest.raises(ConfigError, match="variant='attention' has no memory"):
        explain(classifier.fit(*sequences(16)), ["ACGT"], method="surprise")


@pytest.mark.parametrize("letters", [1, 48, 150, 1500])
def test_a_logo_has_a_letter_for_each_base(
    fitted: TitansDNAClassifier, tmp_path: Path, letters: int
) -> None:
    text = (sequences(1)[0][0] * 40)[:letters]
    (found,) = explain(fitted, [text[:-1] + "N"], method="gradient")
    figure = plot_logo(found, tmp_path / "logo.png", title="a record")
    assert (tmp_path / "logo.png").stat().st_size > 2000
    assert len(figure.axes) == {1: 1, 48: 1, 150: 2, 1500: 1}[letters]
    if letters < 1000:
        assert sum(len(axes.patches) for axes in figure.axes) >= letters - 1
