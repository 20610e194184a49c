"""Words with and without a gap: counted as the slow way counts them, on one strand or both."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from torch import Tensor

from titans_seq.dna.alphabet import decode, encode, reverse_complement
from titans_seq.dna.learning.batches import pad
from titans_seq.dna.learning.gapped_kmers import (
    SHAPES,
    KmerLogits,
    KmerShape,
    index_kmers,
    kmer_bases,
)

TEXTS = ("GATTACAGATTACACCGTGTAATC", "ACGNTTGACCAYGGT", "AC", "ACGTACG", "RYN")


def of(text: str) -> Tensor:
    return torch.from_numpy(encode(text)).long()[None]


def drawn(*, both: bool, shapes: tuple[KmerShape, ...] = SHAPES) -> KmerLogits:
    logits = KmerLogits(2, 0.0, both_strands=both, shapes=shapes).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for table in (logits.table, logits.bias):
            table.copy_(torch.randn(table.shape, generator=generator, dtype=torch.float64))
    return logits


def counted(text: str, shape: KmerShape) -> list[str]:
    """Return the words of a shape, letter by letter."""
    found = []
    for start in range(len(text) - shape.span + 1):
        word = "".join(text[start + place] for place in shape.offsets)
        if set(word) <= set("ACGT"):
            found.append(word)
    return found


def slow(logits: KmerLogits, text: str) -> Tensor:
    """Return the logits from words as letters; each is one row of the table."""
    rows: Counter[int] = Counter()
    for shape in logits.shapes:
        for word in counted(text, shape):
            home, turned = shape, decode(reverse_complement(encode(word)))
            if logits.both_strands and shape == shape.mirror:
                word = min(word, turned)
            elif logits.both_strands and shape.mirror < shape:
                home, word = shape.mirror, turned
            number = int("".join(str("ACGT".index(letter)) for letter in word), 4)
            rows[logits.first_rows[home] + number] += 1
    total = sum(rows.values())
    out = logits.bias.clone()
    for row, count in rows.items():
        out = out + logits.table[row] * count / total**0.5
    return out


@pytest.mark.parametrize("width", [1, 2, 3])
def test_kmers_are_indexed_in_the_order_of_the_alphabet(width: int) -> None:
    shape = KmerShape(width)
    for number, letters in enumerate(itertools.product("ACGT", repeat=width)):
        kmers = index_kmers(of("".join(letters)), (shape,))[shape]
        assert kmers.forward.tolist() == [[number]]
        assert kmers.known.all()
        turned = index_kmers(of(decode(reverse_complement(encode("".join(letters))))), (shape,))
        assert kmers.reverse.tolist() == turned[shape].forward.tolist()


def test_kmers_with_ambiguous_letters_are_left_out() -> None:
    kmers = index_kmers(of("ACNGT"), (KmerShape(2), KmerShape(1, 1, 1)))
    assert kmers[KmerShape(2)].known.tolist() == [[True, False, False, True]]
    assert kmers[KmerShape(1, 1, 1)].known.tolist() == [[False, True, False]]
    logits = KmerLogits(2, 0.0, shapes=(KmerShape(6),))
    torch.testing.assert_close(logits(of("ACNGT")), torch.zeros(1, 2))


@pytest.mark.parametrize("both", [False, True])
def test_logits_and_gradients_are_those_of_counting_letter_by_letter(both: bool) -> None:
    logits = drawn(both=both)
    batch = pad([encode(text) for text in TEXTS])
    fast = logits(batch["codes"].long())
    reference = torch.stack([slow(logits, text) for text in TEXTS])
    torch.testing.assert_close(fast, reference, rtol=0, atol=1e-12)
    goal = torch.randn(fast.shape, dtype=torch.float64)
    (mine,) = torch.autograd.grad((fast * goal).sum(), logits.table)
    (theirs,) = torch.autograd.grad((reference * goal).sum(), logits.table)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_a_strand_and_its_complement_have_the_same_kmers() -> None:
    for text in TEXTS:
        other = decode(reverse_complement(encode(text)))
        torch.testing.assert_close(drawn(both=True)(of(text)), drawn(both=True)(of(other)))
    one = drawn(both=False)
    other = decode(reverse_complement(encode(TEXTS[0])))
    assert (one(of(TEXTS[0])) - one(of(other))).abs().max() > 0.1


@pytest.mark.parametrize("both", [False, True])
def test_the_gradient_of_a_base_is_the_change_of_the_logits(both: bool) -> None:
    logits, text = drawn(both=both), TEXTS[0]
    slopes = logits.base_gradients(of(text))[0]
    before = logits(of(text))[0]
    for place, base in itertools.product(range(len(text)), range(4)):
        mutant = text[:place] + "ACGT"[base] + text[place + 1 :]
        change = logits(of(mutant))[0] - before
        standing = slopes[place, "ACGT".index(text[place])]
        torch.testing.assert_close(slopes[place, base] - standing, change, rtol=0, atol=1e-12)


def test_a_word_is_spelled_with_its_gap() -> None:
    shape = KmerShape(2, 3, 2)
    number = int(index_kmers(of("ACTTTGT"), (shape,))[shape].forward)
    assert kmer_bases(shape, number) == [0, 1, None, None, None, 2, 3]
