"""A scikit-learn classifier of DNA: strings in, labels out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.config import Variant, record_from_table, table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.checked import OnError
from titans_seq.dna.fitting import fit_network, read
from titans_seq.dna.inputs import check_labels, encode_all, hold_out, row_weights
from titans_seq.dna.network import DNANetworkConfig, TitansDNANetwork, mix
from titans_seq.dna.settings import check_settings, describe, epochs_for, held_out_share
from titans_seq.dna.stream import WindowPrediction, stream_rows
from titans_seq.dna.tiles import Grid
from titans_seq.dna.windows import Labelled
from titans_seq.exceptions import BundleError
from titans_seq.files import load_bundle, save_bundle
from titans_seq.training import TrainSettings, pick_device, seeded

BUNDLE_KIND = "titans-dna-classifier"
"""What ``config.json`` of a saved classifier says it is."""

MAX_PLACES = 1024
"""Bases from either end whose place is told apart, at most."""


class TitansDNAClassifier(ClassifierMixin, BaseEstimator):
    """Tell DNA sequences apart by class, with a Titans network trained from scratch.

    Sequences may be strings, Biopython ``Seq`` or ``SeqRecord``, or records of
    :func:`~titans_seq.dna.read_fasta`, of any lengths, with any IUPAC letters in either case;
    labels may be words, numbers or booleans.

    Parameters
    ----------
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention`` (no memory).
    dim
        Width of a token.
    layers
        Blocks of the backbone.
    reverse_complement
        ``none``: the strand matters. ``augment``: half of the sequences of each epoch are
        read from the other strand. ``average``: that, and predictions are the mean over both
        strands, so that a sequence and its reverse complement get the same answer.
    max_epochs
        Passes over the training sequences, at most. None: as many as make 1,500 batches or
        12 million letters, whichever is less, but 4 at least and 60 at most.
    batch_size
        Sequences of a batch; long ones come in smaller batches.
    learning_rate
        Peak step of AdamW.
    weight_decay
        Decay of AdamW.
    dropout
        Share of features that is dropped in training.
    class_weight
        What each class counts: None (all rows alike), ``balanced``, or a dict by label.
    validation_fraction
        Share of each class that is held out to choose the best epoch and to weigh the
        readers; 0, or fewer than 20 rows of it, holds out nothing.
    patience
        Epochs without a better held-out loss before training stops; None: never.
    random_state
        Seed of everything random; an int gives the same classifier each time.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    verbose
        1 shows a progress bar on standard error, if that is a terminal.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    network_ : TitansDNANetwork
        What was trained; it stays on the CPU between calls.
    history_ : dict
        Losses and times of the epochs, see :class:`titans_seq.training.History`.
    n_iter_ : int
        Epochs that were begun.
    """

    def __init__(
        self,
        *,
        variant: Variant = "mag",
        dim: int = 64,
        layers: int = 2,
        reverse_complement: Literal["none", "augment", "average"] = "none",
        max_epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.2,
        class_weight: Any = None,
        validation_fraction: float = 0.1,
        patience: int | None = 8,
        random_state: Any = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.variant = variant
        self.dim = dim
        self.layers = layers
        self.reverse_complement = reverse_complement
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on sequences ``X`` and their labels ``y``.

        Parameters
        ----------
        X
            Sequences, one an item.
        y
            A label for each.
        sample_weight
            What each sequence counts in the loss, at least 0; None: all alike.

        Raises
        ------
        DataError
            If a sequence is no DNA, or labels do not fit.
        ConfigError
            If a setting is outside its range.
        DivergedError
            If the loss became non-finite.
        """
        check_settings(self)
        rows = encode_all(X)
        self.classes_, targets = check_labels(y, len(rows))
        weights = row_weights(self.classes_, targets, self.class_weight, sample_weight)
        seed = int(check_random_state(self.random_state).randint(2**31))
        learn, held = hold_out(
            rows, targets, held_out_share(self.validation_fraction, len(rows)), seed
        )
        data = Labelled(rows, targets, weights)
        with seeded(seed):
            self.network_ = TitansDNANetwork(self._network_config(rows))
        history = fit_network(
            self.network_,
            data.at(learn),
            data.at(held),
            self._train_settings(rows),
            batch_size=self.batch_size,
            augment=self.reverse_complement != "none",
            average=self.reverse_complement == "average",
            seed=seed,
        )
        self.network_.cpu()
        self.history_ = history.to_table()
        self.n_iter_ = len(history.epochs)
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each class (columns, as in ``classes_``) for each sequence.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        DataError
            If a sequence is no DNA.
        """
        check_is_fitted(self)
        rows = encode_all(X)
        self.network_.to(pick_device(self.device))
        try:
            readings = read(self.network_, rows, average=self.reverse_complement == "average")
        finally:
            self.network_.cpu()
        proba = mix(readings.double(), self.network_.mixing.double()).exp()
        array: npt.NDArray[np.float64] = (proba / proba.sum(dim=-1, keepdim=True)).numpy()
        return array

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likeliest label of each sequence, as ``fit`` was given it."""
        best = self.predict_proba(X).argmax(axis=-1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

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

        Memory does not grow with the length of a record. The whole file is read, and refused
        if need be, before the first row comes.

        Parameters
        ----------
        path
            File, packed by gzip or bgzip or not; ``-`` is standard input.
        window
            Letters of a window; None: each record is one, of 200,000 letters at most.
        stride
            Letters from one window's begin to the next's; None: the window's own length. Every
            window that begins before the last reaches the record's end is read; the last may
            be shorter.
        carry
            Carry the memory along a record, from window to window, instead of beginning anew
            in each. Windows may not overlap, so there is no stride.
        on_error
            ``stop`` at a record that is refused, or ``skip`` it.
        refused
            FASTA file for skipped records, see :func:`titans_seq.dna.checked.checked_fasta`.

        Raises
        ------
        DataError
            If the file is refused, or a record of it and ``on_error`` is ``stop``.
        ConfigError
            If the windows cannot be as asked for.
        """
        check_is_fitted(self)
        grid = Grid.of(window, stride, carry=carry)
        return stream_rows(self, path, grid, on_error=on_error, refused=refused)

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the fitted classifier as a folder of five files, none of them a pickle.

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
            name: value
            for name, value in self.get_params().items()
            if name != "device" and isinstance(value, str | int | float | None)
        }
        save_bundle(
            folder,
            kind=BUNDLE_KIND,
            config={"parameters": parameters, "network": table_from_record(self.network_.config)},
            tensors=self.network_.state_dict(),
            preprocess={"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str},
            metrics={"training": self.history_},
            card=describe(self),
            force=force,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a classifier that :meth:`save` wrote; it runs on any device.

        Raises
        ------
        BundleError
            If the folder is not one, is damaged, or holds another kind of model.
        """
        bundle = load_bundle(folder, BUNDLE_KIND)
        try:
            classifier = cls(**bundle.config["parameters"])
            config = record_from_table(DNANetworkConfig, bundle.config["network"], str(folder))
            network = TitansDNANetwork(config)
            network.load_state_dict(bundle.tensors)
            dtype = np.dtype(bundle.preprocess["dtype"])
            classifier.classes_ = np.array(bundle.preprocess["classes"], dtype=dtype)
            classifier.history_ = bundle.metrics["training"]
            classifier.n_iter_ = len(classifier.history_["epochs"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BundleError(f"{folder} is damaged: {error}") from error
        classifier.network_ = network.eval()
        return classifier

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that inputs are strings, one a sample."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _network_config(self, rows: Sequence[Codes]) -> DNANetworkConfig:
        """Return the settings of a network for these sequences."""
        return DNANetworkConfig(
            classes=len(self.classes_),
            places=min(MAX_PLACES, max(map(len, rows))),
            variant=self.variant,
            dim=self.dim,
            layers=self.layers,
            dropout=self.dropout,
        )

    def _train_settings(self, rows: Sequence[Codes]) -> TrainSettings:
        """Return how long and how fast to train on these sequences."""
        return TrainSettings(
            max_epochs=self.max_epochs or epochs_for(rows, self.batch_size),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            device=self.device,
            average_weights=True,
            progress=bool(self.verbose),
        )
