"""Evaluate Ray's label selectors before actors are placed.

A selector maps the names of node labels to conditions. A condition is a value, as in `{"group": "rollout"}`,
or has an operator: `"!spot"`, `"in(A100,H100)"`, `"!in(us-east,us-west)"`. A node without the label matches
the negated forms.
"""

from collections.abc import Mapping


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with `labels` matches every condition of `selector`."""
    return all(_meets(condition, labels.get(name)) for name, condition in selector.items())


def on_nodes(selector: Mapping[str, str]) -> str:
    """Format the selector as part of a sentence; empty if it matches any node."""
    conditions = ", ".join(f"{name}={condition}" for name, condition in sorted(selector.items()))
    return f" on nodes labelled {conditions}" if conditions else ""


def _meets(condition: str, value: str | None) -> bool:
    wanted = condition.removeprefix("!")
    if wanted.startswith("in("):
        allowed = {choice.strip() for choice in wanted.removeprefix("in(").removesuffix(")").split(",")}
    else:
        allowed = {wanted}
    return (value in allowed) != condition.startswith("!")
