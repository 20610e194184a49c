"""Base class of the token models: building the network, saving and loading."""

from __future__ import annotations

import os
from typing import ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.bundles import load_bundle, load_weights, save_bundle
from titans_seq.config import TitansConfig
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.language.network import TokenNetwork
from titans_seq.training import History, seeded


class TokenEstimator(BaseEstimator):
    """An estimator with a :class:`TokenNetwork`; a subclass defines the parameters."""

    KIND: ClassVar[str]
    """Kind of a saved model in its ``config.json``."""

    TITLE: ClassVar[str]
    """Heading of the model card."""

    SIZES: ClassVar[tuple[int, int]]
    """Number of different tokens, and of classes predicted at each."""

    COUNTS: ClassVar[tuple[str, ...]]
    """Parameters that must be at least 1."""

    history_: History | None
    network_: TokenNetwork

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to a folder: JSON, safetensors and a card, without pickle.

        Raises
        ------
        BundleError
            If the folder contains something that may not be replaced.
        """
        check_is_fitted(self, "network_")
        settings = self.get_params()
        if not isinstance(settings["random_state"], int | None):
            settings["random_state"] = None
        config = self._config()
        save_bundle(
            folder, kind=self.KIND, config=settings, tensors=self.network_.state_dict(),
            preprocess={}, force=force,
            metrics={"training": {} if self.history_ is None else self.history_.to_table()},
            card=f"# {self.TITLE}\n\nBackbone: {config.variant}, {config.layers} layers of width "
            f"{config.dim}, a window of {config.window} tokens.\n",
        )  # fmt: skip

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a model that :meth:`save` wrote; it runs on the CPU.

        Raises
        ------
        BundleError
            If the folder is no model folder, contains another kind of model, or is damaged.
        """
        bundle = load_bundle(folder, cls.KIND)
        try:
            model = cls(**bundle.config)
            model.network_ = TokenNetwork(model._config(), *cls.SIZES)
            load_weights(model.network_, bundle.tensors)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BundleError(f"{folder} is damaged: {error}") from error
        model.network_.eval()
        model.history_ = None
        return model

    def _new_network(self) -> tuple[TokenNetwork, int]:
        """Return a network to train, and the seed of the training.

        Raises
        ------
        ConfigError
            If a parameter is outside its range.
        """
        for name in self.COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        params = self.get_params()
        seed = int(check_random_state(params["random_state"]).randint(2**31))
        with seeded(seed):
            return TokenNetwork(self._config(), *self.SIZES), seed

    def _config(self) -> TitansConfig:
        """Return the settings of the backbone; a segment is as long as the window."""
        params = self.get_params()
        names = ("dim", "layers", "heads", "variant", "window", "rule", "memory_depth")
        return TitansConfig(segment_len=params["window"], **{name: params[name] for name in names})
