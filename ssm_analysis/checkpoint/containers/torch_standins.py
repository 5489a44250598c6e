"""Classes that a torch file names and torch does not know, replaced by containers that run nothing.

Training programs pickle their configuration beside the weights (a Hydra configuration, a namespace, a dataclass), and torch then refuses
the whole file. Here each such name gets a class of ours that keeps what is stored and has no behavior. Nothing is ever imported.
"""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # torch renames the names of Python 2 by these tables
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.trees import DEEPEST

ATTACKS = frozenset({
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "ctypes", "importlib", "runpy", "pty", "webbrowser", "pickle",
    "marshal", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.open", "builtins.__import__", "builtins.bytearray",
})  # fmt: skip
"""Modules and functions that no honest checkpoint names; a file that does is refused, though nothing of it would run.
bytearray because torch itself calls it, with any size that the file says."""
UNDERSTOOD = ("argparse.Namespace", "omegaconf.", "typing.", "collections.", "pathlib.", "builtins.", "numpy.", "torch.nn.modules.")
"""Prefixes of names whose contents ``plain`` gives in full."""
MOST_VALUES = 100_000
"""Of a configuration; Hydra's largest have thousands."""
PROTOCOL = 2
"""torch.serialization.DEFAULT_PROTOCOL."""
NUMPY_CODES = ("f4", "f8", "i4", "i8", "b1")
NAME, ARGUMENTS, SET_STATE = "_stands_for", "_arguments", "__setstate__"
OURS = frozenset((NAME, ARGUMENTS, SET_STATE))
"""Attributes of what a stand-in makes."""


def named_globals(pickle: Any) -> set[str]:
    """Return classes and functions that one pickle in a binary file names, as torch's own unpickler reads them; the file then stands
    after it."""
    names = set()
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.proto > PROTOCOL:
            raise ValueError(
                f"it is of protocol {opcode.proto}, and torch reads up to {PROTOCOL} without running code; save it without pickle_protocol"
            )
        if opcode.name == "GLOBAL":
            names.add(_renamed(str(argument)))
    return names


def attacks(names: set[str]) -> list[str]:
    """Return those of the names that serve to take over a computer."""
    return sorted(name for name in names if name in ATTACKS or name.partition(".")[0] in ATTACKS)


def stand_in(name: str, met: set[str]) -> type:
    """Return stands for a class or function: calls give what keeps arguments, items and state, and add the name to ``met``.

    torch's unpickler sets items of dictionaries and ``Counter`` only, and gives a state to what has ``__setstate__``; of these a Counter
    alone can have such an attribute.
    """

    def new(cls: type, *arguments: Any) -> Counter[Any]:
        met.add(name)
        result: Counter[Any] = Counter()
        vars(result).update({NAME: name, ARGUMENTS: arguments, SET_STATE: partial(_keep, vars(result))})
        return result

    return type("StandIn", (), {"__new__": new, NAME: name})


def list_stand_in(name: str, met: set[str]) -> type:
    """Return stands for a class whose instances are appended to, which torch's unpickler does to lists only: calls give an empty one."""

    def new(cls: type, *_: Any) -> list[Any]:
        met.add(name)
        return []

    return type("StandIn", (), {"__new__": new, NAME: name})


def _keep(attributes: dict[str, Any], state: Any) -> None:
    """Keep the state of an object, (attributes, slots) if it has both, becomes its attributes."""
    for part in state if isinstance(state, tuple) else (state,):
        attributes.update({k: v for k, v in part.items() if k not in OURS} if isinstance(part, dict) else {})


def plain(value: Any) -> Any:
    """Return dictionaries, lists, numbers and strings only; what is none of these becomes its text."""
    return _plain(value, iter(range(MOST_VALUES)), 0)


def _plain(value: Any, budget: Iterator[int], depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > DEEPEST or next(budget, None) is None:
        return "..."
    if isinstance(value, type):
        return getattr(value, NAME, value.__qualname__)
    state = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in OURS}
    for wrapped in ("_content", "_val"):  # how OmegaConf stores a container and a leaf; the rest of its state leads back to the parent
        if wrapped in state:
            return _plain(state[wrapped], budget, depth + 1)
    name = getattr(value, NAME, None)
    if isinstance(value, Mapping) and (value or not (name or state)):
        return {str(k): _plain(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, budget, depth + 1) for item in value]
    if name is None:
        shape = getattr(value, "shape", None)
        return str(value) if shape is None else f"tensor of shape {tuple(shape)}"
    arguments = getattr(value, ARGUMENTS, ())
    if name.startswith("numpy.") and name.endswith(".scalar"):
        return _numpy_scalar(arguments)
    if arguments and not state:
        return f"{name}({', '.join(str(_plain(x, budget, depth + 1)) for x in arguments)})"
    return {str(k): _plain(v, budget, depth + 1) for k, v in state.items()}


def _numpy_scalar(arguments: Any) -> Any:
    """Return the number in numpy.core.multiarray.scalar(dtype(code), bytes)."""
    match arguments:
        case (dtype, bytes(data)):
            code = str(next(iter(getattr(dtype, ARGUMENTS, ())), ""))
            if code in NUMPY_CODES and len(data) == np.dtype(code).itemsize:
                return np.frombuffer(data, dtype=f"<{code}")[0].item()
    return "numpy scalar"


def _renamed(argument: str) -> str:
    module, name = argument.split(" ", 1)
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
