"""What enters each recurrent layer of a live torch model when it runs once on real inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack

import numpy as np

from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.containers.torch_files import to_numpy
from ssm_analysis.checkpoint.loading import FoundLayers, find_layers
from ssm_analysis.checkpoint.precision import lift
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.families.shared.layouts import REVERSE, renamed

SIGNALS = ("hidden_states", "input_states", "activations", "x", "u", "inputs", "input", "signal")
"""Names under which modules are called with the signal where they are called by name."""
CONTAINERS = ("ParameterDict", "ParameterList", "ModuleDict", "ModuleList")
"""Of torch; they hold the tensors of a layer and never run, so that the module around them is watched."""


def capture(
    module: Any,
    inputs: Any,
    *,
    document: int | None = None,
    call: int | None = None,
    **read: Unpack[ReadKeywords],
) -> dict[str, np.ndarray]:
    """Return u (L, d_model) of every recurrent layer that runs, by the names that `load` gives: ``layer.along(captured[name])``.

    The model runs once, without gradients and in evaluation mode, and is left as it was; caches that it fills on the way are emptied.
    It should read whole documents: ``layer.along`` knows of no padding in front, and of no other document in the same sequence.

    Parameters
    ----------
    module
        A live torch.nn.Module, as for `load`.
    inputs
        What it is called with: a tensor, a tuple of positional arguments, or a mapping of named ones
        (``tokenizer(text, return_tensors="pt")``).
    document
        Which entry of the batch. None: there is only one.
    call
        Which call of a layer that runs several times, as those that are shared. None: each runs once.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``; see `ReadOptions`.

    Returns
    -------
    dict
        Signals in 64 bits, in depth order; those of the reverse half of a bidirectional layer in the order in which it reads.
        Layers that did not run are left out.

    Raises
    ------
    TypeError
        If ``module`` is not a torch.nn.Module.
    ValueError
        If the batch has several documents or a layer runs several times and nothing says which, or no layer runs.
    CheckpointError
        As `load`.

    Examples
    --------
    >>> import torch, ssm_analysis as ssm
    >>> from transformers import MambaConfig, MambaModel
    >>> model = MambaModel(MambaConfig(hidden_size=8, state_size=4, num_hidden_layers=2, vocab_size=16))
    >>> {name: u.shape for name, u in ssm.capture(model, torch.arange(5)[None]).items()}
    {'layers.0.mixer': (5, 8), 'layers.1.mixer': (5, 8)}
    """
    if not is_module(module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}; files hold weights, which do not run")
    with find_layers(module, ReadOptions(**read)) as found:
        names = {group.prefix: _names(found, group) for group in found.groups}

    def run() -> None:
        if isinstance(inputs, Mapping):
            module(**inputs)
        else:
            module(*(inputs if isinstance(inputs, tuple) else (inputs,)))

    captured: dict[str, np.ndarray] = {}
    for prefix, signals in signals_during(run, module, list(names)).items():
        if signals:
            u = _chosen(signals, call, f"runs of layer {names[prefix][0]!r}:", "call")
            u = _chosen(u, document, "documents in the batch:", "document")
            captured |= {name: np.flip(u, 0).copy() if name.endswith(REVERSE) else u for name in names[prefix]}
    if not captured:
        raise ValueError(f"none of the {len(names)} recurrent layers ran on these inputs")
    return captured


def signals_during(run: Callable[[], object], module: Any, prefixes: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Return the signals (documents, L, d_model) that enter the modules below ``module`` at ``prefixes`` while it runs, call by call."""
    import torch

    calls: dict[str, list[np.ndarray]] = {prefix: [] for prefix in prefixes}
    handles = []
    try:
        for prefix in prefixes:

            def keep(part: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], prefix: str = prefix) -> None:
                calls[prefix].append(_signal(part, arguments, named))

            handles.append(_that_runs(module, prefix).register_forward_pre_hook(keep, with_kwargs=True))
        with torch.no_grad(), left_as_it_was(module):
            module.eval()
            run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def left_as_it_was(module: Any) -> Iterator[None]:
    """Put back whatever attributes and buffers a run sets in the module and its parts, among them the mode, are put back behind it."""
    parts = list(module.modules())
    attributes, buffers = [dict(vars(part)) for part in parts], [dict(part._buffers) for part in parts]
    try:
        yield
    finally:
        for part, before, tensors in zip(parts, attributes, buffers, strict=True):
            vars(part).clear()
            vars(part).update(before)
            part._buffers.clear()
            part._buffers.update(tensors)


def _names(found: FoundLayers, group: Group) -> list[str]:
    """Return the names of the one or two layers of a group; where the tensors are the parameters there is one, and billions of them stay
    unread."""
    return [group.name] if group.layout.decode is renamed else [layer.name for layer in found.read(group)]


def _that_runs(module: Any, prefix: str) -> Any:
    """Return the module at the prefix, or the nearest around it that is called as a function."""
    path = [name for name in prefix.split(".") if name]
    while path and type(module.get_submodule(".".join(path))).__name__ in CONTAINERS:
        path.pop()
    return module.get_submodule(".".join(path))


def _signal(part: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> np.ndarray:
    """Return the signal with the documents first and the features last."""
    x = arguments[0] if arguments else next((named[name] for name in SIGNALS if name in named), None)
    if x is None:
        raise ValueError(f"{type(part).__name__} is called without a signal that is known by name, got {', '.join(named) or 'nothing'}")
    u = lift(to_numpy(x))
    if u.ndim == 2:
        u = u[None]
    return np.moveaxis(u, -1, -2) if getattr(part, "transposed", False) else u  # state-spaces/s4: (documents, features, L)


def _chosen(entries: Sequence[np.ndarray] | np.ndarray, index: int | None, what: str, argument: str) -> np.ndarray:
    """Return the only one of several entries, or the one that was asked for."""
    if index is None and len(entries) > 1:
        raise ValueError(f"{what} {len(entries)}; say which, {argument}=0, ..., {len(entries) - 1}")
    if index is not None and not 0 <= index < len(entries):
        raise ValueError(f"{what} {len(entries)}; {argument} must lie between 0 and {len(entries) - 1}, got {index}")
    return entries[index or 0]
