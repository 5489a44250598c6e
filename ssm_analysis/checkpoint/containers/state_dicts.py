"""Which part of what a training program saved is the weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssm_analysis.checkpoint.containers.trees import DEEPEST, OPTIMIZER, left_out
from ssm_analysis.checkpoint.store import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "params", "net", "network", "weights")
"""Keys under which training programs put the weights, the first that holds tensors wins. Lightning: state_dict; DeepSpeed: module."""
BOOKKEEPING = OPTIMIZER | {"callbacks", "loops", "rng_state", "rng_states", "hyper_parameters", "datamodule_hyper_parameters"}
MOST_LEVELS = 5
"""Wrappers within wrappers."""
MOST_LOOKED_AT = 10_000
"""Values in search of a tensor; what holds one holds it early."""
MOST_MODULES = 100_000


def select_weights(tree: Any, is_tensor: Callable[[Any], bool], *, path: str | Path = "") -> tuple[Any, tuple[str, ...]]:
    """Return the state dict inside what was saved, and in words what else held tensors; module objects become their state dicts."""
    problems: tuple[str, ...] = ()
    for _ in range(MOST_LEVELS):
        tree = _module_state(tree, path)
        if not isinstance(tree, Mapping) or any(is_tensor(value) and value.shape for value in tree.values()):
            break  # scalars may be a loss or a step
        nested = {key: value for key, value in tree.items() if key not in BOOKKEEPING and not is_tensor(value)}
        holders = {key: value for key, value in nested.items() if _holds(value, is_tensor)}
        chosen = _wrapper(holders, is_tensor, alone=len(tree) > 1)
        if chosen is None:
            break
        beside = [str(key) for key in holders if key != chosen]
        problems += left_out(f"weights beside {chosen!r}; to read these pass them themselves", beside)
        tree = holders[chosen]
    if isinstance(tree, Mapping):
        tree = {key: value for key, value in tree.items() if key not in BOOKKEEPING or is_tensor(value)}
    return tree, problems


def _wrapper(holders: Mapping[Any, Any], is_tensor: Callable[[Any], bool], *, alone: bool) -> Any:
    """Return the key of the weights; None where every key is a part of one tree."""
    for key in WRAPPERS:
        value = holders.get(key)
        if _is_module(value):
            return key
        if isinstance(value, Mapping) and (any(is_tensor(x) for x in value.values()) or any(inner in value for inner in WRAPPERS)):
            return key
    return next(iter(holders)) if alone and len(holders) == 1 else None


def _holds(value: Any, is_tensor: Callable[[Any], bool]) -> bool:
    """Return whether there is a tensor somewhere near the top of it."""
    waiting, looked_at = [value], 0
    while waiting and looked_at < MOST_LOOKED_AT:
        node = waiting.pop()
        looked_at += 1
        if is_tensor(node):
            return True
        state = getattr(node, "__dict__", {})
        if isinstance(node, Mapping):
            waiting += [*state.values()][:MOST_LOOKED_AT] + [*node.values()][:MOST_LOOKED_AT]
        elif isinstance(node, list | tuple):
            waiting += node[:MOST_LOOKED_AT]
    return False


def _module_state(tree: Any, path: str | Path) -> Any:
    """Return the state dict of a pickled torch.nn.Module, whose stand-in has its attributes; anything else as it is."""
    if not _is_module(tree):
        return tree
    result: dict[str, Any] = {}
    waiting = [("", 0, tree)]
    modules = 0
    while waiting:
        prefix, depth, module = waiting.pop()
        modules += 1
        if modules > MOST_MODULES or depth > DEEPEST:
            raise CheckpointError(f"is a module of more than {MOST_MODULES:,} parts or {DEEPEST} levels; save its state_dict()", path=path)
        state = vars(module)
        temporary = state.get("_non_persistent_buffers_set", ())
        for name, x in [*state["_parameters"].items(), *state["_buffers"].items()]:
            if x is not None and name not in temporary:
                result[f"{prefix}{name}"] = x
        waiting += reversed([(f"{prefix}{name}.", depth + 1, child) for name, child in state["_modules"].items() if _is_module(child)])
    return result


def _is_module(x: Any) -> bool:
    state = getattr(x, "__dict__", {})
    return all(isinstance(state.get(kind), Mapping) for kind in ("_parameters", "_buffers", "_modules"))
