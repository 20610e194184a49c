"""Attribute predictions to bases: by in-silico mutagenesis, by gradient, or by surprise.

What is explained is a *score*: the log-odds of one class against all others, or of one label, or a
value in its own units.
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
from titans_seq.dna.learning.batches import pad
from titans_seq.dna.learning.fitting import predict_outputs
from titans_seq.dna.learning.network import EncodedStrand, TitansDNANetwork
from titans_seq.dna.learning.tasks import combined, normalized
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.nn.surprise import listening

Method = Literal["mutagenesis", "gradient", "surprise"]
_METHODS: tuple[str, ...] = get_args(Method)

_MUTANTS_PER_BATCH = 512


class Explanation(NamedTuple):
    """Importance of each base of one sequence."""

    sequence: str
    """The letters explained, in upper case."""

    start: int
    """Position of the first letter explained, from 0."""

    target: Any
    """The class, label or value whose score is explained; None for surprise."""

    method: Method

    importance: npt.NDArray[np.float64]
    """(letters,) Contribution of each letter to the score, compared with the mean of all four
    bases there. For surprise: the inner loss of the memory, which has no sign and no target."""

    changes: npt.NDArray[np.float64] | None
    """(letters, 4) Change of the score with each of ACGT in place of the letter: measured
    (mutagenesis) or linear (gradient); None for surprise."""


def explain(
    estimator: TitansDNAEstimator,
    sequences: Any,
    *,
    method: Method = "mutagenesis",
    target: Any = None,
    region: tuple[int, int] | None = None,
) -> list[Explanation]:
    """Explain the prediction for each sequence.

    Parameters
    ----------
    estimator
        A fitted classifier or regressor.
    sequences
        As for ``predict``.
    method
        ``mutagenesis`` replaces each base by the other three, one at a time, and predicts again:
        exact, three predictions per base. ``gradient`` is the gradient of the score along the
        four bases, minus their mean (one prediction, valid for small changes). ``surprise`` is
        the prediction error of the memories at each token, whatever the output.
    target
        The class, label or name of a value to explain; None takes the most probable class or
        label of each sequence, or the first value.
    region
        First and last position to explain, counted from 1; None explains all.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    DataError
        If a sequence is not DNA or ends before the region.
    ConfigError
        If the method or the target is unknown, or the network has no memory for ``surprise``.
    """
    check_is_fitted(estimator)
    if method not in _METHODS:
        raise ConfigError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    names = list(getattr(estimator, "classes_", getattr(estimator, "names_", [])))
    target_column = _column(target, names)
    explanations = []
    for index, codes in enumerate(encode_all(sequences)):
        start, stop = _bounds(region, len(codes), index)
        letters = decode(codes[start:stop])
        if method == "surprise":
            importance = _surprise(estimator, codes)[start:stop]
            explanations.append(Explanation(letters, start, None, method, importance, None))
            continue
        column = _most_probable(estimator, codes) if target_column is None else target_column
        measure = _mutagenesis if method == "mutagenesis" else _gradient
        changes = measure(estimator, codes, column, start, stop)
        importance = _importance(codes[start:stop], changes)
        explanations.append(Explanation(letters, start, names[column], method, importance, changes))
    return explanations


def _column(target: Any, names: list[Any]) -> int | None:
    """Return the index of the output that a target names; None for no target."""
    if target is None:
        return None
    texts = [str(name) for name in names]
    if str(target) not in texts:
        raise ConfigError(f"target must be one of {', '.join(texts)}, got {target!r}")
    return texts.index(str(target))


def _bounds(region: tuple[int, int] | None, length: int, index: int) -> tuple[int, int]:
    """Return the half-open bounds of the region within a sequence."""
    if region is None:
        return 0, length
    first, last = region
    if not 1 <= first <= last:
        raise ConfigError(f"region must be 1 <= first <= last, got {first}-{last}")
    if first > length:
        raise DataError(f"sequence {index} has {length} letters and ends before {first}-{last}")
    return first - 1, min(last, length)


def _scores(estimator: TitansDNAEstimator, outputs: Tensor, column: int) -> Tensor:
    """Return the score of one output: log-odds, or a value in its own units."""
    output = outputs[:, column]
    if estimator.network_.config.task == "classes":
        others = torch.cat([outputs[:, :column], outputs[:, column + 1 :]], dim=1)
        return output - others.logsumexp(dim=1)
    if estimator.network_.config.task == "values":
        return output * float(estimator.scale_[column])
    return output


def _predicted_scores(estimator: TitansDNAEstimator, sequences: list[Codes], column: int) -> Tensor:
    """Return the score of one output for each sequence."""
    outputs = predict_outputs(estimator.network_, sequences, estimator.device)
    return _scores(estimator, outputs, column)


def _most_probable(estimator: TitansDNAEstimator, codes: Codes) -> int:
    """Return the index of the output to explain if there is no target."""
    if estimator.network_.config.task == "values":
        return 0
    return int(predict_outputs(estimator.network_, [codes], estimator.device)[0].argmax())


def _importance(codes: Codes, changes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the contribution of each letter, minus the mean of all four bases."""
    contribution = (SHARES[codes] * changes).sum(axis=1)
    return np.asarray(contribution - changes.mean(axis=1))


