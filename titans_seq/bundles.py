"""Model folders: save a trained model, and load it with its files checked.

A model folder has five files: ``config.json`` (kind of model, settings, sha256 of the other
files), ``model.safetensors`` (weights), ``preprocess.json`` (statistics of the data: scales,
labels), ``metrics.json`` (course of the training) and ``card.md`` (a description for people).
None is a pickle, so loading a model runs no code from its folder; weights are stored for the CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import file_digest, write_json, write_whole_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

_VERSION = 1
"""Layout of a model folder; others are refused."""

CONFIG, WEIGHTS, PREPROCESS, METRICS, CARD = (
    "config.json",
    "model.safetensors",
    "preprocess.json",
    "metrics.json",
    "card.md",
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Content of a model folder."""

    config: dict[str, Any]
    """Settings of the estimator."""

    tensors: dict[str, Tensor]
    """Weights by name, on the CPU."""

    preprocess: dict[str, Any]
    """Statistics of the training data, such as scales and labels."""

    metrics: dict[str, Any]
    """Course of the training."""


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
    """Write a model folder atomically.

    Parameters
    ----------
    folder
        A new or empty folder, or with ``force`` a model folder to replace.
    kind
        Kind of model, such as ``"forecaster"``, which :func:`load_bundle` must be given.
    config, tensors, preprocess, metrics
        See :class:`Bundle`; values must be JSON types.
    card
        The model card, in Markdown.
    force
        Replace an existing model.

    Raises
    ------
    BundleError
        If ``folder`` has content that may not be replaced.
    """
    from safetensors.torch import save

    try:
        with write_whole_folder(folder, force=force, marker=CONFIG) as target:
            write_json(target / PREPROCESS, dict(preprocess))
            write_json(target / METRICS, dict(metrics))
            (target / CARD).write_text(card, "utf-8")
            # Copies, because safetensors refuses tensors that share memory.
            copies = {
                name: value.detach().to("cpu", copy=True).contiguous()
                for name, value in tensors.items()
            }
            (target / WEIGHTS).write_bytes(save(copies))
            head = {"format": kind, "version": _VERSION, "config": dict(config)}
            write_json(target / CONFIG, {**head, "sha256": _digests(target)})
    except ConfigError as error:
        raise BundleError(str(error)) from error


def add_metrics(folder: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
    """Add metrics to a model folder."""
    path = Path(folder)
    write_json(path / METRICS, {**_read_json(path / METRICS), **metrics})
    write_json(path / CONFIG, {**_read_json(path / CONFIG), "sha256": _digests(path)})


def load_bundle(folder: str | os.PathLike[str], kind: str) -> Bundle:
    """Read a model folder of a given kind.

    Folders written before there were digests are loaded without that check.

    Raises
    ------
    BundleError
        If it is not a model folder, has another kind or layout, or a file is missing, damaged
        or not the one that was saved; the message names the folder and the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise BundleError(f"model folder {folder} {problem}; name the folder that `fit` wrote")
    if not (path / CONFIG).is_file():
        raise BundleError(f"{folder} is not a model folder: it has no {CONFIG}")
    head = _read_json(path / CONFIG)
    saved_kind, version = head.get("format"), head.get("version")
    if saved_kind != kind:
        raise BundleError(f"{folder} is a model of kind {saved_kind!r}, not {kind!r}")
    if version != _VERSION:
        raise BundleError(
            f"{folder} has layout {version!r}, this titans-seq reads {_VERSION}: update it"
        )
    if not isinstance(head.get("config"), dict):
        raise BundleError(f"{path / CONFIG} is damaged: 'config' must be a table of settings")
    preprocess, metrics = _read_json(path / PREPROCESS), _read_json(path / METRICS)
    try:
        tensors = load_file(path / WEIGHTS, device="cpu")
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: {WEIGHTS} is missing") from error
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path / WEIGHTS} is damaged: {error}") from error
    _check_digests(path, head.get("sha256", {}))
    return Bundle(config=head["config"], tensors=tensors, preprocess=preprocess, metrics=metrics)


def bundle_kind(folder: str | os.PathLike[str]) -> str | None:
    """Return the kind of the model in a folder; None if it is not a model folder."""
    try:
        head = json.loads((Path(folder) / CONFIG).read_text("utf-8"))
        return str(head["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a model folder into a new module of the same configuration.

    Raises
    ------
    ValueError
        If a weight is missing or unknown, has another shape or dtype than the module's, or is
        not finite; the message names it.
    """
    expected = module.state_dict()
    for name in sorted(weights.keys() ^ expected.keys()):
        problem = "unknown" if name in weights else "missing"
        raise ValueError(f"the weight {name} is {problem}")
    for name, pattern in expected.items():
        weight = weights[name]
        if weight.shape != pattern.shape:
            raise ValueError(
                f"the weight {name} must have shape {tuple(pattern.shape)}, "
                f"got {tuple(weight.shape)}"
            )
        if weight.dtype != pattern.dtype:
            raise ValueError(
                f"the weight {name} must be of type {pattern.dtype}, got {weight.dtype}"
            )
        if not weight.isfinite().all():
            raise ValueError(f"the weight {name} must be finite, but has NaN or infinite values")
    module.load_state_dict(weights)


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that a program reads, by name."""
    return {name: file_digest(folder / name) for name in (WEIGHTS, PREPROCESS, METRICS)}


def _check_digests(folder: Path, saved: Any) -> None:
    """Refuse a file that is not the one that was saved with the configuration."""
    if not isinstance(saved, dict):
        raise BundleError(f"{folder / CONFIG} is damaged: 'sha256' must be a table of digests")
    actual = _digests(folder)
    for name, digest in saved.items():
        if actual.get(name) != digest:
            raise BundleError(
                f"{folder / str(name)} is damaged, or belongs to another model: its sha256 must be "
                f"{digest}, got {actual.get(name)}"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path.parent}: {path.name} is missing") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} is damaged: it must hold a JSON object")
    return value
