"""``titans-seq dna explain``: the importance of each base, as a table and a sequence logo."""

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
    """First and last position, such as 20-80."""

    name = "first-last"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both positions."""
        try:
            first, last = (int(number) for number in str(value).split("-"))
        except ValueError:
            self.fail(f"{value!r} is not first-last, such as 20-80", param, ctx)
        return first, last


@click.command(name="explain")
@click.argument("fasta", type=DATA_OR_STDIN)
@MODEL_IN
@click.option(
    "--method",
    type=click.Choice(["mutagenesis", "gradient", "surprise"]),
    default="mutagenesis",
    show_default=True,
    help="In-silico mutagenesis; the gradient; or the prediction error of the memory.",
)
@click.option("--target", help="Class, label or value to explain; by default the most probable.")
@click.option("--record", help="Explain only the record of this name.")
@click.option("--region", type=Region(), help="Positions to explain, from 1, such as 20-80.")
@click.option(
    "--out",
    type=OutFile(*TABLE_SUFFIXES),
    default="-",
    help="Table .tsv, .csv, .jsonl or .parquet; by default TSV on standard output.",
)
@click.option("--plot", type=OutFile(".png", ".svg", ".pdf"), help="Sequence logo of one record.")
def dna_explain(
    fasta: Path, model: Path, method: str, target: str | None, record: str | None,
    region: tuple[int, int] | None, out: Path, plot: Path | None,
) -> None:  # fmt: skip
    """Show which bases drive the prediction for each record of FASTA.

    Writes one row per base: its contribution to the score (log-odds of the label), and the change
    of the score with each of the four bases in its place.

    \b
    Example:
      titans-seq dna explain seq.fa --model promoters --plot seq.png --out seq.tsv
    """
    import pandas as pd

    from titans_seq.dna import explain, read_sequences
    from titans_seq.dna.models import load_estimator

    estimator = load_estimator(model)
    data = read_sequences(fasta)
    selected = [i for i, name in enumerate(data.names) if record in (None, name)]
    if not selected:
        raise click.UsageError(f"--record {record}: {fasta} has no record of that name")
    if plot is not None and len(selected) > 1:
        raise click.UsageError("--plot draws one record: name it with --record")
    names = [data.names[i] for i in selected]
    explanations = explain(
        estimator,
        [data.sequences[i] for i in selected],
        method=method,  # type: ignore[arg-type]
        target=target,
        region=region,
    )
    tables = [
        _rows(name, explanation) for name, explanation in zip(names, explanations, strict=True)
    ]
    if plot is not None:
        _draw(names[0], explanations[0], plot)
    write_table(pd.concat(tables, ignore_index=True), out, default_suffix=".tsv")


def _rows(name: str, explanation: Explanation) -> pd.DataFrame:
    """Return one row per base."""
    import pandas as pd

    first, letters = explanation.start + 1, list(explanation.sequence)
    positions = range(first, first + len(letters))
    table = pd.DataFrame({"id": name, "place": positions, "base": letters})
    if explanation.target is not None:
        table["target"] = str(explanation.target)
    table["surprise" if explanation.changes is None else "importance"] = explanation.importance
    if explanation.changes is not None:
        table[["to A", "to C", "to G", "to T"]] = explanation.changes
    return table


def _draw(name: str, explanation: Explanation, path: Path) -> None:
    """Write the sequence logo, completely or not at all."""
    from titans_seq.dna.plots import plot_logo
    from titans_seq.files import write_whole

    target = "" if explanation.target is None else f" of {explanation.target}"
    with write_whole(path) as temporary:
        plot_logo(explanation, temporary, title=f"{name}: {explanation.method}{target}")
