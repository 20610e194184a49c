"""Options and steps of the commands that train a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

RANDOM_STATE = (
    click.option(
        "--seed",
        "random_state",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="The same seed gives the same model.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda, cuda:1 or mps.",
    ),
)
"""Options of every command that trains."""


def variant_option(default: str) -> Callable[[Any], Any]:
    """Return the option for the variant of the backbone."""
    return click.option(
        "--variant",
        type=click.Choice(["mac", "mag", "mal", "lmm", "attention"]),
        default=default,
        show_default=True,
        help="How memory and attention are combined.",
    )


OVERRIDES = click.option(
    "-s",
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another parameter of the Python class, such as dim=64; may be repeated.",
)


RESUME = click.option(
    "--resume", is_flag=True, help="Continue an interrupted training, if there is one."
)


def build(estimator: type[Any], values: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return an estimator with the values of a command's options and of ``-s NAME=VALUE``.

    Raises
    ------
    ConfigError
        If the estimator has no such parameter, or a value has another type than the default.
    """
    from titans_seq.evaluation.runs.overrides import read_settings

    model = estimator(**values)
    model.set_params(**read_settings(overrides, model.get_params()))
    return model


def check_model_out(model: Path, *, force: bool) -> None:
    """Check before the training that the model folder can be written."""
    from titans_seq.bundles import CONFIG
    from titans_seq.exceptions import BundleError, ConfigError
    from titans_seq.files import check_new_folder

    try:
        check_new_folder(model, force=force, marker=CONFIG)
    except ConfigError as error:
        raise BundleError(f"--model {error}") from error


def progress(ctx: click.Context) -> AbstractContextManager[None]:
    """Return a context that shows a bar for each training inside, unless ``-q`` was given."""
    from titans_seq.training import showing_progress

    quiet = int(ctx.find_root().meta.get("verbosity", 0)) < 0
    return nullcontext() if quiet else showing_progress()


@contextmanager
def checkpointed(
    model: Path,
    parameters: Mapping[str, Any],
    data: Sequence[Path | None],
    *,
    resume: bool,
    force: bool,
) -> Iterator[None]:
    """Keep checkpoints beside the model folder until it is written.

    Parameters
    ----------
    model
        The model folder; the folder of checkpoints has the same name with ``.checkpoints``.
    parameters
        Of the estimator; they must be equal for a training to resume.
    data
        Files of the training data; they must be equal for a training to resume.
    resume, force
        Resume from existing checkpoints, or replace them; without either there must be none.
    """
    from titans_seq.exceptions import ConfigError
    from titans_seq.files import file_digest, plain_values
    from titans_seq.training import checkpointing, has_checkpoints, remove_checkpoints

    folder = model.with_name(f"{model.name}.checkpoints")
    if has_checkpoints(folder) and not (resume or force):
        raise ConfigError(
            f"{folder} holds an interrupted training: --resume continues it, --force starts again"
        )
    about = {name: parameters[name] for name in parameters if name not in ("device", "verbose")}
    files = [file_digest(path) for path in data if path and str(path) != "-"]
    everything = plain_values({**about, "sha256 of the data": files})
    with hinting_at_resume(), checkpointing(folder, resume=resume, about=everything):
        yield
    remove_checkpoints(folder)


@contextmanager
def hinting_at_resume() -> Iterator[None]:
    """Add to an interruption that left a checkpoint how to continue."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not interruption.args:
            raise
        (message,) = interruption.args
        raise KeyboardInterrupt(f"{message}; the same command with --resume continues") from None


def report_training(model: Path, data: str, history: Mapping[str, Any]) -> None:
    """Print the data, the course of the training, and the model folder."""
    last = history["epochs"][-1]
    loss = history["best_loss"]
    held_out = "" if loss is None else f", held-out loss {loss:.4f}"
    click.echo(f"data   {data}")
    click.echo(
        f"train  {len(history['epochs'])} epochs in {last['seconds']:.0f} s on "
        f"{history['device']}, kept epoch {history['best_epoch']}{held_out}"
    )
    click.echo(f"model  {model}")
