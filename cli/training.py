"""What `forecast fit` and `dna fit` share."""

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
"""Options of everything that is trained."""


def variant_option(default: str) -> Callable[[Any], Any]:
    """Return the option that names a backbone."""
    return click.option(
        "--variant",
        type=click.Choice(["mac", "mag", "mal", "lmm", "attention"]),
        default=default,
        show_default=True,
        help="How memory and attention are joined.",
    )


OVERRIDES = click.option(
    "-s",
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other parameter of the Python class, such as dim=64; may be repeated.",
)


RESUME = click.option(
    "--resume", is_flag=True, help="Go on with a training that was interrupted, if there is one."
)


def build(estimator: type[Any], values: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return an estimator with the values of a command's options, and of ``-s NAME=VALUE``.

    Raises
    ------
    ConfigError
        If a name is none of the estimator's, or a value is of another type than its default.
    """
    from titans_seq.evaluation.runs.overrides import read_settings

    built = estimator(**values)
    built.set_params(**read_settings(overrides, built.get_params()))
    return built


def check_model_out(model: Path, *, force: bool) -> None:
    """Refuse a model folder that could not be written, before the training."""
    from titans_seq.bundles import CONFIG
    from titans_seq.exceptions import BundleError, ConfigError
    from titans_seq.files import check_new_folder

    try:
        check_new_folder(model, force=force, marker=CONFIG)
    except ConfigError as error:
        raise BundleError(f"--model {error}") from error


def progress(ctx: click.Context) -> AbstractContextManager[None]:
    """Return what shows a bar for each training inside, unless ``-q`` was given."""
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
        The model folder; checkpoints lie in one of the same name with ``.checkpoints``.
    parameters
        Of what is trained: they must be the same to go on.
    data
        Files that it is trained on: they must be the same to go on.
    resume, force
        Go on with what lies there, or begin anew; without either it must not be there.
    """
    from titans_seq.exceptions import ConfigError
    from titans_seq.files import file_digest, plain_values
    from titans_seq.training import checkpointing, has_checkpoints, remove_checkpoints

    folder = model.with_name(f"{model.name}.checkpoints")
    if has_checkpoints(folder) and not (resume or force):
        raise ConfigError(
            f"{folder} holds a training that was interrupted: --resume goes on with it, "
            "--force begins anew"
        )
    about = {name: parameters[name] for name in parameters if name not in ("device", "verbose")}
    files = [file_digest(path) for path in data if path and str(path) != "-"]
    everything = plain_values({**about, "sha256 of the data": files})
    with hinting_at_resume(), checkpointing(folder, resume=resume, about=everything):
        yield
    remove_checkpoints(folder)


@contextmanager
def hinting_at_resume() -> Iterator[None]:
    """Let an interruption that left a checkpoint say how to go on."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not interruption.args:
            raise
        (message,) = interruption.args
        raise KeyboardInterrupt(f"{message}; the same command with --resume goes on") from None


def report_training(model: Path, data: str, history: Mapping[str, Any]) -> None:
    """Print what was trained, on what, and how it went."""
    last = history["epochs"][-1]
    loss = history["best_loss"]
    held_out = "" if loss is None else f", held-out loss {loss:.4f}"
    click.echo(f"data   {data}")
    click.echo(
        f"train  {len(history['epochs'])} epochs in {last['seconds']:.0f} s on "
        f"{history['device']}, kept epoch {history['best_epoch']}{held_out}"
    )
    click.echo(f"model  {model}")
