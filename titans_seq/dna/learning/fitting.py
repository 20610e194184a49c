"""Train the DNA network: the two regressions first, then the titans branch, then their weights.

The k-mer and position branches are convex problems, solved in seconds. They also choose how to
treat strands: if k-mers of both strands together predict held-out rows at least as well as those
of one strand, both strands mean the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.learning.batches import (
    SequenceBatches,
    WeightedSequences,
    batch_indices,
    pad,
)
from titans_seq.dna.learning.calibration import evaluate_branch_weights, fit_branch_weights
from titans_seq.dna.learning.network import BRANCHES, TitansDNANetwork
from titans_seq.dna.learning.tasks import combined, normalized, row_losses
from titans_seq.training import History, TrainSettings, pick_device, shared_map, train, unshared

REGRESSION_BRANCHES = ("words", "places")
"""Branches that are logistic regressions."""

PREDICTION_BATCH = 256
"""Sequences per batch when predicting."""

# Training of the regression branches.
_REGRESSION_BATCH = 256
_REGRESSION_STEPS = 400
_REGRESSION_EPOCHS = (2, 40)
_REGRESSION_PATIENCE = 5
_REGRESSION_DECAY = 0.1


class FitResult(NamedTuple):
    """Result of a training."""

    history: History
    """Losses and times of the epochs."""

    calibration: dict[str, float]
    """Quality of the combined outputs on held-out rows, see
    :func:`titans_seq.dna.learning.calibration.evaluate_branch_weights`; empty without such
    rows."""


def fit_regressions(
    candidates: Sequence[TitansDNANetwork],
    training: WeightedSequences,
    validation: WeightedSequences,
    settings: TrainSettings,
    *,
    seed: int,
) -> TitansDNANetwork:
    """Fit the regression branches of networks that differ in ``config.strands``; return the best.

    Parameters
    ----------
    candidates
        Trained in place. Of equally good ones, the first is returned.
    training, validation
        Rows to train on, and rows to choose epochs and the network by; ``validation`` may be
        empty if there is one candidate.
    settings
        Settings of the training of the whole network; device and rate are taken from them.
    seed
        Seed of the order of rows and of dropout.
    """
    losses = []
    for network in candidates:
        fit_regression_branches(network, training, validation, settings, seed=seed)
        losses.append(_regression_loss(network, validation) if len(candidates) > 1 else 0.0)
    return candidates[int(np.argmin(losses))]


def fit_regression_branches(
    network: TitansDNANetwork,
    training: WeightedSequences,
    validation: WeightedSequences,
    settings: TrainSettings,
    *,
    seed: int,
) -> None:
    """Fit the k-mer and the position branch, each by itself and to its own best epoch."""
    network.to(pick_device(settings.device))
    for branch in REGRESSION_BRANCHES:
        batches = SequenceBatches(
            training,
            batch_size=_REGRESSION_BATCH,
            seed=seed,
            both_strands=network.config.augments,
        )
        epochs = int(np.clip(-(-_REGRESSION_STEPS // len(batches)), *_REGRESSION_EPOCHS))
        with unshared():  # the loss is that of the network, not of the module that is trained
            train(
                getattr(network, branch),
                _mean_branch_loss(network, branch),
                batches,
                validation=SequenceBatches(validation, batch_size=_REGRESSION_BATCH)
                if validation.sequences
                else None,
                settings=dataclasses.replace(
                    settings,
                    max_epochs=epochs,
                    weight_decay=_REGRESSION_DECAY,
                    patience=_REGRESSION_PATIENCE,
                    average_weights=False,
                ),
                validation_loss=_summed_branch_loss(network, branch),
                seed=seed,
            )


@torch.no_grad()
def _regression_loss(network: TitansDNANetwork, validation: WeightedSequences) -> float:
    """Return the loss of both regression branches together on held-out rows."""
    outputs = predict_branches(network, validation.sequences, REGRESSION_BRANCHES)
    targets, weights = _tensors(validation)
    task = network.config.task
    predicted = combined(outputs, fit_branch_weights(outputs, targets, weights, task), task)
    return float((row_losses(predicted, targets, task) * weights).sum() / weights.sum())


def fit_network(
    network: TitansDNANetwork,
    training: WeightedSequences,
    validation: WeightedSequences,
    settings: TrainSettings,
    *,
    batch_size: int,
    seed: int,
) -> FitResult:
    """Train the titans branch, then fit the weights of the branches.

    Parameters
    ----------
    network
        Trained in place; its regression branches stay as :func:`fit_regressions` left them.
    training
        Rows to train on.
    validation
        Rows to choose the epoch and fit the branch weights by; may be empty.
    settings
        Duration and rate of the training.
    batch_size
        Sequences of a batch.
    seed
        Seed of the order of rows, strands and dropout.
    """
    held_out = (
        SequenceBatches(validation, batch_size=PREDICTION_BATCH) if validation.sequences else None
    )
    with _frozen(network.words, network.places):
        history = train(
            network,
            titans_loss,
            _batches(network, training, batch_size, seed),
            validation=held_out,
            settings=settings,
            validation_loss=_summed_loss,
            seed=seed,
        )
    return FitResult(history, _calibrate(network, validation) if validation.sequences else {})


def fit_one_pass(
    network: TitansDNANetwork,
    training: WeightedSequences,
    settings: TrainSettings,
    *,
    batch_size: int,
    seed: int,
) -> FitResult:
    """Train all branches in one pass over some rows; their weights stay as they were."""
    batches = _batches(network, training, batch_size, seed)
    return FitResult(train(network, _all_branches_loss, batches, settings=settings, seed=seed), {})


def _batches(
    network: TitansDNANetwork, training: WeightedSequences, batch_size: int, seed: int
) -> SequenceBatches:
    """Return batches in a new order each epoch, of both strands if the network augments."""
    return SequenceBatches(
        training, batch_size=batch_size, seed=seed, both_strands=network.config.augments
    )


@torch.no_grad()
def _calibrate(network: TitansDNANetwork, validation: WeightedSequences) -> dict[str, float]:
    """Fit the weights of the branches to held-out rows; return their cross-validated scores."""
    outputs = predict_branches(network, validation.sequences)
    targets, weights = _tensors(validation)
    task = network.config.task
    network.mixing.copy_(fit_branch_weights(outputs, targets, weights, task))
    scores = evaluate_branch_weights(outputs, targets, weights, task)
    return scores | {"temperature": 1 / float(network.mixing.sum())}


def _tensors(data: WeightedSequences) -> tuple[Tensor, Tensor]:
    """Return targets and weights as tensors."""
    return torch.from_numpy(data.targets), torch.from_numpy(data.weights)


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """Exclude modules from the training."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


