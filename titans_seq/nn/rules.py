"""Learning rules by name: what a memory does with a token, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from titans_seq.config import unknown_key_error
from titans_seq.exceptions import ConfigError
from titans_seq.ops.rules.bias import Huber, PowerError
from titans_seq.ops.rules.boundary import Orthogonalise
from titans_seq.ops.rules.retention import NormRetention
from titans_seq.ops.rules.rule import UpdateRule


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRule:
    """A named way to learn at test time."""

    name: str
    """As given to ``rule=`` of a layer."""

    update: UpdateRule
    """How weights change."""

    momentum: bool = True
    """Whether past surprise is carried (eta of eq. 10, from the token); else it is 0."""

    forgetting: bool = True
    """Whether the memory decays (alpha of eq. 13, from the token); else it is 0."""

    max_step: float = 1.0
    """Largest step theta; the token chooses a share of it."""

    source: str = ""
    """Where the rule is published."""

    def __post_init__(self) -> None:
        """Refuse choices that exclude each other.

        Raises
        ------
        ConfigError
            If no form of the memory can compute the rule; the message says what would be right.
        """
        update, where = self.update, f"rule {self.name!r}"
        linear = update.gradient_point == "token"
        if linear and update.residual_norm:
            raise ConfigError(f"{where}: the gradient at every token excludes residual_norm")
        if linear and update.torch_only_feature() is not None:
            raise ConfigError(
                f"{where}: the gradient at every token needs the squared error, the momentum "
                "schedule, and no window, boundary or retention"
            )
        if update.schedule == "mean" and (
            update.window > 1 or update.boundary is not None or update.retention is not None
        ):
            raise ConfigError(f"{where}: the mean schedule excludes window, boundary, retention")
        if update.retention is not None and (self.momentum or update.boundary is not None):
            raise ConfigError(f"{where}: a retention excludes momentum and a boundary")
        if update.window < 1:
            raise ConfigError(f"{where}: window={update.window} is at least 1")


TITANS = LearningRule(
    name="titans",
    update=UpdateRule(),
    source="arXiv 2501.00663, equations 13 to 18: any depth, gradient at the chunk's start; "
    "triangular step, forgetting towards the learned start",
)

TITANS_EXACT = LearningRule(
    name="titans-exact",
    update=UpdateRule(gradient_point="token"),
    source="arXiv 2501.00663, equation 14 as written: linear memory, gradient at every token",
)

TTT = LearningRule(
    name="ttt",
    update=UpdateRule(schedule="mean", step="raw", activation="gelu", residual_norm=True),
    momentum=False,
    forgetting=False,
    source="arXiv 2407.04620: TTT-Linear (depth 1) and TTT-MLP (depth 2)",
)
"""TTT with its own memory, loss, order and weights.

The memory answers ``f(x) = x + LN(f_res(x))`` and minimises ``1/2 |f(k) - v|^2``. The authors'
code states the target as ``v - k`` and compares ``LN(f_res(k))`` with it: the same error,
``LN(f_res(k)) + k - v``, and so the same gradient. It reads after the write, and token t of a
chunk is read with the chunk's first weights less the sum of its steps so far over t. Left out,
of what that code has beside the paper's equations: biases of the inner layers, a learned
correction to 1/t, the step's division by the head's width (the gate can learn it), and the
tanh form of GELU.
"""

GATED_DELTA = LearningRule(
    name="gated-delta",
    update=UpdateRule(gradient_point="token", forget_to="zero", decay_first=True),
    momentum=False,
    source="arXiv 2412.06464",
)

YAAD = LearningRule(
    name="yaad",
    update=UpdateRule(bias=Huber(), activation="gelu", residual_norm=True),
    momentum=False,
    source="arXiv 2504.13173, equation 26 with the loss of equation 15",
)
"""Yaad of MIRAS: a loss that outliers do not dominate, and plain forgetting.

``W[t] = keep[t] W[t-1] - step[t] gradient of Huber(|f(k) - v|)``, memory ``x + LN(f_res(x))``
with GELU, gradients at the chunk's start. Chosen here: of the three Huber losses offered the
continuous one of the error's length, where equation 26 changes at the threshold to the
gradient of an l1 loss; its threshold is 1 for every token, where the paper lets each token set
it; one rate a head instead of one a channel; forgetting leads to the learned start. Equations
are cited from accounts of the paper and were not compared with the paper itself.
"""

MONETA = LearningRule(
    name="moneta",
    update=UpdateRule(bias=PowerError(), retention=NormRetention(), activation="gelu"),
    momentum=False,
    source="arXiv 2504.13173, equations 24 and 25, with p = 3 and q = 4",
)
"""Moneta of MIRAS: the l3 loss, and weights that an l4 norm of their accumulator limits.

