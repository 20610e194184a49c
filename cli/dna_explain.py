"""``titans-seq dna explain``: which bases an answer rests on, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import DATA_OR_STDIN, MODEL_IN, OutFile
from .tables import TABLE_SUFFIXES, write_table

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.dna import Explanation


class Region(click.ParamType):  # type: ignore[type-arg]
    """First and last place, such as 20-80."""

    name = "first-last"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both places."""
        try:
            first, last = (int(one) for one in str(value).split("-"))
        except ValueError:
            self.fail(f"{value!r} is not first-last, such as 20-80", param, ctx)
        return first, last


@click.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@MODEL_IN
@click.option(
    "--method",
    type=click.Choice(["mutagenesis", "gradient", "surprise"]),
    default="mutagenesis",
    show_default=True,
    help="Change each base and read anew; take the slope; or how badly the memory foresaw it.",
)
@click.option("--target", help="Class, label or value to explain; by default the likeliest.")
@click.option("--record", help="Explain the record of this name only.")
@click.option("--region", type=Region(), help="Places to explain, such as 20-80, from 1 on.")
@click.option(
    "--out",
    type=OutFile(*TABLE_SUFFIXES),
    default="-",
    help="Table .tsv, .csv, .jsonl or .parquet; by default TSV on standard output.",
)
@click.option("--plot", type=OutFile(".png", ".svg", ".pdf"), help="Sequence logo of one record.")
def explain(
    fasta: Path, model: Path, method: str, target: str | None, record: str | None,
    region: tuple[int, int] | None, out: Path, plot: Path | None,
) -> None:  # fmt: skip
    """Show which bases the answer for each record of FASTA rests on.

    Writes one row a base: what it is worth to the score (log-odds of the label), and how
    the score would change with each of the four bases there.

    \b
    Example:
      titans-seq dna explain seq.fa --model promoters --plot seq.png --out seq.tsv
    """
    import pandas as pd

    from titans_seq.dna import explain as explained
    from titans_seq.dna import read_sequences
    from titans_seq.dna.models import load_estimator

    estimator = load_estimator(model)
    data = read_sequences(fasta)
    chosen = [i for i, name in enumerate(data.names) if record in (None, name)]
    if not chosen:
        raise click.UsageError(f"--record {record}: {fasta} has no record of that name")
    if plot is not None and len(chosen) > 1:
        raise click.UsageError("--plot draws one record: name it by --record")
    names = [data.names[i] for i in chosen]
    found = explained(
        estimator,
        [data.sequences[i] for i in chosen],
        method=method,  # type: ignore[arg-type]
        target=target,
        region=region,
    )
    tables = [_rows(name, one) for name, one in zip(names, found, strict=True)]
    if plot is not None:
        _draw(names[0], found[0], plot)
    write_table(pd.concat(tables, ignore_index=True), out, default_suffix=".tsv")


def _rows(name: str, found: Explanation) -> pd.DataFrame:
    """Return one row a base."""
    import pandas as pd

    table = pd.DataFrame({"id": name, "place": range(found.start + 1, found.start + 1 + len(
        found.sequence)), "base": list(found.sequence)})  # fmt: skip
    if found.target is not None:
        table["target"] = str(found.target)
    table["surprise" if found.changes is None else "importance"] = found.importance
    if found.changes is not None:
        table[["to A", "to C", "to G", "to T"]] = found.changes
    return table


def _draw(name: str, found: Explanation, path: Path) -> None:
    """Write the picture, whole or not at all."""
    from titans_seq.dna.plots import plot_logo
    from titans_seq.files import write_whole

    about = "" if found.target is None else f" of {found.target}"
    with write_whole(path) as temporary:
        plot_logo(found, temporary, title=f"{name}: {found.method}{about}")
