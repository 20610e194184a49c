"""
Predict along a chromosome at constant memory
=============================================

A classifier of short windows gives a track along a record of any length: for a genome browser, as
a table, or as rows in Python. The file is read in pieces, so a hundred million bases need no more
memory than ten thousand.
"""

# %%
# A chromosome with known labels
# ------------------------------
# We join 400 test windows of *E. coli* into one record, alternating ten coding and ten intergenic
# ones, and keep their labels.

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
        for s, label in zip(test.sequences, test.labels, strict=True)
        if label == kind
    ]
    for kind in ("coding", "intergenic")
}
truth = [("coding", "intergenic")[number // 10 % 2] for number in range(400)]
windows = [kinds[kind].pop() for kind in truth]

folder = Path(tempfile.mkdtemp())
chromosome = folder / "chromosome.fa"
chromosome.write_text(">chr1\n" + "\n".join(windows) + "\n")

# %%
# A small model, as in the first tutorial but from Python; half of the training windows are enough:

classifier = TitansDNAClassifier(
    dim=16, layers=1, max_epochs=2, reverse_complement="average", random_state=0
)
classifier.fit(train.sequences[::2], train.labels[::2])
classifier.save(folder / "coding")

# %%
# Windows as a track
# ------------------
# ``--window 100 --stride 25`` reads a window of 100 bases every 25. Any genome browser reads
# bedGraph; each base has the value of the window whose centre is nearest.


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
    xlim=(0, 10_000), ylim=(0, 1), xlabel="position on chr1", ylabel="p(coding)"
)
axes.set_title(
    "Probability of coding along 10,000 bases (coding stretches in green)"
)
axes.legend(loc="lower right")
plt.show()

# %%
# The same rows in Python
# -----------------------
# ``predict_stream`` yields rows one by one while the file is read.

rows = classifier.predict_stream(chromosome, window=100)
correct = [row.label == kind for row, kind in zip(rows, truth, strict=True)]
print(f"{np.mean(correct):.1%} of {len(correct)} windows are correct")

# %%
# Carry the memory along
# ----------------------
# By default each window is read independently. With ``carry`` the state of the memory is carried
# from window to window, and its surprise is returned. A model trained on single windows was not
# trained to use the past, so compare before you use it:

carried = list(classifier.predict_stream(chromosome, window=100, carry=True))
correct = [row.label == kind for row, kind in zip(carried, truth, strict=True)]
print(f"{np.mean(correct):.1%} with the memory carried along")
print(
    f"mean surprise of a window: {np.mean([row.surprise for row in carried]):.2f}"
)

# %%
# Memory use
# ----------
# Python's allocations while records of increasing length are read, with a window every 2,000 bases:

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
# The memory used by the network depends on the window, not on the record. :doc:`../../dna` continues
# with intervals of a BED file, variants of a VCF file, and the other output formats.
