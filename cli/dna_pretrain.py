"""``titans-seq dna pretrain``: train on sequences without labels, as a start for `fit`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DATA, FORCE, option_group
from .processes import shared
from .training import hinting_at_resume, progress, variant_option

if TYPE_CHECKING:
    from titans_seq.dna import Pretrained


@dataclass(frozen=True)
class NetworkOptions:
    """Options that are settings of the network."""

    objective: str
    tokens: str
    variant: str
    dim: int
    layers: int


@dataclass(frozen=True)
class PretrainOptions:
    """Options that are settings of the training."""

    window: int
    batch_size: int
    steps: int
    check_every: int
    seed: int


NETWORK_OPTIONS = (
    click.option(
        "--objective",
        type=click.Choice(["next", "masked"]),
        default="next",
        show_default=True,
        help="Predict the next base, or masked bases from both sides.",
    ),
    click.option("--tokens", default="motif", show_default=True, help="As in `fit`."),
    variant_option("mag"),
    click.option("--dim", type=click.IntRange(1), default=64, show_default=True, help="Width."),
    click.option("--layers", type=click.IntRange(1), default=2, show_default=True, help="Blocks."),
)

PRETRAIN_OPTIONS = (
    click.option(
        "--window",
        type=click.IntRange(32),
        default=1024,
        show_default=True,
        help="Letters.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=16,
        show_default=True,
        help="Windows.",
    ),
    click.option(
        "--steps", type=click.IntRange(1), default=2000, show_default=True, help="Batches in all."
    ),
    click.option(
        "--check-every",
        type=click.IntRange(1),
        default=200,
        show_default=True,
        help="Batches between two evaluations of the held-out windows.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Same seed, same model.",
    ),
)


@click.command(name="pretrain")
@click.argument("fasta", type=DATA, nargs=-1, required=True)
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
@FORCE
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@option_group("network", NetworkOptions, *NETWORK_OPTIONS)
@option_group("settings", PretrainOptions, *PRETRAIN_OPTIONS)
@shared
@click.pass_context
def dna_pretrain(
    ctx: click.Context, fasta: tuple[Path, ...], model: Path, resume: bool, force: bool,
    device: str, network: NetworkOptions, settings: PretrainOptions,
) -> None:  # fmt: skip
    """Pre-train on the sequences of FASTA files, without labels.

    Prints the perplexity on held-out windows beside that of k-mer models. Then train on labelled
    sequences with `titans-seq dna fit --init MODEL`.

    \b
    Example:
      titans-seq dna pretrain genome.fa.gz --model yeast
    """
    from titans_seq.config import record_from_table
    from titans_seq.dna import LanguageConfig, PretrainSettings, pretrain, read_sequences

    sequences = [text for path in fasta for text in read_sequences(path).sequences]
    config = record_from_table(LanguageConfig, asdict(network), "pretrain")
    with progress(ctx), hinting_at_resume():
        pretrained = pretrain(
            sequences,
            model,
            config=config,
            settings=PretrainSettings(**asdict(settings)),
            resume=resume,
            force=force,
            device=device,
        )
    _report(pretrained, model)


def _report(pretrained: Pretrained, model: Path) -> None:
    """Print the size of the data, and the perplexity beside that of k-mer models."""
    from titans_seq.evaluation.scores.report import text_table

    held_out = sum(map(len, pretrained.corpus.validation))
    last = pretrained.history.epochs[-1]
    click.echo(f"data   {pretrained.corpus.letters:,} letters, {held_out:,} held out")
    click.echo(f"train  {pretrained.history.steps:,} batches in {last.seconds:.0f} s")
    rows: list[tuple[str, str]] = [("titans-seq", f"{pretrained.perplexity:.4f}")]
    rows += [(name, f"{value:.4f}") for name, value in _controls(pretrained).items()]
    click.echo(text_table(("perplexity", "held out"), rows))
    click.echo(f"model  {model}")


def _controls(pretrained: Any) -> dict[str, float]:
    """Return the perplexities of k-mer models on the same bases."""
    from titans_seq.evaluation.dna.markov import kmer_perplexities

    return kmer_perplexities(
        pretrained.corpus.train,
        pretrained.asked,
        masked=pretrained.network.config.objective == "masked",
    )
