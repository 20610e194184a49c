"""
First classifier: from FASTA to labels
======================================

Is a stretch of *E. coli* part of a gene, or between genes? One command trains a classifier on
labelled FASTA, one labels new sequences, and one checks whether a much simpler method would have
done as well.
"""

# %%
# The commands on this page run as in a shell; this helper calls them from Python.

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
# Windows of 100 bases, with the class in the header. Training windows come from the first 80% of
# the chromosome, test windows from the rest. Labels may also be in a separate table, and files may
# be compressed.

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
# The windows were taken from either strand, so the strand carries no information: let the model
# predict the same for both. To build this page quickly, the model is small and is trained for two
# epochs; omit ``--max-epochs`` and ``-s`` for a good one.

shell(
    "titans-seq dna fit train.fa.gz --model coding --reverse-complement average "
    "--max-epochs 2 -s dim=16 -s layers=1"
)

# %%
# Predict
# -------
# Any FASTA works: soft-masked, wrapped, gzipped, with ``N`` and other IUPAC letters. Anything that
# is not DNA is rejected with its file, record and line. The table is written to a file or a pipe.

shell("titans-seq dna predict test.fa.gz --model coding --out labels.tsv")

import pandas as pd

pd.read_table(folder / "labels.tsv").head(3)

# %%
# Evaluate
# --------
# With ``--train``, ``evaluate`` fits simple baselines on the same training rows and scores them on
# the same test rows: the most frequent label, length, GC content, the most similar training row,
# k-mers, bases by position.

shell(
    "titans-seq -q dna evaluate test.fa.gz --model coding --train train.fa.gz --out scores.json"
)

# %%
# The error bars are 95% intervals. If a baseline lies within the interval of the model, the score
# does not show that the model learned more; ``evaluate`` then prints a warning, as here.
# Eight epochs of a wider model (``titans-seq recipe run ecoli_coding_vs_intergenic``) reach 88.6%.

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
axes.set(xlim=(0.45, 1), xlabel="accuracy on the test windows")
axes.set_title(
    "Coding or intergenic: two epochs of a small model beside simple baselines"
)
plt.show()

# %%
# Explain a prediction
# --------------------
# ``explain`` substitutes every base of a sequence and predicts again. The height of a letter shows
# how much the base matters for the prediction.

from titans_seq.dna import TitansDNAClassifier, explain, read_labelled
from titans_seq.dna.plots import plot_logo

classifier = TitansDNAClassifier.load(folder / "coding")
test = read_labelled(folder / "test.fa.gz")
(explanation,) = explain(classifier, test.sequences[:1], target="coding")
figure = plot_logo(
    explanation, title=f"Bases for and against coding in {test.names[0]}"
)

# %%
# The classifier is a scikit-learn estimator and works with ``cross_val_score``, ``GridSearchCV`` and
# pipelines. :doc:`../../dna` continues with tracks along chromosomes, variants, pre-training on a
# genome, and several labels per sequence.
