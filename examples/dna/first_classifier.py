"""
From FASTA to labels, and what the score is worth
=================================================

Is a stretch of *E. coli* part of a gene, or does it lie between genes? One command trains a
classifier on labelled FASTA, one labels new sequences, and one asks the question that matters:
would a much simpler method have done as well?
"""

# %%
# The commands of this page run as in a shell; this is how Python calls them.

import contextlib
import shlex
import shutil
import tempfile
from pathlib import Path

from titans_seq.cli import main

folder = Path(tempfile.mkdtemp())


def shell(line: str) -> None:
    """Run one command in the folder of this page."""
    print("$", line)
    with contextlib.chdir(folder):
        main(shlex.split(line)[1:], standalone_mode=False)


# %%
# The sequences
# -------------
# Windows of 100 bases, the class in the header. Training windows are of the first 80% of the
# chromosome, test windows of the rest. Labels may stand in a table of their own, too, and files
# may be plain or packed.

from titans_seq.evaluation import data_path, read_card

card = read_card("ecoli_coding_vs_intergenic")
for part in ("train", "test"):
    shutil.copy(data_path(card, part), folder / f"{part}.fa.gz")

import gzip

with gzip.open(folder / "train.fa.gz", "rt") as file:
    print("".join(next(file) for _ in range(4)))

# %%
# Train
# -----
# The windows were read from either strand, so the strand says nothing: let the model answer
# alike for both. So that this page builds quickly, the model is small and sees the sequences
# twice; leave out ``--max-epochs`` and ``-s`` for a good one.

shell(
    "titans-seq dna fit train.fa.gz --model coding --reverse-complement average "
    "--max-epochs 2 -s dim=16 -s layers=1"
)

# %%
# Label
# -----
# Any FASTA will do: soft-masked, wrapped, gzipped, with ``N`` and other IUPAC letters. What is no
# DNA is refused by file, record and line. The table goes to a file, or into a pipe.

shell("titans-seq dna predict test.fa.gz --model coding --out labels.tsv")

import pandas as pd

pd.read_table(folder / "labels.tsv").head(3)

# %%
# Is it worth anything?
# ---------------------
# With ``--train``, ``evaluate`` trains simple models on the same rows and scores them on the same
# test: the commonest label, length, GC, the most similar training row, short words, letters by
# place.

shell(
    "titans-seq -q dna evaluate test.fa.gz --model coding --train train.fa.gz --out scores.json"
)

# %%
# The bars are 95% intervals. Where a simple model's comes as high as ours, these data do not show
# that anything more was learnt; the command then says so, and here it is right. Eight epochs of a
# wider model (``titans-seq recipe run ecoli_coding_vs_intergenic``) reach 88.6%.

import json

import matplotlib.pyplot as plt

scores = json.loads((folder / "scores.json").read_text())["scores"]
table = pd.DataFrame(scores).T.sort_values("accuracy")
error = [
    (table["accuracy"] - table["accuracy_low"]).clip(lower=0),
    (table["accuracy_high"] - table["accuracy"]).clip(lower=0),
]
colours = [
    "tab:orange" if name == "titans-seq" else "0.6" for name in table.index
]
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
axes.barh(table.index, table["accuracy"], xerr=error, color=colours)
axes.set(xlim=(0.45, 1), xlabel="share of test windows that are right")
axes.set_title(
    "Coding or not: two epochs of a small model beside simple methods"
)
plt.show()

# %%
# Why?
# ----
# ``explain`` changes every base of a sequence and reads it anew. Letters are as tall as the base
# is important for the answer.

from titans_seq.dna import TitansDNAClassifier, explain, read_labelled
from titans_seq.dna.plots import plot_logo

classifier = TitansDNAClassifier.load(folder / "coding")
test = read_labelled(folder / "test.fa.gz")
(found,) = explain(classifier, test.sequences[:1], target="coding")
figure = plot_logo(
    found, title=f"What speaks for or against coding in {test.names[0]}"
)

# %%
# The classifier is a scikit-learn estimator: ``cross_val_score``, ``GridSearchCV`` and pipelines
# take it as it is. :doc:`../../dna` tells the rest: tracks along chromosomes, variants,
# pre-training on a genome, several labels a sequence.