@torch.no_grad()
def predict_branches(
    network: TitansDNANetwork, sequences: Sequence[Codes], branches: tuple[str, ...] = BRANCHES
) -> Float[Tensor, "branches rows outputs"]:
    """Return the outputs of each branch for every sequence, on the CPU.

    With ``network.config.strands="average"``, they are the mean over both strands.

    Parameters
    ----------
    network
        Used as it is, in eval mode, on its device.
    sequences
        Codes of the sequences; the result does not depend on their order.
    branches
        Branches to evaluate.
    """
    device = network.mixing.device
    average = network.config.strands == "average"
    network.eval()
    batches = batch_indices([len(codes) for codes in sequences], PREDICTION_BATCH)

    def predict(index: npt.NDArray[np.int64]) -> Tensor:
        forward = [sequences[i] for i in index]
        strands = [forward]
        if average:
            strands.append([reverse_complement(codes) for codes in forward])
        outputs = []
        for strand in strands:
            tensors = {name: value.to(device) for name, value in pad(strand).items()}
            outputs.append(network.branch_outputs(**tensors, branches=branches))
        return normalized(torch.stack(outputs).mean(dim=0), network.config.task).cpu()

    by_batch = list(shared_map(predict, batches))
    # Back from the order of the batches to that of the sequences.
    order = torch.cat([torch.from_numpy(index) for index in batches])
    return torch.cat(by_batch, dim=1)[:, order.argsort()]


@torch.no_grad()
def predict_outputs(
    network: TitansDNANetwork, sequences: Sequence[Codes], device: str
) -> Float[Tensor, "rows outputs"]:
    """Return the combined outputs, in double precision; the network is left on the CPU."""
    network.to(pick_device(device))
    try:
        outputs = predict_branches(network, sequences)
    finally:
        network.cpu()
    return combined(outputs.double(), network.mixing.double(), network.config.task)


def titans_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean loss of the titans branch."""
    return (_branch_losses(network, "titans", batch) * batch["weight"]).mean()


def _all_branches_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the sum of the branches' own mean losses: each is trained by itself."""
    outputs = network.branch_outputs(batch["codes"], batch["mask"])
    losses = row_losses(outputs, batch["target"], network.config.task)
    loss: Tensor = (losses.sum(dim=0) * batch["weight"]).mean()
    return loss


def _summed_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed loss of the combined outputs, and the weight of the rows."""
    outputs = network(batch["codes"], batch["mask"])
    losses = row_losses(outputs, batch["target"], network.config.task)
    return (losses * batch["weight"]).sum(), batch["weight"].sum()


def _mean_branch_loss(
    network: TitansDNANetwork, branch: str
) -> Callable[[object, dict[str, Tensor]], Tensor]:
    """Return a function of the mean loss of one branch; its first argument is ignored."""

    def loss(_: object, batch: dict[str, Tensor]) -> Tensor:
        return (_branch_losses(network, branch, batch) * batch["weight"]).mean()

    return loss


def _summed_branch_loss(
    network: TitansDNANetwork, branch: str
) -> Callable[[object, dict[str, Tensor]], tuple[Tensor, Tensor]]:
    """Return a function of the summed loss of one branch, and the weight of the rows."""

    def loss(_: object, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        losses = _branch_losses(network, branch, batch)
        return (losses * batch["weight"]).sum(), batch["weight"].sum()

    return loss


def _branch_losses(network: TitansDNANetwork, branch: str, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of one branch for each row."""
    logits = network.logits_of(branch, network.encode(batch["codes"], batch["mask"]))
    task = network.config.task
    return row_losses(normalized(logits, task), batch["target"], task)
