import gzip

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.data.locations import data_path
from titans_seq.evaluation.dna.controls import (
    NearestRow,
    classification_controls,
    score_dna_controls,
)
from titans_seq.evaluation.dna.features import kmer_features, positional_one_hot


def test_words_are_counted_as_shares_in_the_order_of_the_alphabet():
    found = kmer_features(["ACGTAC", "AAAA"], 2).toarray()
    assert found.shape == (2, 16)
    assert found[0, 1] == pytest.approx(2 / 5)  # AC
    assert found[0, 6] == pytest.approx(1 / 5)  # CG
    assert found[1].tolist() == [1] + [0] * 15


def test_a_word_with_an_unknown_letter_is_left_out_and_case_does_not_matter():
    np.testing.assert_array_equal(
        kmer_features(["ACNGT"], 2).toarray(), kmer_features(["acnnnnGT"], 2).toarray()
    )


@pytest.mark.parametrize("text", ["", "A", "NNNN"])
def test_a_sequence_without_a_word_has_none(text):
    assert kmer_features([text, "ACGT"], 3).toarray()[0].sum() == 0


def test_both_strands_count_the_same():
    forward, backward = "AACGTTTGACC", "GGTCAAACGTT"
    both = kmer_features([forward, backward], 3, canonical=True).toarray()
    np.testing.assert_allclose(both[0], both[1])
    one = kmer_features([forward, backward], 3).toarray()
    assert not np.allclose(one[0], one[1])


def test_letters_by_place_mark_one_letter_each():
    found = positional_one_hot(["ACNGG", "TTT", "A"], 3).reshape(3, 3, 4)
    assert found[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert found[1, 2].tolist() == [0, 0, 0, 1]
    assert found[2].sum() == 1


def test_length_is_a_control_where_it_varies_and_place_where_it_does_not():
    fixed = [control.name for control in classification_controls(["ACGT", "TTTT"])]
    varying = [control.name for control in classification_controls(["ACGT", "TTT"])]
    assert "length" not in fixed
    assert "letters by place" in fixed
    assert "length" in varying
    assert "letters by place" not in varying


def test_each_control_finds_what_it_can_see():
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("ACGT"), 60)) for _ in range(300)]
    labels = ["late" if number % 2 else "early" for number in range(300)]
    marked = [
        text[:-10] + "G" + text[-9:] if label == "late" else text[:-10] + "A" + text[-9:]
        for text, label in zip(texts, labels, strict=True)
    ]
    scores = score_dna_controls((marked[:200], labels[:200]), (marked[200:], labels[200:]))
    assert scores["majority"]["accuracy"] == 0.5
    assert scores["letters by place"]["accuracy"] > 0.95
    assert scores["4-letter words"]["accuracy"] < 0.8


def test_the_nearest_row_is_the_one_that_shares_most_words():
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("ACGT"), 80)) for _ in range(6)]
    control = NearestRow().fit(kmer_features(texts, 12), np.array(list("ababab")))
    parts = [texts[3][:50] + texts[0][:30], "N" * 80]
    chances = control.predict_proba(kmer_features(parts, 12))
    assert control.classes_[chances[0].argmax()] == "b"
    assert 0.5 < chances[0].max() < 1
    assert chances[1].tolist() == [0.5, 0.5]


def embedded(part):
    with gzip.open(data_path(read_card("ecoli_coding_vs_intergenic"), part), "rt") as lines:
        pairs = [(letters.strip(), header.strip().split("label=")[1])
                 for header, letters in zip(lines, lines, strict=True)]  # fmt: skip
    return tuple(map(list, zip(*pairs, strict=True)))


@pytest.mark.slow
def test_ecoli_controls_are_those_of_its_card():
    scores = score_dna_controls(embedded("train"), embedded("test"))
    for result in read_card("ecoli_coding_vs_intergenic").results:
        # Solvers differ in the last digits from one machine to the next: two records' worth.
        assert scores[result.model]["accuracy"] == pytest.approx(
            result.score("accuracy"), abs=0.002
        )


@pytest.mark.parametrize(
    ("name", "control", "accuracy"),
    [
        ("gb_regulatory_1500", "length", 0.915),
        ("yeast_cds_strand", "4-letter words", 0.874),
        ("uci_splice", "letters by place", 0.948),
        ("us_mouse_tata", "letters by place", 0.943),
        ("gb_nontata_official_test", "nearest training row", 0.954),
    ],
)
def test_known_figures_come_out(name, control, accuracy, shared_data):
    parts = [pd.read_csv(shared_data / "dna" / name / f"{part}.csv.gz")
             for part in ("train", "test")]  # fmt: skip
    train, test = [(part.iloc[:, 0].tolist(), part["label"].tolist()) for part in parts]
    scores = score_dna_controls(train, test)
    assert scores[control]["accuracy"] == pytest.approx(accuracy, abs=0.015)
