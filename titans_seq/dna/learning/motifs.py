"""Initialise motif detectors with the k-mers that weigh most in the k-mer branch.

Detectors that begin at random may not respond to anything useful for many epochs; the k-mer
regression, solved in seconds, already knows which motifs matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.dna.alphabet import BASES, Codes
from titans_seq.dna.learning.batches import pad
from titans_seq.dna.learning.gapped_kmers import KmerLogits, KmerShape, kmer_bases
from titans_seq.dna.learning.network import TitansDNANetwork

_BATCH = 256

_MAX_SEQUENCES = 4096
"""Sequences, spread evenly over all, in which k-mers are counted."""

_MIN_LETTERS = 6
"""Bases of the shortest k-mer that may become a motif; shorter ones are everywhere."""

_SHARED_BASES = 5
"""Bases that two k-mers must share, shifted or not, to be the same motif."""

_SHARE_OF_DETECTORS = 0.5
"""Share of the detectors that become motifs; the others stay free for single bases."""

_MATCH_STRENGTH = 0.5
"""What a matching base adds to a detector; a mismatch subtracts a third of it."""

Motif = list[int | None]
"""Bases 0 to 3 of a k-mer along its span; None where any base may stand."""


@torch.no_grad()
def initialize_motifs(network: TitansDNANetwork, sequences: Sequence[Codes]) -> list[str]:
    """Initialise half of the motif detectors with the heaviest k-mers; return the motifs.

    The weight of a k-mer is the norm of its row of the table (for classes, of the deviation
    from the mean over classes), times the square root of how often it occurs. k-mers that share
    most of their bases with a heavier one are skipped. Where both strands mean the same, each
    motif is planted in both directions.
    """
    detectors = network.titans.tokens.detect
    count = int(_SHARE_OF_DETECTORS * detectors.out_channels)
    motifs = heaviest_motifs(network, sequences, count, detectors.kernel_size[0])
    for index, motif in enumerate(motifs):
        _set_detector(detectors, index, motif)
    return ["".join("N" if base is None else BASES[base] for base in motif) for motif in motifs]


def heaviest_motifs(
    network: TitansDNANetwork, sequences: Sequence[Codes], count: int, width: int
) -> list[Motif]:
    """Return the heaviest k-mers, the heaviest first, each different from those before it."""
    kmers = network.words
    weights = _kmer_table_weights(network, sequences[:: -(-len(sequences) // _MAX_SEQUENCES)])
    allowed = [
        shape for shape in kmers.first_rows if shape.letters >= _MIN_LETTERS and shape.span <= width
    ]
    motifs: list[Motif] = []
    for row in weights.argsort(descending=True).tolist():
        if len(motifs) >= count or not weights[row]:
            break
        shape, index = _kmer_of_row(kmers, row)
        if shape not in allowed:
            continue
        motif = kmer_bases(shape, index)
        strands = [motif, _reverse_complement(motif)] if kmers.both_strands else [motif]
        if any(_overlap(strand, heavier) for strand in strands for heavier in motifs):
            continue
        motifs += strands if motif != strands[-1] else [motif]
    return motifs[:count]


def _kmer_table_weights(
    network: TitansDNANetwork, sequences: Sequence[Codes]
) -> Float[Tensor, " table"]:
    """Return the contribution of each k-mer of the table to the spread of the logits."""
    table = network.words.table
    counts = torch.zeros(len(table), device=table.device)
    for begin in range(0, len(sequences), _BATCH):
        codes = pad(sequences[begin : begin + _BATCH])["codes"].long().to(table.device)
        rows, known = network.words.rows(codes)
        counts += torch.bincount(rows[known], minlength=len(table))
    classes = network.config.task == "classes"
    # A shift of all classes alike does not change their probabilities.
    spread = table - table.mean(dim=1, keepdim=True) if classes else table
    weights: Tensor = spread.norm(dim=1) * counts.sqrt()
    return weights


def _kmer_of_row(kmers: KmerLogits, row: int) -> tuple[KmerShape, int]:
    """Return the shape and the index of the k-mer in a row of the table."""
    first, shape = max((first, shape) for shape, first in kmers.first_rows.items() if first <= row)
    return shape, row - first


def _reverse_complement(motif: Motif) -> Motif:
    """Return the motif on the reverse strand."""
    return [None if base is None else 3 - base for base in reversed(motif)]


def _overlap(first: Motif, second: Motif) -> bool:
    """Return whether at some shift enough bases overlap, and all of them agree."""
    for shift in range(_SHARED_BASES - len(first), len(second) - _SHARED_BASES + 1):
        pairs = [
            (base, second[position + shift])
            for position, base in enumerate(first)
            if 0 <= position + shift < len(second)
        ]
        known = [pair for pair in pairs if None not in pair]
        if len(known) >= _SHARED_BASES and all(a == b for a, b in known):
            return True
    return False


def _set_detector(detectors: nn.Conv1d, index: int, motif: Motif) -> None:
    """Make one detector respond to a motif, and weakly to one with a single mismatch."""
    weight = detectors.weight[index]  # (4, width)
    weight *= 0.3  # the random initial weights become noise beside the motif
    begin = (weight.shape[1] - len(motif)) // 2
    letters = 0
    for offset, base in enumerate(motif):
        if base is not None:
            weight[:, begin + offset] -= _MATCH_STRENGTH / 3
            weight[base, begin + offset] += _MATCH_STRENGTH * 4 / 3
            letters += 1
    assert detectors.bias is not None
    # A perfect match gives 2 strengths, one mismatch 2/3 of one, and two mismatches nothing.
    detectors.bias[index] = -_MATCH_STRENGTH * (letters - 2)
