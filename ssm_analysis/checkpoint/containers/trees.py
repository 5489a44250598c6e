"""Names of the tensors in a nested tree of mappings and lists."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ssm_analysis.checkpoint.store import CheckpointError, few

MOST_NAMES = 1_000_000
"""Ten times as many as the largest published models; a tree that refers to itself reaches it, a model does not."""
MOST_CHARACTERS = 100_000_000
"""Of all names together: 1,000 for each of 100,000 tensors."""
DEEPEST = 100
"""Levels; models nest a dozen."""
OPTIMIZER = frozenset({
    "opt_state", "opt_states", "optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict",
    "optim", "optim_state_dict", "scheduler", "lr_scheduler", "lr_schedulers", "scheduler_state_dict", "scaler",
    "grad_scaler", "amp", "amp_state", "amp_scaling_state",
})  # fmt: skip
"""What training programs store beside the weights: arrays with the names of weights that are none."""


def flatten(tree: Any, *, is_leaf: Callable[[Any], bool], path: str | Path = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return leaves by name, levels joined by "/"; and in words what of the tree was left out.

    States of optimizers are left out where they lie beside "params".

    Raises
    ------
    CheckpointError
        If two leaves have one name, or the tree is too deep or too large to be a model.
    """
    leaves: dict[str, Any] = {}
    others: list[str] = []
    optimizers: list[str] = []
    waiting: list[tuple[str, int, Any]] = [("", 0, tree)]
    budget = _Budget(path)
    while waiting:
        name, depth, node = waiting.pop()
        if is_leaf(node):
            if name in leaves:
                raise CheckpointError("is the name of two different tensors", path=path, tensor=name)
            leaves[name] = node
        elif isinstance(node, Mapping | list | tuple):
            budget.spend(len(node), len(name), depth)
            children = node if isinstance(node, Mapping) else {str(i): child for i, child in enumerate(node)}
            skip = OPTIMIZER if "params" in children else frozenset()
            named = [(f"{name}/{_text(key)}" if depth else _text(key), key, child) for key, child in children.items()]
            optimizers += [child_name for child_name, key, _ in named if key in skip]
            waiting += reversed([(child_name, depth + 1, child) for child_name, key, child in named if key not in skip])
        elif node is not None:
            others.append(name)
    return leaves, (*left_out("states of an optimizer", optimizers), *left_out("not tensors", others))


def left_out(why: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return one problem that names the first few; none for none."""
    names = list(names)
    return (f"left out, {why}: {few(names)}",) if names else ()


class _Budget:
    """Stops a tree that refers to itself, or repeats a long name, before it fills the memory."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.names = MOST_NAMES
        self.characters = MOST_CHARACTERS

    def spend(self, children: int, prefix: int, depth: int) -> None:
        self.names -= children
        self.characters -= children * prefix
        if self.names < 0 or self.characters < 0 or depth > DEEPEST:
            raise CheckpointError(
                f"is nested more than {DEEPEST} levels deep, or has more than {MOST_NAMES:,} entries or names of absurd length: "
                "not a tree of weights",
                path=self.path,
            )


def _text(key: Any) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
