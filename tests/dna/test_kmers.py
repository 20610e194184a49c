import numpy as np
import pytest

from titans_seq.dna.alphabet import encode, reverse_complement, reverse_complement_text
from titans_seq.dna.kmers import MAX_K, base_indices, kmer_frequencies, kmer_indices


def reference(text, k, canonical):
    """The same by Python's own integers, a k-mer at a time."""
    indices = []
    for start in range(len(text) - k + 1):
        strands = [text[start : start + k]]
        if set(strands[0]) - set("ACGT"):
            indices.append(-1)
            continue
        if canonical:
            strands.append(reverse_complement_text(strands[0]))
        indices.append(min(int("0" + "".join(map(str, map("ACGT".index, s))), 4) for s in strands))
    return indices


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 24, MAX_K])
def test_indices_are_digits_to_base_4(k, canonical):
    text = "ACGTTGCAACGGTTACGATTACAGGTACNTTGACCATGGACATTAGACCTTGACCATTGACCTAGR"
    indices = kmer_indices(encode(text), k, canonical=canonical)
    assert indices.tolist() == reference(text, k, canonical)


def test_short_sequences_and_k_of_zero():
    assert kmer_indices(encode("ACG"), 4).tolist() == []
    assert kmer_indices(encode("ANG"), 0).tolist() == [0, 0, 0, 0]
    assert base_indices(encode("ACGTUNR")).tolist() == [0, 1, 2, 3, 3, -1, -1]


def test_both_strands_have_the_same_canonical_kmers():
    codes = encode("ACGTTGCAACGGTTACGATTACAGGTAC")
    forward = kmer_indices(codes, 24, canonical=True)
    backward = kmer_indices(reverse_complement(codes), 24, canonical=True)
    assert forward.tolist() == backward.tolist()[::-1]
    assert len(set(forward.tolist())) == 5


def test_frequencies_are_shares_of_the_known_kmers_of_a_sequence():
    found = kmer_frequencies([encode("ACGTAC"), encode("ANNN")], 2).toarray()
    assert found.shape == (2, 16)
    assert found[0, 1] == pytest.approx(2 / 5)  # AC
    np.testing.assert_array_equal(found[1], 0)
