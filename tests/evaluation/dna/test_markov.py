import numpy as np
import pytest

from titans_seq.dna.alphabet import encode, reverse_complement
from titans_seq.evaluation.dna.markov import Context, KmerModel, kmer_perplexities


def everywhere(text):
    return np.ones(len(text), dtype=bool)


def test_chances_are_counts_on_both_strands_that_borrow_from_shorter_words():
    text = "ACACAGT"
    model = KmerModel(Context(1, 0)).fit([encode(text)])
    strands = [text, "ACTGTGT"]
    letters = {base: 1 + sum(one.count(base) for one in strands) for base in "ACGT"}
    alone = {base: count / sum(letters.values()) for base, count in letters.items()}
    after_a = {base: sum(one.count("A" + base) for one in strands) for base in "ACGT"}
    total = sum(after_a.values())
    for base in "ACGT":
        chance = (after_a[base] + 4 * alone[base]) / (total + 4)
        losses = model.losses(encode("A" + base), np.array([False, True]))
        assert losses[0] == pytest.approx(-np.log(chance))
    first = model.losses(encode("C"), everywhere("C"))
    assert first[0] == pytest.approx(-np.log(alone["C"]))


def test_both_strands_are_as_likely_from_both_sides():
    draw = np.random.default_rng(0)
    rows = [encode("".join(draw.choice(list("ACGT"), 300))) for _ in range(3)]
    model = KmerModel(Context(2, 2)).fit(rows[:2])
    one = model.losses(rows[2], everywhere(rows[2]))
    other = model.losses(reverse_complement(rows[2]), everywhere(rows[2]))
    np.testing.assert_allclose(one, other[::-1])


def test_longer_words_know_more_of_a_text_of_words():
    draw = np.random.default_rng(0)
    text = encode("".join(draw.choice(["ATTGCA", "GGC", "TACCAT"]) for _ in range(2000)))
    held = [(text[-500:], everywhere(text[-500:]))]
    found = kmer_perplexities([text[:-500]], held, masked=False)
    assert list(found) == ["2-mers", "4-mers", "6-mers", "9-mers", "11-mers"]
    assert 4 > found["2-mers"] > found["4-mers"] > found["6-mers"] > 1
    assert kmer_perplexities([text[:-500]], held, masked=True)["3 letters on either side"] < 2


def test_what_is_ambiguous_shortens_the_context_and_is_not_asked():
    model = KmerModel(Context(2, 0)).fit([encode("ACGTACGT" * 4)])
    text = encode("ACNNG")
    assert len(model.losses(text, everywhere(text))) == 3
    alone = model.losses(encode("G"), everywhere("G"))
    assert model.losses(text, everywhere(text))[-1] == pytest.approx(alone[0])
