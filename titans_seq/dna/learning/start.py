"""Where a training begins: the simple readers are fitted first, and motifs are made of words.

Counting words and places is a convex problem: it is solved in seconds, and it says two things
that a network needs many epochs to find by itself. Which strand counts: if words of both
strands together foretell held-out rows at least as well as those of one, both mean the same.
And which motifs matter: the words that weigh most become motif detectors, where detectors
that begin at random may see nothing for a long time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.learning.calibration import fit_mixing
from titans_seq.dna.learning.network import TitansDNANetwork
from titans_seq.dna.learning.readers import SIMPLE, read, reader_loss, reader_validation
from titans_seq.dna.learning.tasks import errors, mix
from titans_seq.dna.learning.windows import Labelled, LabelledBatches, pad
from titans_seq.dna.learning.words import Shape, WordLogits, spell
from titans_seq.training import TrainSettings, pick_device, train, unshared

_BATCH = 256
_STEPS = 400
_EPOCHS = (2, 40)
_PATIENCE = 5
_DECAY = 0.1

_ROWS_TO_COUNT = 4096
"""Sequences, spread evenly over all, in which words are counted to see how common they are."""

_LEAST_LETTERS = 6
"""Bases of a word that may become a motif; shorter ones are everywhere."""

_SHARED = 5
"""Bases that two words must share, shifted or not, to be one motif."""

_PLANTED = 0.5
"""Share of the detectors that become motifs; the others see single bases, as places need."""

_STRENGTH = 0.5
"""What a base that fits adds to a detector; one that does not takes a third of it."""


def start(
    candidates: Sequence[TitansDNANetwork],
    learn: Labelled,
    held: Labelled,
    settings: TrainSettings,
    *,
    seed: int,
) -> TitansDNANetwork:
    """Fit the simple readers of networks that differ in ``config.strands``; return the best.

    Parameters
    ----------
    candidates
        Trained in place. The first of equals wins.
    learn, held
        What to train on, and what to choose epochs and the network by; ``held`` may be empty
        if there is one candidate.
    settings
        Of the training that follows; device and rate are taken from it.
    seed
        Of order and dropout.
    """
    losses = []
    for network in candidates:
        fit_simple(network, learn, held, settings, seed=seed)
        losses.append(_simple_loss(network, held) if len(candidates) > 1 else 0.0)
    return candidates[int(np.argmin(losses))]


def fit_simple(
    network: TitansDNANetwork,
    learn: Labelled,
    held: Labelled,
    settings: TrainSettings,
    *,
    seed: int,
) -> None:
    """Fit the readers of words and of places, each by itself and to its own best epoch."""
    network.to(pick_device(settings.device))
    for reader in SIMPLE:
        batches = LabelledBatches(learn, batch_size=_BATCH, seed=seed, turn=network.config.turned)
        epochs = int(np.clip(-(-_STEPS // len(batches)), *_EPOCHS))
        with unshared():  # the loss is of the network, not of the part that is trained
            train(
                getattr(network, reader),
                reader_loss(network, reader),
                batches,
                validation=LabelledBatches(held, batch_size=_BATCH) if held.rows else None,
                settings=dataclasses.replace(
                    settings,
                    max_epochs=epochs,
                    weight_decay=_DECAY,
                    patience=_PATIENCE,
                    average_weights=False,
                ),
                validation_loss=reader_validation(network, reader),
                seed=seed,
            )


@torch.no_grad()
def _simple_loss(network: TitansDNANetwork, held: Labelled) -> float:
    """Return how far the simple readers together are from held-out rows."""
    readings = read(network, held.rows, readers=SIMPLE)
    targets, weights = torch.from_numpy(held.targets), torch.from_numpy(held.weights)
    task = network.config.task
    answer = mix(readings, fit_mixing(readings, targets, weights, task), task)
    return float((errors(answer, targets, task) * weights).sum() / weights.sum())


@torch.no_grad()
def plant_motifs(network: TitansDNANetwork, rows: Sequence[Codes]) -> list[str]:
    """Make half of the motif detectors of the words that weigh most; return the motifs.

    A word's weight is how far its row of the table is from telling nothing, times the root of
    how often it occurs. Words that share most of their bases with a heavier one are passed
    over. Where both strands mean the same, each motif is sought in both directions.
    """
    detect = network.titans.tokens.detect
    count = int(_PLANTED * detect.out_channels)
    found = motifs_of(network, rows, count, detect.kernel_size[0])
    for index, motif in enumerate(found):
        _plant(detect, index, motif)
    return ["".join("N" if base is None else "ACGT"[base] for base in motif) for motif in found]


Motif = list[int | None]
"""Bases 0 to 3 of a word along its span; None where any base may stand."""


def motifs_of(
    network: TitansDNANetwork, rows: Sequence[Codes], count: int, width: int
) -> list[Motif]:
    """Return the words that weigh most, heaviest first, each unlike those before it."""
    words = network.words
    weights = _weights(network, rows[:: -(-len(rows) // _ROWS_TO_COUNT)])
    shapes = [one for one in words.begins if one.letters >= _LEAST_LETTERS and one.span <= width]
    found: list[Motif] = []
    for row in weights.argsort(descending=True).tolist():
        if len(found) >= count or not weights[row]:
            break
        shape, number = _word_of(words, row)
        if shape not in shapes:
            continue
        motif = spell(shape, number)
        ways = [motif, _other(motif)] if words.both_strands else [motif]
        if any(_alike(way, before) for way in ways for before in found):
            continue
        found += ways if motif != ways[-1] else [motif]
    return found[:count]


def _weights(network: TitansDNANetwork, rows: Sequence[Codes]) -> Float[Tensor, " table"]:
    """Return what each word of the table adds to the spread of the logits."""
    table = network.words.table
    counts = torch.zeros(len(table), device=table.device)
    for begin in range(0, len(rows), _BATCH):
        codes = pad(rows[begin : begin + _BATCH])["codes"].long().to(table.device)
        numbers, known = network.words.rows(codes)
        counts += torch.bincount(numbers[known], minlength=len(table))
    classes = network.config.task == "classes"
    spread = table - table.mean(dim=1, keepdim=True) if classes else table
    weights: Tensor = spread.norm(dim=1) * counts.sqrt()
    return weights


def _word_of(words: WordLogits, row: int) -> tuple[Shape, int]:
    """Return the shape and the number of the word in a row of the table."""
    begin, shape = max((begin, shape) for shape, begin in words.begins.items() if begin <= row)
    return shape, row - begin


def _other(motif: Motif) -> Motif:
    """Return the motif as it stands on the other strand."""
    return [None if base is None else 3 - base for base in reversed(motif)]


def _alike(one: Motif, other: Motif) -> bool:
    """Return whether some shift lays enough bases over each other, and all of them agree."""
    for shift in range(_SHARED - len(one), len(other) - _SHARED + 1):
        pairs = [
            (base, other[place + shift])
            for place, base in enumerate(one)
            if 0 <= place + shift < len(other)
        ]
        known = [pair for pair in pairs if None not in pair]
        if len(known) >= _SHARED and all(mine == yours for mine, yours in known):
            return True
    return False


def _plant(detect: nn.Conv1d, index: int, motif: Motif) -> None:
    """Make one detector answer to a motif, and a little to one with a single wrong base."""
    weight = detect.weight[index]
    weight *= 0.3
    begin = (weight.shape[1] - len(motif)) // 2
    letters = 0
    for place, base in enumerate(motif):
        if base is not None:
            weight[:, begin + place] -= _STRENGTH / 3
            weight[base, begin + place] += _STRENGTH * 4 / 3
            letters += 1
    assert detect.bias is not None
    detect.bias[index] = -_STRENGTH * (letters - 2)
