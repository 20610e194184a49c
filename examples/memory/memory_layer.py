"""
First memory layer: learning while reading
==========================================

``NeuralMemory`` maps tokens to tokens, as an attention layer does. Inside is a small network whose
weights take a gradient step for every token. Nothing on this page is trained beforehand: everything
is learned in the forward pass.
"""

# %%
# Tokens of a genome
# ------------------
# Two stretches of *E. coli* from the embedded windows, as overlapping 6-mers. Each 6-mer has its own
# random vector.

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from titans_seq import NeuralMemory
from titans_seq.dna import read_sequences
from titans_seq.evaluation import data_path, read_card

DIM, K = 64, 6
path = data_path(read_card("ecoli_coding_vs_intergenic"), "test")
windows = [str(window) for window in read_sequences(path).sequences[:4]]
torch.manual_seed(0)
vectors = torch.randn(4**K, DIM)


def tokens_of(bases: str) -> Tensor:
    """Return the vectors of the k-mers of a sequence, (batch 1, time, dim)."""
    digits = bases.translate(str.maketrans("ACGT", "0123"))
    kmers = [
        int(digits[start : start + K], 4)
        for start in range(len(digits) - K + 1)
    ]
    return vectors[torch.tensor(kmers)][None]


tokens, others = (
    tokens_of(windows[0] + windows[1]),
    tokens_of(windows[2] + windows[3]),
)
tokens.shape

# %%
# Write and read
# --------------
# A call returns an output for each token, and a state. The state is everything that is kept of the
# past; its size does not depend on how much was read.

memory = NeuralMemory(DIM, heads=1, depth=2, chunk_size=16, rule="titans")
with torch.inference_mode():
    outputs, state = memory(tokens)
    _, later = memory(tokens, state)
print(outputs.shape, f"{state.nbytes:,} bytes, later {later.nbytes:,}")

# %%
# A sequence read in pieces gives the same outputs as in one call, so a model trained on short pieces
# can read a stream of any length.

with torch.inference_mode():
    first, state = memory(tokens[:, :71])
    rest, state = memory(tokens[:, 71:], state)
print(
    f"largest difference {(torch.cat([first, rest], 1) - outputs).abs().max():.1e}"
)

# %%
# Surprise
# --------
# Before a token is written, the memory predicts its value from its key. The error is the token's
# *surprise*. It falls quickly from the level of random weights, and again each time the same stretch
# is read; another stretch raises it without erasing the first.

readings = {
    "first": tokens,
    "second": tokens,
    "third": tokens,
    "other stretch": others,
    "again": tokens,
}
state, curves = None, []
with torch.inference_mode():
    for piece in readings.values():
        _, state, surprise = memory(piece, state, return_surprise=True)
        curves.append(surprise[0])

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
length = tokens.shape[1]
for turn, (name, curve) in enumerate(zip(readings, curves, strict=True)):
    colour = "tab:orange" if name == "other stretch" else "tab:blue"
    axes.plot(
        turn * length + torch.arange(length),
        curve,
        color=colour,
        lw=0.6,
        alpha=0.5,
    )
    axes.hlines(
        curve.mean(), turn * length, (turn + 1) * length, color=colour, lw=2.5
    )
    axes.text(
        (turn + 0.5) * length,
        11,
        f"{name}\n{curve.mean():.1f}",
        ha="center",
        va="top",
    )
axes.set(xlabel="tokens read", ylabel="surprise", ylim=(0, 11.5))
axes.set_title(
    "Surprise of each token, and its mean, while a stretch is read repeatedly"
)
plt.show()

# %%
# Rules
# -----
# A *rule* defines how a token changes the weights; the layer takes one by name. After a stretch was
# read three times, how surprising is it compared with a new one?

from titans_seq.nn.rules import RULES

ratios = {}
for name, rule in RULES.items():
    torch.manual_seed(0)
    depth = 1 if rule.update.gradient_point == "token" else 2
    layer = NeuralMemory(DIM, heads=1, depth=depth, chunk_size=16, rule=name)
    with torch.inference_mode():
        _, state = layer(tokens.repeat(1, 3, 1))
        _, _, known = layer(tokens, state, return_surprise=True)
        _, _, new = layer(others, state, return_surprise=True)
    ratios[name] = float(known.mean() / new.mean())

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.barh(list(ratios), list(ratios.values()), color="tab:blue")
axes.axvline(1, color="black", linestyle=":")
axes.set(
    title="Surprise of a known stretch relative to a new one, by rule, untrained"
)
axes.invert_yaxis()
plt.show()

# %%
# This compares untrained layers; it does not predict how a rule performs after training.
#
# A rule of your own
# ------------------
# Most rules are a choice of fields. This one is ``titans`` with steps along the combined gradients
# of the last eight tokens, and with decay towards zero:

from titans_seq.nn.rules import LearningRule
from titans_seq.ops.rules.rule import UpdateRule

own = LearningRule(
    name="windowed", update=UpdateRule(window=8, forget_to="zero")
)
layer = NeuralMemory(DIM, heads=1, rule=own)
outputs, state = layer(tokens)
outputs.square().mean().backward()  # backpropagates through the learning
print(
    sum(parameter.grad is not None for parameter in layer.parameters()),
    "parameters have gradients",
)

# %%
# :doc:`../../rules` defines a rule with a new loss and compares it with the token-by-token reference;
# :doc:`../../memory` has the equations.
