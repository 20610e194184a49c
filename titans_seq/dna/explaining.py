"""Which bases an answer rests on: by changing each, by the gradient, or by surprise.

The answer that is explained is a *score*: the log-odds of one class against all others, or of
one label, or a value in its own units.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_seq.dna.alphabet import SHARES, Codes, decode
from titans_seq.dna.base import TitansDNAEstimator
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.network import Strand, TitansDNANetwork
from titans_seq.dna.learning.tasks import mix, settle
from titans_seq.dna.learning.windows import pad
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.nn.surprise import listening

Method = Literal["mutagenesis", "gradient", "surprise"]
METHODS: tuple[str, ...] = get_args(Method)

Array = npt.NDArray[np.float64]

_AT_ONCE = 512
"""Changed sequences that are read at a time."""


class Explanation(NamedTuple):
    """What each base of one sequence is worth."""

    sequence: str
    """The letters, in upper case."""

    start: int
    """Place of the first letter that is explained, counted from 0."""

    target: Any
    """The class, label or value whose score is explained; None for surprise."""

    method: Method

    importance: Array
    """(letters,) What the letter that stands there is worth to the score, more than the mean
    of the letters that could. For surprise: the inner loss of the memory (no sign, no target)."""

    changes: Array | None
    """(letters, 4) How each of ACGT in the letter's place changes the score: measured
    (mutagenesis) or by the slope (gradient); None for surprise."""


def explain(
    estimator: TitansDNAEstimator,
    sequences: Any,
    *,
    method: Method = "mutagenesis",
    target: Any = None,
    region: tuple[int, int] | None = None,
) -> list[Explanation]:
    """Explain the answer for each sequence.

    Parameters
    ----------
    estimator
        A fitted classifier or regressor.
    sequences
        As for ``predict``.
    method
        ``mutagenesis`` changes each base to the other three, one at a time, and reads anew:
        exact, three readings a base. ``gradient`` takes the slope of the score at the bases,
        less its mean over the four (one reading, right for small changes). ``surprise`` is how
        badly the memories foresaw each token as they read it, whatever the answer.
    target
        The class, label or name of a value to explain; None takes the likeliest class or
        label of each sequence, or the first value.
    region
        First and last place to explain, counted from 1; None explains all.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    DataError
        If a sequence is no DNA or does not reach into the region.
    ConfigError
        If the method or the target is unknown, or the network has no memory to be surprised.
    """
    check_is_fitted(estimator)
    if method not in METHODS:
        raise ConfigError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    names = list(getattr(estimator, "classes_", getattr(estimator, "names_", [])))
    wanted = _column(target, names)
    found = []
    for index, row in enumerate(encode_all(sequences)):
        start, stop = _bounds(region, len(row), index)
        letters = decode(row[start:stop])
        if method == "surprise":
            worth = _surprise(estimator, row)[start:stop]
            found.append(Explanation(letters, start, None, method, worth, None))
            continue
        column = _likeliest(estimator, row) if wanted is None else wanted
        measure = _mutations if method == "mutagenesis" else _slopes
        changes = measure(estimator, row, column, start, stop)
        worth = _importance(row[start:stop], changes)
        found.append(Explanation(letters, start, names[column], method, worth, changes))
    return found


def _column(target: Any, names: list[Any]) -> int | None:
    """Return the output that a target names; None if none is named."""
    if target is None:
        return None
    texts = [str(name) for name in names]
    if str(target) not in texts:
        raise ConfigError(f"target={target!r}: choose one of {', '.join(texts)}")
    return texts.index(str(target))


def _bounds(region: tuple[int, int] | None, length: int, index: int) -> tuple[int, int]:
    """Return the half-open bounds of the region within a sequence."""
    if region is None:
        return 0, length
    first, last = region
    if not 1 <= first <= last:
        raise ConfigError(f"region={first}-{last}: first and last place, from 1 on")
    if first > length:
        raise DataError(f"sequence {index}: {length} letters do not reach into {first}-{last}")
    return first - 1, min(last, length)


def _scores(estimator: TitansDNAEstimator, answer: Tensor, column: int) -> Tensor:
    """Return the score of one output: log-odds, or a value in its own units."""
    mine = answer[:, column]
    if estimator.network_.config.task == "classes":
        others = torch.cat([answer[:, :column], answer[:, column + 1 :]], dim=1)
        return mine - others.logsumexp(dim=1)
    if estimator.network_.config.task == "values":
        return mine * float(estimator.scale_[column])
    return mine


def _likeliest(estimator: TitansDNAEstimator, row: Codes) -> int:
    """Return the output to explain where none is named."""
    if estimator.network_.config.task == "values":
        return 0
    return int(estimator._joint([row])[0].argmax())


def _importance(row: Codes, changes: Array) -> Array:
    """Return what the letters that stand there are worth, over the mean of all four."""
    standing = (SHARES[row] * changes).sum(axis=1)
    return np.asarray(standing - changes.mean(axis=1))


def _mutations(
    estimator: TitansDNAEstimator, row: Codes, column: int, start: int, stop: int
) -> Array:
    """Return how the score changes where each base is put in each place."""
    changes = np.zeros((stop - start, 4))
    jobs = [(place, base) for place in range(start, stop) for base in range(4)]
    jobs = [(place, base) for place, base in jobs if row[place] != 1 << base]
    before = _scores(estimator, estimator._joint([row]), column)
    for begin in range(0, len(jobs), _AT_ONCE):
        part = jobs[begin : begin + _AT_ONCE]
        mutants = []
        for place, base in part:
            mutant = row.copy()
            mutant[place] = 1 << base
            mutants.append(mutant)
        after = _scores(estimator, estimator._joint(mutants), column) - before
        for (place, base), change in zip(part, after.tolist(), strict=True):
            changes[place - start, base] = change
    return changes


def _slopes(estimator: TitansDNAEstimator, row: Codes, column: int, start: int, stop: int) -> Array:
    """Return the slope of the score along each base in each place, less that of what stands."""
    network = estimator.network_.eval()
    with torch.enable_grad():
        given = network.strand(**pad([row]))
        bases = given.bases.clone().requires_grad_()
        strand = Strand(given.codes, bases, given.mask)
        strands = [strand]
        if network.config.strands == "average":
            strands.append(strand.other())
        task = network.config.task
        readings = [settle(_raw_with_words(network, one), task) for one in strands]
        mean = settle(torch.stack(readings).mean(dim=0), task)
        score = _scores(estimator, mix(mean, network.mixing, task), column)
        (slope,) = torch.autograd.grad(score.sum(), bases)
    slopes = slope[0, start:stop].double().numpy()
    standing = (SHARES[row[start:stop]] * slopes).sum(axis=1, keepdims=True)
    return np.asarray(slopes - standing)


def _raw_with_words(
    network: TitansDNANetwork, strand: Strand
) -> Float[Tensor, "readers batch outputs"]:
    """Return what the readers find, with the slope of the words along the bases.

    Words are looked up by number, which has no slope; the term added here is zero and has it.
    """
    raw = network.raw(strand)
    strands = [strand, strand.other()] if network.config.strands == "equivariant" else [strand]
    for one in strands:
        slope = network.words.letter_slopes(one.codes).detach()
        nothing = torch.einsum("btl,btlo->bo", one.bases - one.bases.detach(), slope)
        raw = torch.stack([raw[0], raw[1] + nothing / len(strands), raw[2]])
    return raw


@torch.no_grad()
def _surprise(estimator: TitansDNAEstimator, row: Codes) -> Array:
    """Return the inner loss of the memories at each base, a mean over layers."""
    network = estimator.network_.eval()
    given = network.strand(**pad([row]))
    tokens, real, _ = network.titans.tokens(given.bases, given.mask)
    with listening(network.titans.backbone) as heard:
        network.titans.backbone(tokens, mask=real, keep_state=False)
        losses = heard.take(tokens.shape[1])
    if losses is None:
        raise ConfigError(f"variant={estimator.variant!r} has no memory that could be surprised")
    each = losses[0].double().numpy()
    return np.asarray(np.repeat(each, network.titans.tokens.stride)[: len(row)])
