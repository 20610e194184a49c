"""The regressions are fitted first, and choose the strand mode and the motifs."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch

from titans_seq.dna import TitansDNAClassifier
from titans_seq.dna.alphabet import decode, encode, reverse_complement
from titans_seq.dna.learning import motifs
from titans_seq.dna.learning.batches import WeightedSequences
from titans_seq.dna.learning.fitting import fit_regression_branches
from titans_seq.dna.learning.motifs import heaviest_motifs, initialize_motifs
from titans_seq.dna.learning.network import DNANetworkConfig, TitansDNANetwork
from titans_seq.training import TrainSettings

pytestmark = pytest.mark.slow

SETTINGS = TrainSettings(max_epochs=1, learning_rate=2e-3, device="cpu")
CONFIG = DNANetworkConfig(outputs=2, places=60, variant="lmm", dim=8, layers=1, motifs=16)
MOTIF = "TGACTCAT"


def sequences(count: int, *, both: bool, anywhere: bool = True) -> tuple[list[str], list[str]]:
    """Return random DNA; every second sequence has a motif, on either strand if ``both``."""
    draw = np.random.default_rng(0)
    texts, labels = [], []
    for index in range(count):
        text = "".join(draw.choice(list("ACGT"), 60))
        at = int(draw.integers(0, 60 - len(MOTIF))) if anywhere else 20
        if index % 2 or not both:
            text = text[:at] + MOTIF + text[at + len(MOTIF) :]
        if (both and draw.random() < 0.5) or (not both and index % 2):
            text = decode(reverse_complement(encode(text)))
        texts.append(text)
        labels.append("yes" if index % 2 else "no")
    return texts, labels


def labelled(texts: list[str], labels: list[str]) -> WeightedSequences:
    targets = np.array([label == "yes" for label in labels]).astype(np.int64)
    return WeightedSequences(
        [encode(text) for text in texts], targets, np.ones(len(texts), np.float32)
    )


@pytest.fixture(scope="module")
def counted() -> TitansDNANetwork:
    """Return a network whose regressions know the motif on both strands."""
    data = labelled(*sequences(600, both=True))
    network = TitansDNANetwork(dataclasses.replace(CONFIG, strands="average"))
    held = data.subset(np.arange(500, 600))
    fit_regression_branches(network, data.subset(np.arange(500)), held, SETTINGS, seed=0)
    return network


def test_the_words_that_weigh_most_are_the_motif(counted: TitansDNANetwork) -> None:
    rows = labelled(*sequences(300, both=True)).sequences
    found = heaviest_motifs(counted, rows, 16, 11)
    text = "".join("." if base is None else "ACGT"[base] for base in found[0])
    turned = decode(reverse_complement(encode(MOTIF)))
    assert re.search(text, MOTIF) or re.search(text, turned)
    assert [3 - base if base is not None else None for base in reversed(found[0])] in found


def test_it_does_not_matter_that_one_class_comes_first(
    counted: TitansDNANetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = labelled(*sequences(300, both=True)).sequences
    without_first = [*rows[::2], *rows[1::2]]
    monkeypatch.setattr(motifs, "_MAX_SEQUENCES", 100)
    found = heaviest_motifs(counted, without_first, 16, 11)
    text = "".join("." if base is None else "ACGT"[base] for base in found[0])
    assert re.search(text, MOTIF) or re.search(text, decode(reverse_complement(encode(MOTIF))))


def test_detectors_answer_to_their_motifs(counted: TitansDNANetwork) -> None:
    rows = labelled(*sequences(300, both=True)).sequences
    planted = initialize_motifs(counted, rows)
    detect = counted.titans.tokens.detect
    for index, motif in enumerate(planted):
        pure = torch.zeros(4, 11)
        begin = (11 - len(motif)) // 2
        for place, letter in enumerate(motif):
            pure[:, begin + place] = 0.25 if letter == "N" else 0.0
            if letter != "N":
                pure["ACGT".index(letter), begin + place] = 1.0
        fits = float(((detect.weight[index] * pure).sum() + detect.bias[index]).detach())
        noise = torch.eye(4)[torch.randint(0, 4, (64, 11))].mT
        others = (detect.weight[index] * noise).sum(dim=(1, 2)) + detect.bias[index]
        assert fits > 0.5
        assert float((others > 0).float().mean()) < 0.2


def fit(texts: list[str], labels: list[str], **changes: Any) -> TitansDNAClassifier:
    tiny = {"variant": "lmm", "dim": 8, "layers": 1, "max_epochs": 1, "random_state": 0}
    return TitansDNAClassifier(**tiny | changes).fit(texts, labels)


def test_held_out_rows_choose_what_the_other_strand_is() -> None:
    same = fit(*sequences(260, both=True))
    assert same.network_.config.strands == "average"
    texts, labels = sequences(260, both=False)
    apart = fit(texts, labels)
    assert re.search(apart.motifs_[0].replace("N", "."), MOTIF) or re.search(
        apart.motifs_[0].replace("N", "."), decode(reverse_complement(encode(MOTIF)))
    )
    assert apart.network_.config.strands == "none"
    assert apart.score(texts, labels) > 0.9
    few = fit(texts[:40], labels[:40])
    assert few.network_.config.strands == "none"  # too few rows to hold any out
    assert few.get_params()["reverse_complement"] == "auto"


def test_the_network_leaves_the_simple_readers_as_they_were_fitted() -> None:
    texts, labels = sequences(240, both=True)
    short = fit(texts, labels, max_epochs=1, early_stopping=False)
    longer = fit(texts, labels, max_epochs=2, early_stopping=False)
    assert torch.equal(short.network_.words.table, longer.network_.words.table)
    assert torch.equal(short.network_.places.start, longer.network_.places.start)
    assert short.network_.words.table.abs().sum() > 0
    assert all(parameter.requires_grad for parameter in longer.network_.parameters())
    before = longer.network_.words.table.clone()
    longer.partial_fit(texts, labels)
    assert not torch.equal(before, longer.network_.words.table)
