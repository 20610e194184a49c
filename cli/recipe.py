"""``titans-seq recipe``: benchmark runs that can be repeated, resumed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .dataset import DATA_DIR
from .options import FOLDER, OutFile, option_group
from .processes import shared
from .training import hinting_at_resume, progress

if TYPE_CHECKING:
    from titans_seq.evaluation.cards.recipes import RecipeCard


@click.group()
def recipe() -> None:
    """List, show, copy, run and compare benchmark runs.

    A recipe is a TOML file that describes a training on a data set. `run` takes the name of a
    recipe, or a file of yours.
    """


@recipe.command("list")
def list_recipes() -> None:
    """List all recipes."""
    from titans_seq.evaluation.cards.reading import list_cards, read_recipe

    cards = [read_recipe(name) for name in list_cards("recipes")]
    width = max(len(card.name) for card in cards)
    for card in cards:
        click.echo(f"{card.name:<{width}}  {card.summary}")


@recipe.command("show")
@click.argument("name")
def show_recipe(name: str) -> None:
    """Show the recipe NAME, the content of its file."""
    from titans_seq.evaluation.cards.reading import card_path, read_recipe

    read_recipe(name)
    click.echo(card_path("recipes", name).read_text("utf-8"), nl=False)


@recipe.command()
@click.argument("name")
@click.argument("dest", type=FOLDER)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def copy(name: str, dest: Path, force: bool) -> None:
    """Copy the recipe NAME to the file or folder DEST, for editing."""
    from titans_seq.evaluation.cards.reading import card_path
    from titans_seq.exceptions import ConfigError
    from titans_seq.files import write_whole

    source = card_path("recipes", name)
    target = dest / source.name if dest.is_dir() else dest
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already; name another file, or replace it with --force")
    with write_whole(target) as temporary:
        temporary.write_bytes(source.read_bytes())
    click.echo(str(target))


@dataclass(frozen=True)
class RunOptions:
    """Options of `run`."""

    settings: tuple[str, ...]
    own: Path | None
    seeds: str | None
    max_steps: int | None
    out: Path | None
    data_dir: Path | None
    resume: bool
    force: bool


@recipe.command("run")
@click.argument("name")
@option_group(
    "options",
    RunOptions,
    click.option(
        "-s", "--set", "settings", multiple=True, metavar="NAME=VALUE",
        help="Override a setting, such as dim=64 or horizons=[96]; may be repeated.",
    ),
    click.option("--input", "own", type=click.Path(path_type=Path),
                 help="Your file, for a recipe that reads one."),
    click.option("--seeds", metavar="N,N,...", help="One training for each of these seeds."),
    click.option("--max-steps", type=click.IntRange(min=1), help="Limit of optimizer steps."),
    click.option("--out", type=FOLDER, help="Folder of the run; by default runs/NAME."),
    DATA_DIR,
    click.option("--resume", is_flag=True, help="Resume the run in that folder, if any."),
    click.option("--force", is_flag=True, help="Replace the run in that folder."),
)  # fmt: skip
@shared
@click.pass_context
def run_command(ctx: click.Context, name: str, options: RunOptions) -> None:
    """Run the recipe NAME, a name or a file: train, score, and compare with published scores.

    The run's folder holds everything needed to repeat it. After Ctrl-C, or a kill, the same
    command with --resume continues the run, with the same scores as an uninterrupted one.

    \b
    Example:
      titans-seq recipe run etth1 -s horizons=[96] --seeds 0,1,2
      titans-seq recipe run byte_language --input book.txt
    """
    from titans_seq.evaluation.runs.comparison import compare_runs
    from titans_seq.evaluation.runs.overrides import override, with_input, with_steps
    from titans_seq.evaluation.runs.run import run_recipe
    from titans_seq.training import broadcast_from_rank0

    seeds = () if options.seeds is None else (f"seeds=[{options.seeds}]",)
    chosen = override(_read_recipe(name), (*options.settings, *seeds), name)
    chosen = with_input(with_steps(chosen, options.max_steps), options.own)
    out = options.out or Path("runs") / chosen.name
    with progress(ctx), hinting_at_resume():
        run_recipe(
            chosen, out, data_folder=options.data_dir, resume=options.resume, force=options.force
        )
    (comparison,) = broadcast_from_rank0(lambda: compare_runs([out]))
    click.echo(comparison.to_text())
    click.echo(f"run    {out}")


def _read_recipe(name: str) -> RecipeCard:
    """Return the recipe of that name or in that file."""
    from titans_seq.evaluation.cards.reading import read_recipe
    from titans_seq.evaluation.runs.folder import read_recipe_file

    path = Path(name)
    is_file = path.suffix == ".toml" or (len(path.parts) > 1 and path.is_file())
    if is_file and not path.is_file():
        raise click.UsageError(f"there is no file {name!r}")
    return read_recipe_file(path) if is_file else read_recipe(name)


@recipe.command()
@click.argument("runs", type=click.Path(exists=True, file_okay=False, path_type=Path),
                nargs=-1, required=True)  # fmt: skip
@click.option(
    "--out", type=OutFile(".md", ".json", ".png", ".svg", ".pdf"),
    help="Also write the comparison to a file: a table (.md, .json) or a picture.",
)  # fmt: skip
def compare(runs: tuple[Path, ...], out: Path | None) -> None:
    """Compare the runs in the folders RUNS with each other and with published scores.

    \b
    Example:
      titans-seq recipe compare runs/* --out results.md
    """
    from titans_seq.evaluation.runs.comparison import compare_runs
    from titans_seq.evaluation.runs.report_files import write_comparison

    comparisons = compare_runs(runs)
    if out is not None and str(out) != "-":
        write_comparison(comparisons, out)
    click.echo("\n\n".join(comparison.to_text() for comparison in comparisons))
