"""What the classifier and the regressor of DNA share: training, reading, files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.bundles import Bundle, load_bundle, save_bundle
from titans_seq.config import Variant, record_from_table, table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.fitting import fit_network, pass_once
from titans_seq.dna.learning.initial import take_over
from titans_seq.dna.learning.network import DNANetworkConfig, TitansDNANetwork
from titans_seq.dna.learning.readers import read
from titans_seq.dna.learning.start import plant_motifs, start
from titans_seq.dna.learning.targets import Target, part_rows
from titans_seq.dna.learning.tasks import mix
from titans_seq.dna.learning.windows import Labelled
from titans_seq.dna.reading.records import OnError
from titans_seq.dna.settings import (
    check_settings,
    describe,
    held_out_share,
    network_config,
    one_pass,
    strand_ways,
    train_settings,
)
from titans_seq.dna.streaming.stream import WindowGrid, WindowPrediction, predict_file
from titans_seq.exceptions import BundleError, DataError
from titans_seq.training import broadcast_from_rank0, pick_device, seeded, world


class TitansDNAEstimator(BaseEstimator):
    """Base of the estimators of DNA; :class:`TitansDNAClassifier` says what parameters mean.

    What a subclass adds is the meaning of the network's outputs: ``_kind`` names its model
    folders, ``_outputs_text`` and ``_outputs`` describe the outputs, ``_restore`` reads them.
    """

    _kind = ""
    _seed: int | None = None

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

    network_: TitansDNANetwork
    history_: dict[str, Any]
    calibration_: dict[str, float]
    loss_curve_: list[float]
    motifs_: list[str]
    n_iter_: int

    def _long_enough(self, rows: Sequence[Codes]) -> npt.NDArray[np.bool_]:
        """Return which sequences have ``min_length`` letters; some must.

        Raises
        ------
        ConfigError
            If a setting is outside its range.
        DataError
            If all are shorter.
        """
        check_settings(self)
        kept = np.array([len(row) >= self.min_length for row in rows])
        if not kept.any():
            longest = max(map(len, rows))
            raise DataError(
                f"no sequence has min_length={self.min_length} letters; the longest has {longest}"
            )
        return kept

    def _learn(
        self, rows: list[Codes], target: Target, weights: npt.NDArray[np.float32], *, partial: bool
    ) -> None:
        """Train on sequences, from the start or from where the last training ended.

        Parameters
        ----------
        rows, target, weights
            What to learn, and what each row counts.
        partial
            One pass over all rows, none held out, from where the last training ended.
        """
        going_on = hasattr(self, "network_") and (partial or self.warm_start)
        before = self.loss_curve_ if going_on else []
        if not going_on or self._seed is None:
            state = self.random_state
            self._seed = broadcast_from_rank0(lambda: int(check_random_state(state).randint(2**31)))
        settings = train_settings(self, rows)
        share = 0.0 if partial else held_out_share(self.validation_fraction, len(rows))
        # The same rows are held out each time, so that none of them was ever learnt from.
        learn, held = part_rows(Labelled(rows, target.values, weights), target, share, self._seed)
        if going_on:
            self._check_same(target)
        how = {
            "batch_size": self.batch_size * world().size,
            "seed": (self._seed + len(before)) % 2**31,
        }
        networks = [self.network_] if going_on else self._new_networks(rows, target, held)
        if partial:
            self.network_ = networks[0]
            self.motifs_ = getattr(self, "motifs_", [])
            fitted = pass_once(self.network_, learn, one_pass(settings), **how)
        else:
            self.network_ = start(networks, learn, held, settings, seed=self._seed)
            if not going_on:
                self.motifs_ = (
                    [] if self.init is not None else plant_motifs(self.network_, learn.rows)
                )
            fitted = fit_network(self.network_, learn, held, settings, **how)
        self.network_.cpu()
        self.history_ = fitted.history.to_table()
        self.calibration_ = fitted.calibration
        self.loss_curve_ = before + [epoch.train_loss for epoch in fitted.history.epochs]
        self.n_iter_ = len(self.loss_curve_)

    def _new_networks(
        self, rows: Sequence[Codes], target: Target, held: Labelled
    ) -> list[TitansDNANetwork]:
        """Return a network for each way to treat strands that comes into question."""
        assert self._seed is not None
        networks = []
        for way in strand_ways(self, bool(held.rows)):
            config = network_config(self, rows, target.task, len(target.names), way)
            with seeded(self._seed):
                networks.append(TitansDNANetwork(config))
            if self.init is not None:
                take_over(networks[-1], self.init)
        return networks

    def _check_same(self, target: Target) -> None:
        """Refuse to go on training with other outputs than before."""
        task = self.network_.config.task
        known: Any = getattr(self, "names_", getattr(self, "classes_", None))
        if task != target.task or not np.array_equal(known, target.names):
            raise DataError(
                f"the network was trained for {task} {np.asarray(known).tolist()}, not for "
                f"{target.task} {target.names.tolist()}; fit a new one (warm_start=False)"
            )

    def _answers(self, X: Any) -> tuple[torch.Tensor, list[Codes]]:
        """Return the joint answer of the readers for each sequence, and its codes."""
        check_is_fitted(self)
        rows = encode_all(X)
        return self._joint(rows), rows

    @torch.no_grad()
    def _joint(self, rows: Sequence[Codes]) -> torch.Tensor:
        """Return the joint answer of the readers, (rows, outputs)."""
        self.network_.to(pick_device(self.device))
        try:
            readings = read(self.network_, rows)
        finally:
            self.network_.cpu()
        return mix(readings.double(), self.network_.mixing.double(), self.network_.config.task)

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
        """Write the fitted estimator as a folder of five files, none of them a pickle.

        Parameters
        ----------
        folder
            A new or empty folder.
        force
            Replace a model that stands there.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ConfigError
            If something else stands there, or a setting cannot be written as JSON.
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
            card=describe(self, self._outputs_text()),
            force=force,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read an estimator that :meth:`save` wrote; it runs on any device.

        Raises
        ------
        BundleError
            If the folder is not one, is damaged, or holds another kind of model.
        """
        bundle = load_bundle(folder, cls._kind)
        try:
            return cls._from_bundle(bundle, str(folder))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BundleError(f"{folder} is damaged: {error}") from error

    @classmethod
    def _from_bundle(cls, bundle: Bundle, where: str) -> Self:
        """Build the estimator of a model folder."""
        estimator = cls(**bundle.config["parameters"])
        config = record_from_table(DNANetworkConfig, bundle.config["network"], where)
        network = TitansDNANetwork(config)
        network.load_state_dict(bundle.tensors)
        estimator._restore(bundle.preprocess)
        estimator.history_ = bundle.metrics["training"]
        estimator.calibration_ = bundle.metrics["calibration"]
        estimator.motifs_ = bundle.metrics["motifs"]
        estimator.loss_curve_ = [epoch["train_loss"] for epoch in estimator.history_["epochs"]]
        estimator.n_iter_ = len(estimator.loss_curve_)
        estimator.network_ = network.eval()
        return estimator

    def _outputs(self) -> dict[str, Any]:
        """Return what the outputs mean, as plain values for a file."""
        raise NotImplementedError

    def _outputs_text(self) -> str:
        """Return a sentence on what the outputs mean."""
        raise NotImplementedError

    def _restore(self, outputs: dict[str, Any]) -> None:
        """Take over what :meth:`_outputs` wrote."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that inputs are strings, one a sample."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags
