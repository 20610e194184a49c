"""The folder that a trained model lives in.

A model bundle is five files: ``config.json`` (what kind of model, which settings),
``model.safetensors`` (weights), ``preprocess.json`` (what was learnt about the data: scales,
labels), ``metrics.json`` (how training went) and ``card.md`` (the same for a reader). None
is a pickle, so that loading one runs no code of it; weights are stored for the CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import write_json, write_whole_folder

if TYPE_CHECKING:
    from torch import Tensor

BUNDLE_VERSION = 1
"""Layout of a bundle; one that was written by a later layout is refused."""

CONFIG, WEIGHTS, PREPROCESS, METRICS, CARD = (
    "config.json",
    "model.safetensors",
    "preprocess.json",
    "metrics.json",
    "card.md",
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a model folder holds."""

    config: dict[str, Any]
    """Settings of the estimator."""

    tensors: dict[str, Tensor]
    """Weights by name, on the CPU."""

    preprocess: dict[str, Any]
    """What was learnt about the data besides the weights."""

    metrics: dict[str, Any]
    """How training went."""


def save_bundle(
    folder: str | os.PathLike[str],
    *,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    preprocess: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: str,
    force: bool = False,
) -> None:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    folder
        A new or empty folder, or with ``force`` a model folder to replace.
    kind
        What :func:`load_bundle` must be asked for, such as ``"forecaster"``.
    config, tensors, preprocess, metrics
        See :class:`Bundle`; values that JSON can hold.
    card
        The model card, in Markdown.
    force
        Replace the model that is there.

    Raises
    ------
    BundleError
        If ``folder`` holds something that may not be replaced.
    """
    from safetensors.torch import save

    try:
        with write_whole_folder(folder, force=force, marker=CONFIG) as target:
            head = {"format": kind, "version": BUNDLE_VERSION, "config": dict(config)}
            write_json(target / CONFIG, head)
            write_json(target / PREPROCESS, dict(preprocess))
            write_json(target / METRICS, dict(metrics))
            (target / CARD).write_text(card, "utf-8")
            whole = {
                name: value.detach().to("cpu", copy=True).contiguous()
                for name, value in tensors.items()
            }
            (target / WEIGHTS).write_bytes(save(whole))
    except ConfigError as error:
        raise BundleError(str(error)) from error


def load_bundle(folder: str | os.PathLike[str], kind: str) -> Bundle:
    """Read a model folder that holds a ``kind``.

    Raises
    ------
    BundleError
        If it is no model folder, holds another kind, was written by a later version, or a
        file of it is missing or damaged; the message names the folder and the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = Path(folder)
    if not place.is_dir():
        what = "is a file" if place.exists() else "does not exist"
        raise BundleError(f"model folder {folder} {what}; name the folder that `fit` wrote")
    if not (place / CONFIG).is_file():
        raise BundleError(f"{folder} is not a model folder: it has no {CONFIG}")
    head = _read_json(place / CONFIG)
    found, version = head.get("format"), head.get("version")
    if found != kind:
        raise BundleError(f"{folder} holds a model of kind {found!r}, not {kind!r}")
    if version != BUNDLE_VERSION:
        raise BundleError(
            f"{folder} has layout {version!r}, this titans-seq reads {BUNDLE_VERSION}: update it"
        )
    if not isinstance(head.get("config"), dict):
        raise BundleError(f"{place / CONFIG} is damaged: no table 'config'")
    preprocess, metrics = _read_json(place / PREPROCESS), _read_json(place / METRICS)
    try:
        tensors = load_file(place / WEIGHTS, device="cpu")
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: {WEIGHTS} is missing") from error
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{place / WEIGHTS} is damaged: {error}") from error
    return Bundle(config=head["config"], tensors=tensors, preprocess=preprocess, metrics=metrics)


def bundle_kind(folder: str | os.PathLike[str]) -> str | None:
    """Return the kind of model that a folder holds; None if it is no model folder."""
    try:
        head = json.loads((Path(folder) / CONFIG).read_text("utf-8"))
        return str(head["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path.parent}: {path.name} is missing") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} is damaged: a table was expected")
    return value
