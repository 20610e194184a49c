"""Where a network begins: pre-trained tokens and backbone instead of random ones."""

from __future__ import annotations

import dataclasses
import os

from titans_seq.bundles import load_bundle
from titans_seq.dna.learning.network import TitansDNANetwork
from titans_seq.dna.learning.tokens import EncoderConfig
from titans_seq.exceptions import BundleError, ConfigError

PRETRAINED_KIND = "titans-dna-pretrained"
"""What ``config.json`` of a pre-trained model says it is."""


def take_over(network: TitansDNANetwork, folder: str | os.PathLike[str]) -> None:
    """Give a network the tokens and the backbone of a pre-trained model.

    Raises
    ------
    BundleError
        If the folder is not one that :func:`titans_seq.dna.pretrain` wrote, or is damaged.
    ConfigError
        If the network has other sizes than the pre-trained model; the message names them.
    """
    bundle = load_bundle(folder, PRETRAINED_KIND)
    names = [field.name for field in dataclasses.fields(EncoderConfig) if field.name != "dropout"]
    try:
        found = {name: bundle.config["network"][name] for name in names}
    except (KeyError, TypeError) as error:
        raise BundleError(f"{folder} is damaged: its settings lack {error}") from error
    other = {name: want for name, want in found.items() if getattr(network.config, name) != want}
    if other:
        wanted = ", ".join(f"{name}={value!r}" for name, value in other.items())
        raise ConfigError(f"init={str(folder)!r} was pre-trained with {wanted}: set the same here")
    for part in ("tokens", "backbone"):
        own = {
            name.removeprefix(f"{part}."): value
            for name, value in bundle.tensors.items()
            if name.startswith(f"{part}.")
        }
        try:
            getattr(network.titans, part).load_state_dict(own)
        except RuntimeError as error:
            raise BundleError(f"{folder} is damaged: {error}") from error
