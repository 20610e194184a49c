"""Base class of the DNA classifier and regressor: training, prediction, model folders."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_seq.bundles import Bundle, load_bundle, load_weights, save_bundle
from titans_seq.config import VARIANTS, Variant, record_from_table, table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.batches import WeightedSequences
from titans_seq.dna.learning.calibration import describe_calibration
from titans_seq.dna.learning.fitting import (
    fit_network,
    fit_one_pass,
    fit_regressions,
    predict_outputs,
)
from titans_seq.dna.learning.motifs import initialize_motifs
from titans_seq.dna.learning.network import (
    BRANCHES,
    STRAND_MODES,
    DNANetworkConfig,
    StrandMode,
    TitansDNANetwork,
)
from titans_seq.dna.learning.targets import Target, split_validation
from titans_seq.dna.learning.tokens import token_length
from titans_seq.dna.pretraining import load_pretrained
from titans_seq.dna.reading.records import OnError
from titans_seq.dna.streaming.stream import WindowGrid, WindowPrediction, predict_file
from titans_seq.exceptions import BundleError, ConfigError, DataError
from titans_seq.training import TrainSettings, broadcast_from_rank0, seeded, world

_MAX_TRAINING_LETTERS = 12_000_000
"""Most letters of all epochs together, unless ``max_epochs`` is set."""

_MAX_TRAINING_STEPS = 1_500
"""Most batches of all epochs together, unless ``max_epochs`` is set."""

_EPOCH_RANGE = (4, 60)
"""Fewest and most epochs, unless ``max_epochs`` is set."""

_MAX_POSITIONS = 1024
"""Most bases from either end whose positions are distinguished."""

_MIN_HELD_OUT = 20
"""Fewest held-out rows; fewer would choose by chance."""


class TitansDNAEstimator(BaseEstimator):
    """Base of the DNA estimators; :class:`TitansDNAClassifier` documents the parameters.

    A subclass defines the meaning of the network's outputs: ``_kind`` names its model folders,
    ``_outputs`` and ``_restore_outputs`` write and read the description of the outputs, and
    ``_outputs_text`` puts it into words.
    """

    _kind = ""
    _seed: int | None = None

    network_: TitansDNANetwork
    history_: dict[str, Any]
    calibration_: dict[str, float]
    loss_curve_: list[float]
    motifs_: list[str]
    n_iter_: int

    def __init__(
        self,
        *,
        variant: Variant = "mag",
        dim: int = 64,
        layers: int = 2,
        tokens: str = "motif",
        init: Any = None,
        reverse_complement: str = "auto",
        max_epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 8,
        tol: float = 0.0,
        warm_start: bool = False,
        min_length: int = 1,
        random_state: Any = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.variant = variant
        self.dim = dim
        self.layers = layers
        self.tokens = tokens
        self.init = init
        self.reverse_complement = reverse_complement
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.min_length = min_length
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _check_parameters(self) -> None:
        """Check the parameters of the constructor.

        Raises
        ------
        ConfigError
            If one is outside its range; the message names it, its value, and what is expected.
        """
        choices = {"variant": VARIANTS, "reverse_complement": ("auto", *STRAND_MODES)}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        token_length(self.tokens)
        for name in ("dim", "layers", "batch_size", "max_epochs", "n_iter_no_change", "min_length"):
            value = getattr(self, name)
            if value is None and name == "max_epochs":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, got {value!r}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        for name in ("tol", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        for name in ("validation_fraction", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}"
                )
        threshold = getattr(self, "threshold", None)
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"threshold must be None or from 0 to 1, got {threshold!r}")

    def _continues(self, partial: bool) -> bool:
        """Return whether a training continues the last one."""
        return hasattr(self, "network_") and (partial or self.warm_start)

    def _train(
        self,
        sequences: Sequence[Codes],
        target: Target,
        weights: npt.NDArray[np.float32],
        *,
        partial: bool,
    ) -> None:
        """Train a network, from the start or from where the last training ended.

        Parameters
        ----------
        sequences, target, weights
            Training data; sequences shorter than ``min_length`` are left out.
        partial
            Make one pass over all rows without validation, continuing the last training.

        Raises
        ------
        ConfigError
            If a parameter is outside its range.
        DataError
            If all sequences are too short, or the outputs differ from those of before.
        """
        self._check_parameters()
        kept = self._long_enough(sequences)
        target = target._replace(values=target.values[kept])
        data = WeightedSequences([sequences[i] for i in kept], target.values, weights[kept])
        continues = self._continues(partial)
        previous_losses = self.loss_curve_ if continues else []
        if not continues or self._seed is None:
            state = self.random_state
            self._seed = broadcast_from_rank0(lambda: int(check_random_state(state).randint(2**31)))
        settings = self._train_settings(data.sequences)
        fraction = 0.0 if partial else self._validation_fraction(len(data.sequences))
        # The same rows are held out each time, so that none of them was ever trained on.
        training, validation = split_validation(data, target, fraction, self._seed)
        if continues:
            self._check_same_outputs(target)
            networks = [self.network_]
        else:
            networks = self._new_networks(data.sequences, target, validation, self._seed)
        batch_size = self.batch_size * world().size
        epoch_seed = (self._seed + len(previous_losses)) % 2**31
        if partial:
            self.network_ = networks[0]
            self.motifs_ = getattr(self, "motifs_", [])
            one_pass = dataclasses.replace(
                settings, max_epochs=1, schedule="constant", warmup_fraction=0.0,
                average_weights=False,
            )  # fmt: skip
            result = fit_one_pass(
                self.network_, training, one_pass, batch_size=batch_size, seed=epoch_seed
            )
        else:
            self.network_ = fit_regressions(
                networks, training, validation, settings, seed=self._seed
            )
            if not continues:
                pretrained = self.init is not None
                self.motifs_ = (
                    [] if pretrained else initialize_motifs(self.network_, training.sequences)
                )
            result = fit_network(
                self.network_, training, validation, settings,
                batch_size=batch_size, seed=epoch_seed,
            )  # fmt: skip
        self.network_.cpu()
        self.history_ = result.history.to_table()
        self.calibration_ = result.calibration
        self.loss_curve_ = previous_losses + [e.train_loss for e in result.history.epochs]
        self.n_iter_ = len(self.loss_curve_)

    def _long_enough(self, sequences: Sequence[Codes]) -> npt.NDArray[np.int64]:
        """Return the indices of the sequences with at least ``min_length`` letters."""
        kept = np.flatnonzero([len(codes) >= self.min_length for codes in sequences])
        if not len(kept):
            raise DataError(
                f"no sequence has min_length={self.min_length} letters; the longest has "
                f"{max(map(len, sequences))}"
            )
        return kept

    def _validation_fraction(self, rows: int) -> float:
        """Return the fraction of the rows to hold out; 0 if they would be too few."""
        fraction = float(self.validation_fraction)
        return fraction if rows * self.validation_fraction >= _MIN_HELD_OUT else 0.0

    def _train_settings(self, sequences: Sequence[Codes]) -> TrainSettings:
        """Return the duration and the rate of a training on these sequences."""
        return TrainSettings(
            max_epochs=self.max_epochs or default_epochs(sequences, self.batch_size * world().size),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.n_iter_no_change if self.early_stopping else None,
            min_improvement=self.tol,
            device=self.device,
            average_weights=True,
            progress=bool(self.verbose),
        )

    def _new_networks(
        self, sequences: Sequence[Codes], target: Target, validation: WeightedSequences, seed: int
    ) -> list[TitansDNANetwork]:
        """Return a network for each strand mode among which held-out rows are to choose."""
        modes: tuple[StrandMode, ...] = (cast("StrandMode", self.reverse_complement),)
        if self.reverse_complement == "auto":
            modes = ("average", "none") if validation.sequences else ("none",)
        networks = []
        for mode in modes:
            config = DNANetworkConfig(
                outputs=len(target.names),
                places=min(_MAX_POSITIONS, max(map(len, sequences))),
                task=target.task,
                tokens=self.tokens,
                strands=mode,
                variant=self.variant,
                dim=self.dim,
                layers=self.layers,
                dropout=self.dropout,
            )
            with seeded(seed):
                networks.append(TitansDNANetwork(config))
            if self.init is not None:
                load_pretrained(networks[-1], self.init)
        return networks

    def _check_same_outputs(self, target: Target) -> None:
        """Raise if a training would continue with other outputs than before."""
        task = self.network_.config.task
        names: Any = getattr(self, "names_", getattr(self, "classes_", None))
        if task != target.task or not np.array_equal(names, target.names):
            raise DataError(
                f"the network was trained for {task} {np.asarray(names).tolist()}, not for "
                f"{target.task} {target.names.tolist()}; fit a new one (warm_start=False)"
            )

    def _predict_outputs(self, X: Any) -> tuple[Tensor, list[Codes]]:
        """Return the combined outputs of the network, and the codes of the sequences."""
        check_is_fitted(self)
        sequences = encode_all(X)
        return predict_outputs(self.network_, sequences, self.device), sequences

    def predict_stream(
        self,
        path: str | os.PathLike[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        carry: bool = False,
        on_error: OnError = "stop",
        refused: str | os.PathLike[str] | None = None,
    ) -> Iterator[WindowPrediction]:
        """Yield a prediction for each window of each record of a FASTA file.

        Memory does not grow with the length of a record. The whole file is checked before the
        first prediction is yielded.

        Parameters
        ----------
        path
            File, plain or compressed by gzip or bgzip; ``-`` is standard input.
        window
            Letters of a window; None: each record is one window, of at most 200,000 letters.
        stride
            Letters from the start of one window to the next; None: the window length. Windows
            are read until one reaches the end of the record; the last may be shorter.
        carry
            Carry the memory along a record, from window to window, instead of resetting it for
            each. Windows may not overlap, so there is no stride.
        on_error
            ``stop`` at an invalid record, or ``skip`` it.
        refused
            FASTA file to write skipped records to, see
            :func:`titans_seq.dna.reading.records.checked_fasta`.

        Raises
        ------
        DataError
            If the file is invalid, or a record of it and ``on_error`` is ``stop``.
        ConfigError
            If ``window``, ``stride`` and ``carry`` do not go together.
        """
        check_is_fitted(self)
        grid = WindowGrid.checked(window, stride, carry=carry)
        return predict_file(self, path, grid, on_error=on_error, refused=refused)

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the fitted estimator to a folder of five files, without pickle.

        Parameters
        ----------
        folder
            A new or empty folder.
        force
            Replace an existing model.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ConfigError
            If the folder contains something else, or a setting cannot be written as JSON.
        """
        check_is_fitted(self)
        parameters = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in self.get_params().items()
            if name != "device" and isinstance(value, str | int | float | os.PathLike | None)
        }
        save_bundle(
            folder,
            kind=self._kind,
            config={"parameters": parameters, "network": table_from_record(self.network_.config)},
            tensors=self.network_.state_dict(),
            preprocess=self._outputs(),
            metrics={
                "training": self.history_,
                "calibration": self.calibration_,
                "motifs": self.motifs_,
            },
            card=self._model_card(),
            force=force,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read an estimator that :meth:`save` wrote; it runs on any device.

        Raises
        ------
        BundleError
            If the folder is no model folder, is damaged, or contains another kind of model.
        """
        bundle = load_bundle(folder, cls._kind)
        try:
            return cls._from_bundle(bundle, str(folder))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BundleError(f"{folder} is damaged: {error}") from error

    @classmethod
    def _from_bundle(cls, bundle: Bundle, where: str) -> Self:
        """Return the estimator of a model folder."""
        estimator = cls(**bundle.config["parameters"])
        config = record_from_table(DNANetworkConfig, bundle.config["network"], where)
        network = TitansDNANetwork(config)
        load_weights(network, bundle.tensors)
        estimator._restore_outputs(bundle.preprocess)
        estimator.history_ = bundle.metrics["training"]
        estimator.calibration_ = bundle.metrics["calibration"]
        estimator.motifs_ = bundle.metrics["motifs"]
        estimator.loss_curve_ = [epoch["train_loss"] for epoch in estimator.history_["epochs"]]
        estimator.n_iter_ = len(estimator.loss_curve_)
        estimator.network_ = network.eval()
        return estimator

    def _model_card(self) -> str:
        """Return a short description of the fitted estimator, in Markdown."""
        losses = [epoch["validation_loss"] for epoch in self.history_["epochs"]]
        shown = ", ".join("none" if loss is None else f"{loss:.3f}" for loss in losses)
        branches = zip(BRANCHES, self.network_.mixing.tolist(), strict=True)
        lines = [
            f"# DNA {type(self).__name__}",
            "",
            self._outputs_text(),
            f"Strands: `reverse_complement={self.network_.config.strands}`; tokens: "
            f"`{self.tokens}`.",
            f"Backbone: {self.variant}, {self.layers} layers of width {self.dim}.",
            f"Trained for {self.n_iter_} epochs; loss on held-out rows by epoch: {shown}.",
            f"Weights of the branches: {', '.join(f'{name} {w:.2f}' for name, w in branches)}.",
        ]
        if self.motifs_:
            lines.append(f"Motifs of the largest weight: {', '.join(self.motifs_[:10])}.")
        if self.calibration_:
            lines.append(f"Calibration: {describe_calibration(self.calibration_)}.")
        lines += ["", "Sequences may contain any IUPAC letter in either case; U is read as T."]
        return "\n".join(lines) + "\n"

    def _outputs(self) -> dict[str, Any]:
        """Return the description of the outputs as JSON values."""
        raise NotImplementedError

    def _restore_outputs(self, outputs: dict[str, Any]) -> None:
        """Set the attributes that :meth:`_outputs` describes."""
        raise NotImplementedError

    def _outputs_text(self) -> str:
        """Return a sentence that describes the outputs."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is a list of strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def default_epochs(sequences: Sequence[Codes], batch_size: int) -> int:
    """Return how many epochs suit the data: fewer, the more there is of it."""
    fewest, most = _EPOCH_RANGE
    by_letters = _MAX_TRAINING_LETTERS // sum(map(len, sequences))
    by_steps = _MAX_TRAINING_STEPS * batch_size // len(sequences)
    return min(most, max(fewest, min(by_letters, by_steps)))