def _mutagenesis(
    estimator: TitansDNAEstimator, codes: Codes, column: int, start: int, stop: int
) -> npt.NDArray[np.float64]:
    """Return the change of the score with each base at each position, (positions, 4)."""
    changes = np.zeros((stop - start, 4))
    mutations = [
        (position, base)
        for position in range(start, stop)
        for base in range(4)
        if codes[position] != 1 << base
    ]
    reference = _predicted_scores(estimator, [codes], column)
    for begin in range(0, len(mutations), _MUTANTS_PER_BATCH):
        batch = mutations[begin : begin + _MUTANTS_PER_BATCH]
        mutants = []
        for position, base in batch:
            mutant = codes.copy()
            mutant[position] = 1 << base
            mutants.append(mutant)
        differences = _predicted_scores(estimator, mutants, column) - reference
        for (position, base), difference in zip(batch, differences.tolist(), strict=True):
            changes[position - start, base] = difference
    return changes


def _gradient(
    estimator: TitansDNAEstimator, codes: Codes, column: int, start: int, stop: int
) -> npt.NDArray[np.float64]:
    """Return the gradient of the score along each base, minus that along the actual letter."""
    network = estimator.network_.eval()
    with torch.enable_grad():
        encoded = network.encode(**pad([codes]))
        bases = encoded.bases.clone().requires_grad_()
        forward = EncodedStrand(encoded.codes, bases, encoded.mask)
        strands = [forward]
        if network.config.strands == "average":
            strands.append(forward.reverse_complement())
        task = network.config.task
        outputs = [normalized(_differentiable_logits(network, one), task) for one in strands]
        mean = normalized(torch.stack(outputs).mean(dim=0), task)
        score = _scores(estimator, combined(mean, network.mixing, task), column)
        (gradient,) = torch.autograd.grad(score.sum(), bases)  # (1, time, 4)
    gradients = gradient[0, start:stop].double().numpy()
    actual = (SHARES[codes[start:stop]] * gradients).sum(axis=1, keepdims=True)
    return np.asarray(gradients - actual)


def _differentiable_logits(
    network: TitansDNANetwork, strand: EncodedStrand
) -> Float[Tensor, "branches batch outputs"]:
    """Return the logits of the branches, with the gradient of the k-mer branch along the bases.

    k-mers are looked up by index, which has no gradient. The term added here is zero, and its
    gradient is that of the k-mer branch.
    """
    logits = network.branch_logits(strand)
    both = network.config.strands == "equivariant"
    strands = [strand, strand.reverse_complement()] if both else [strand]
    for one in strands:
        gradient = network.words.base_gradients(one.codes).detach()
        zero = torch.einsum("btl,btlo->bo", one.bases - one.bases.detach(), gradient)
        logits = torch.stack([logits[0], logits[1] + zero / len(strands), logits[2]])
    return logits


@torch.no_grad()
def _surprise(estimator: TitansDNAEstimator, codes: Codes) -> npt.NDArray[np.float64]:
    """Return the inner loss of the memories at each base, averaged over layers."""
    network = estimator.network_.eval()
    encoded = network.encode(**pad([codes]))
    tokens, token_mask, _ = network.titans.tokens(encoded.bases, encoded.mask)
    with listening(network.titans.backbone) as recorder:
        network.titans.backbone(tokens, mask=token_mask, keep_state=False)
        losses = recorder.take(tokens.shape[1])
    if losses is None:
        raise ConfigError(f"variant={estimator.variant!r} has no memory, so no surprise")
    by_token = losses[0].double().numpy()
    return np.asarray(np.repeat(by_token, network.titans.tokens.stride)[: len(codes)])
