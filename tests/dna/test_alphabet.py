"""Letters to codes and back, and the other strand."""

from __future__ import annotations

import numpy as np
import pytest

from titans_seq.dna.alphabet import (
    BASES,
    IUPAC_BASES,
    LETTERS,
    PAD,
    SHARES,
    decode,
    encode,
    reverse_complement,
    reverse_complement_text,
)
from titans_seq.exceptions import DataError

PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A"}


@pytest.mark.parametrize("sequence", ["A", "ACGT", LETTERS, "NNNN", "RYSWKMBDHVN" * 7])
def test_letters_come_back_as_they_went_in(sequence: str) -> None:
    assert decode(encode(sequence)) == sequence


def test_case_and_u_do_not_matter() -> None:
    np.testing.assert_array_equal(encode("acgunRy"), encode("ACGTNRY"))


@pytest.mark.parametrize("letter", LETTERS)
def test_the_other_strand_pairs_every_meaning(letter: str) -> None:
    other = decode(reverse_complement(encode(letter)))
    assert {PAIRS[base] for base in IUPAC_BASES[letter]} == set(IUPAC_BASES[other])


@pytest.mark.parametrize(("sequence", "other"), [("A", "T"), ("AACG", "CGTT"), ("ARN", "NYT")])
def test_the_other_strand_reads_backwards(sequence: str, other: str) -> None:
    assert decode(reverse_complement(encode(sequence))) == other


def test_the_other_strand_twice_is_the_first() -> None:
    codes = encode(LETTERS * 3 + "ACG")
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_shares_say_what_a_letter_may_be() -> None:
    for letter, meaning in IUPAC_BASES.items():
        share = dict(zip(BASES, SHARES[encode(letter)[0]], strict=True))
        assert share == {b: pytest.approx((b in meaning) / len(meaning)) for b in BASES}
    assert not SHARES[PAD].any()


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("", r"chr1: the sequence is empty"),
        ("ACGX", r"chr1: letter 'X' at position 4 of 4 is not one of ACGT.*protein"),
        ("MKVL", r"letter 'L' at position 4 of 4"),
        ("AC-GT", r"letter '-' at position 3 of 5.*gaps"),
        ("AC GT", r"letter ' ' at position 3"),
        ("AC\x00T", r"position 3 of 4.*write N"),
        ("ACÉT€", r"letter 'É' at position 3 of 5"),
        ("AC€T", r"letter '€' at position 3 of 4"),
        ("ACG1", r"letter '1' at position 4"),
    ],
)
def test_what_is_no_dna_is_refused_by_place(sequence: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(sequence, "chr1")


def test_the_reverse_complement_of_text_is_in_upper_case() -> None:
    assert reverse_complement_text("acgtunRY") == "RYNAACGT"
