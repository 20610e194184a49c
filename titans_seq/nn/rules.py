"""Learning rules by name: what a memory does with a token, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from titans_seq.config import unknown_key_error
from titans_seq.exceptions import ConfigError
from titans_seq.ops.rule import UpdateRule


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


RULES: dict[str, LearningRule] = {
    rule.name: rule
    for rule in (
        LearningRule(
            name="titans",
            update=UpdateRule(),
            source="arXiv 2501.00663, equations 13 to 18: any depth, gradient at the chunk's "
            "start; triangular step, forgetting towards the learned start",
        ),
        LearningRule(
            name="titans-exact",
            update=UpdateRule(gradient_point="token"),
            source="arXiv 2501.00663, equation 14 as written: linear memory, gradient at every "
            "token",
        ),
        LearningRule(
            name="ttt",
            update=UpdateRule(schedule="mean", step="raw", activation="gelu", residual_norm=True),
            momentum=False,
            forgetting=False,
            source="arXiv 2407.04620: TTT-Linear (depth 1) and TTT-MLP (depth 2)",
        ),
        LearningRule(
            name="gated-delta",
            update=UpdateRule(gradient_point="token", forget_to="zero", decay_first=True),
            momentum=False,
            source="arXiv 2412.06464",
        ),
    )
}


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
