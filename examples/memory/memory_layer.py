"""
A layer that learns while it reads
==================================

``NeuralMemory`` takes tokens and returns tokens, as an attention layer does. In between it is a
small network whose weights take a step with every token. Nothing here is trained beforehand:
what you see is learnt in the forward pass.
"""

# %%
# Tokens of a genome
# ------------------
# Two stretches of *E. coli* from the embedded windows, as overlapping words of 6 letters. Each word
# gets a random vector of its own.

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from titans_seq import NeuralMemory
from titans_seq.dna import read_sequences
from titans_seq.evaluation import data_path, read_card

DIM, WORD = 64, 6
path = data_path(read_card("ecoli_coding_vs_intergenic"), "test")
windows = [str(one) for one in read_sequences(path).sequences[:4]]
torch.manual_seed(0)
vectors = torch.randn(4**WORD, DIM)


def tokens_of(bases: str) -> Tensor:
    """Return the vectors of a stretch's words, (batch 1, time, dim)."""
    digits = bases.translate(str.maketrans("ACGT", "0123"))
    words = [
        int(digits[place : place + WORD], 4)
        for place in range(len(digits) - WORD + 1)
    ]
    return vectors[torch.tensor(words)][None]


tokens, others = (
    tokens_of(windows[0] + windows[1]),
    tokens_of(windows[2] + windows[3]),
)
tokens.shape

# %%
# Write and read
# --------------
# A call returns an output for each token, and a state. The state is all that is kept of the past:
# its size does not depend on how much was read.

memory = NeuralMemory(DIM, heads=1, depth=2, chunk_size=16, rule="titans")
with torch.inference_mode():
    outputs, state = memory(tokens)
    more, later = memory(tokens, state)
print(outputs.shape, f"{state.nbytes:,} bytes, later {later.nbytes:,}")

# %%
# Any split of a sequence gives what one call gives. So a model that was trained on short pieces
# reads a stream of any length.

with torch.inference_mode():
    first, state = memory(tokens[:, :71])
    rest, state = memory(tokens[:, 71:], state)
print(
    f"largest difference {(torch.cat([first, rest], 1) - outputs).abs().max():.1e}"
)

# %%
# Surprise
# --------
# The memory is asked about every token before it is written: given its key, what is its value?
# How wrong it is, is its *surprise*. It falls at once from where random weights begin, and on
# whenever the same stretch is read again; another stretch raises it, and does not wipe out the
# first.

readings = {
    "first": tokens,
    "second": tokens,
    "third": tokens,
    "other words": others,
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
    colour = "tab:orange" if name == "other words" else "tab:blue"
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
    "Surprise of each token, and its mean, while one stretch is read again and again"
)
plt.show()

# %%
# Rules
# -----
# What a token does to the weights is a *rule*, and rules are data: the layer takes one by name.
# After three readings of one stretch, how much less surprising is it than another?

from titans_seq.nn.rules import RULES

shares = {}
for name, rule in RULES.items():
    torch.manual_seed(0)
    depth = 1 if rule.update.gradient_point == "token" else 2
    layer = NeuralMemory(DIM, heads=1, depth=depth, chunk_size=16, rule=name)
    with torch.inference_mode():
        _, state = layer(tokens.repeat(1, 3, 1))
        _, _, known = layer(tokens, state, return_surprise=True)
        _, _, new = layer(others, state, return_surprise=True)
    shares[name] = float(known.mean() / new.mean())

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.barh(list(shares), list(shares.values()), color="tab:blue")
axes.axvline(1, color="black", linestyle=":")
axes.set(
    title="Surprise of words read before over that of new ones, by rule, untrained"
)
axes.invert_yaxis()
plt.show()

# %%
# This compares layers as they are born. What a rule is worth after training is another question.
#
# A rule of your own
# ------------------
# Most rules are a choice of fields. This one is ``titans`` with steps along the gradients of the
# last eight tokens together, and with forgetting towards zero:

from titans_seq.nn.rules import LearningRule
from titans_seq.ops.rules.rule import UpdateRule

own = LearningRule(
    name="windowed", update=UpdateRule(window=8, forget_to="zero")
)
layer = NeuralMemory(DIM, heads=1, rule=own)
outputs, state = layer(tokens)
outputs.square().mean().backward()  # gradients flow through everything that was learnt
print(
    sum(parameter.grad is not None for parameter in layer.parameters()),
    "gradients",
)

# %%
# :doc:`../../rules` writes a rule with a new loss and holds it to the token-by-token reference;
# :doc:`../../memory` has the equations.
