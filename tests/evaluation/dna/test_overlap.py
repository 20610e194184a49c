import random

import numpy as np
import pytest

from titans_seq.dna.alphabet import reverse_complement_text
from titans_seq.evaluation.dna.overlap import grouped_split, overlap_groups, overlaps
from titans_seq.exceptions import DataError


def letters(count, seed):
    return "".join(random.Random(seed).choices("ACGT", k=count))


def test_rows_that_share_a_word_belong_together_on_either_strand_and_through_others():
    genome = letters(400, 0)
    rows = [
        genome[:100],
        genome[70:170],
        reverse_complement_text(genome[140:240]),
        letters(100, 1),
        "ACGT",
    ]
    groups = overlap_groups(rows)
    assert len(set(groups[:3])) == 1
    assert len(set(groups)) == 3
    assert overlap_groups([genome[:50], genome[27:77]])[0] != overlap_groups(rows)[3]
    assert len(set(overlap_groups([genome[:50], genome[27:77]]))) == 2  # 23 letters are too few


def test_rows_that_overlap_others_are_found():
    genome = letters(300, 2)
    tests = [
        genome[:60],
        letters(60, 3),
        reverse_complement_text(genome[100:160]),
        "N" * 60,
        "ACGT",
    ]
    found = overlaps(tests, [genome[30:200].lower()])
    assert found.tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_a_grouped_split_keeps_overlapping_rows_on_one_side(kind):
    genomes = [letters(130, seed) for seed in range(40)]
    rows = [genome[start : start + 60] for genome in genomes for start in (0, 30, 60)]
    draw = np.random.default_rng(0)
    y = draw.choice(["a", "b"], len(rows)) if kind == "labels" else draw.normal(size=len(rows))
    train, test = grouped_split(rows, y, 0.25)
    assert sorted([*train, *test]) == list(range(len(rows)))
    assert 20 <= len(test) <= 40
    assert not overlaps([rows[i] for i in test], [rows[i] for i in train]).any()


def test_rows_of_one_group_cannot_be_parted():
    genome = letters(200, 0)
    with pytest.raises(DataError, match=r"needs at least 2 groups .* these 2 sequences form 1"):
        grouped_split([genome[:100], genome[50:150]], ["a", "b"], 0.5)
