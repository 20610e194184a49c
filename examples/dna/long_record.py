"""
Along a chromosome, at memory that does not grow
================================================

A classifier of short windows becomes a track along a record of any length: for a genome browser,
as a table, or as rows in Python. The file is read in pieces, so a hundred million bases need no
more memory than ten thousand.
"""

# %%
# A chromosome whose truth is known
# ---------------------------------
# 400 test windows of *E. coli*, sorted so that ten coding ones follow ten that lie between genes,
# become one record. What stood where, we remember.

import contextlib
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from titans_seq.cli import main
from titans_seq.dna import TitansDNAClassifier, read_labelled
from titans_seq.evaluation import data_path, read_card

card = read_card("ecoli_coding_vs_intergenic")
train = read_labelled(data_path(card, "train"))
test = read_labelled(data_path(card, "test"))

kinds = {
    kind: [
        s
        for s, own in zip(test.sequences, test.labels, strict=True)
        if own == kind
    ]
    for kind in ("coding", "intergenic")
}
truth = [("coding", "intergenic")[number // 10 % 2] for number in range(400)]
windows = [kinds[kind].pop() for kind in truth]

folder = Path(tempfile.mkdtemp())
chromosome = folder / "chromosome.fa"
chromosome.write_text(">chr1\n" + "\n".join(windows) + "\n")

# %%
# A small model, as on the page before, from Python; half of the training windows will do here:

classifier = TitansDNAClassifier(
    dim=16, layers=1, max_epochs=2, reverse_complement="average", random_state=0
)
classifier.fit(train.sequences[::2], train.labels[::2])
classifier.save(folder / "coding")

# %%
# Windows, as a track
# -------------------
# ``--window 100 --stride 25`` reads a window of 100 bases every 25. bedGraph goes into any genome
# browser; each base has the value of the window whose middle is nearest.


def shell(line: str) -> None:
    """Run one command in the folder of this page."""
    print("$", line)
    with contextlib.chdir(folder):
        main(shlex.split(line)[1:], standalone_mode=False)


shell(
    "titans-seq dna predict chromosome.fa --model coding --window 100 --stride 25 "
    "--track coding --out coding.bedgraph"
)
names = ["record", "start", "end", "p(coding)"]
track = pd.read_table(folder / "coding.bedgraph", names=names, skiprows=1)
track.head(3)

# %%

figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
shown = track[track["end"] <= 10_000]
axes.step(
    shown["start"], shown["p(coding)"], where="post", lw=1, label="p(coding)"
)
smooth = shown["p(coding)"].rolling(20, center=True, min_periods=1).mean()
axes.plot(
    shown["start"], smooth, color="tab:orange", lw=2, label="mean of 500 bases"
)
for block in range(0, 10_000, 2000):
    axes.axvspan(block, block + 1000, color="tab:green", alpha=0.12, lw=0)
axes.set(
    xlim=(0, 10_000), ylim=(0, 1), xlabel="place on chr1", ylabel="p(coding)"
)
axes.set_title(
    "Probability of coding along 10,000 bases; coding stretches are green"
)
axes.legend(loc="lower right")
plt.show()

# %%
# The same rows in Python
# -----------------------
# ``predict_stream`` yields them one by one, while the file is read.

rows = classifier.predict_stream(chromosome, window=100)
right = [row.label == kind for row, kind in zip(rows, truth, strict=True)]
print(f"{np.mean(right):.1%} of {len(right)} windows are right")

# %%
# A memory carried along
# ----------------------
# Windows are read one by one, each as if it were the first. With ``carry`` the memory goes on from
# window to window, and tells how surprised it was. A model that was trained on single windows has
# not learnt what to do with a past, so compare before you use it:

carried = list(classifier.predict_stream(chromosome, window=100, carry=True))
right = [row.label == kind for row, kind in zip(carried, truth, strict=True)]
print(f"{np.mean(right):.1%} with the memory carried along")
print(
    f"mean surprise of a window: {np.mean([row.surprise for row in carried]):.2f}"
)

# %%
# How much memory does it take?
# -----------------------------
# We let Python count what is allocated while records of growing length are read, a window every
# 2,000 bases.

import tracemalloc

peaks = {}
for times in (10, 40, 160):
    longer = folder / "longer.fa"
    longer.write_text(">chr1\n" + ("\n".join(windows) + "\n") * times)
    tracemalloc.start()
    for _ in classifier.predict_stream(longer, window=100, stride=2_000):
        pass
    peaks[f"{40_000 * times:,} bases"] = (
        f"{tracemalloc.get_traced_memory()[1] / 1e6:.1f} MB"
    )
    tracemalloc.stop()
print(peaks)

# %%
# What the network itself needs depends on the window, not on the record. :doc:`../../dna` has the
# rest: intervals of a BED file, variants of a VCF file, and the other kinds of output.