``A[t] = keep[t] A[t-1] - step[t] gradient of |f(k) - v|_p^p / p`` and ``W = A / |A|_q^(q-2)``
for each matrix; as in the paper's parallel form the norm is taken at the chunk's start, and the
chunk's tokens are read with A over that norm. Chosen here: the norm's unit and its behaviour
near zero (:class:`titans_seq.ops.rules.retention.NormRetention`), the division of the loss by p,
a linear loss beyond an error of 100, one rate a head, forgetting towards the learned start, and
a plain MLP. The paper's ``x + LN(f_res(x))`` is ``residual_norm=True``: an untrained LayerNorm
cannot come near a small value, and under the l3 loss the weights then wander so that gradients
through them grew from 0.08 to 3,800 over 2,048 tokens.
Equations are cited from accounts of the paper and were not compared with the paper itself.
"""

OMEGA = LearningRule(
    name="omega",
    update=UpdateRule(window=8),
    momentum=False,
    source="arXiv 2505.23735, equations 9, 10 and 16 (Omega rule)",
)
"""The Omega rule of ATLAS: each token steps along the gradients of the last tokens together.

``W[t] = keep[t] W[t-1] - sum over the window of gate[s] gradient[s]``, gradients at the
chunk's start, the window within the chunk (:mod:`titans_seq.ops.rules.window` says why). Chosen
here:
a token's gate is its own step, the same in every window, where the paper leaves open what a
gate sees; a window of 8; the triangular step bounds what a token writes in all its windows
together; no polynomial features; the same MLP as ``titans``. Equations are cited from accounts
of the paper and were not compared with the paper itself.
"""

MUON = LearningRule(
    name="muon",
    update=UpdateRule(boundary=Orthogonalise(iterations=3)),
    source="arXiv 2505.23735, equations 32 and 33, once a chunk as arXiv 2505.23884 does",
)
"""Momentum orthogonalised by Newton-Schulz iterations where a chunk ends.

A chunk's tokens are written and read as by ``titans``. When the next chunk opens, what the
chunk's momentum has added to each matrix, A, gives way to the nearest multiple of its
orthogonalisation (:class:`~titans_seq.ops.rules.boundary.Orthogonalise`); what forgetting has left
of the chunk's first weights, and the momentum itself, stay. With chunks of one token that is
equation 32 but for the size. Chosen here: ATLAS orthogonalises the momentum of every token,
which takes a matrix a token, LaCT a whole chunk's sum, which this follows; the size of what
stays is that of A, where ATLAS has one more rate and LaCT normalises the weights; three
iterations, where both papers take five, with which recall was no better and gradients through
a linear memory grew from 0.03 to 2,700 over 2,048 tokens (0.1 with three); no window, no
polynomial features. Equations are cited from accounts of the papers and were not compared
with the papers themselves.
"""

RULES: dict[str, LearningRule] = {
    rule.name: rule for rule in (TITANS, TITANS_EXACT, TTT, GATED_DELTA, YAAD, MONETA, OMEGA, MUON)
}
"""Every rule that ``rule=`` of a layer may name."""


def find_rule(rule: str | LearningRule) -> LearningRule:
    """Return a rule by its name; a rule of one's own passes through.

    Raises
    ------
    ConfigError
        If no rule has that name; the nearest one is named.
    """
    if isinstance(rule, LearningRule):
        return rule
    if rule not in RULES:
        raise unknown_key_error(rule, RULES, "rule")
    return RULES[rule]


def check_depth(rule: LearningRule, depth: int) -> None:
    """Refuse a depth that the rule cannot have.

    Raises
    ------
    ConfigError
        If ``depth`` is not 1 to 4, or the rule is for linear memory and ``depth`` is not 1.
    """
    if not 1 <= depth <= 4:
        raise ConfigError(f"depth={depth}: a memory has 1 to 4 layers")
    if rule.update.gradient_point == "token" and depth != 1:
        raise ConfigError(
            f"rule {rule.name!r} takes the gradient at every token, which only a linear memory "
            f"can: depth={depth} must be 1"
        )
